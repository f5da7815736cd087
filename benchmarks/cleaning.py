"""Clean two million occurrence records, by datamover, by plain ``csv`` and by csvkit: rows a second and peak memory.

    python benchmarks/cleaning.py [--rows 2000000] [--csvcut PATH]

Each way reads the same records and writes the same seven columns, in a separate process. datamover also unpacks, checks
every location and flag, and computes the digest; plain ``csv`` unpacks; csvkit (``csvcut``, if it is installed) reads
the unpacked file. Memory is the process's peak resident set; "above idle" subtracts that of an interpreter that only
imports the same modules.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from datamover.datasets.ala.section import COLUMNS, GOOD_FLAGS

WANTED = (
    "scientificName",
    "decimalLongitude",
    "decimalLatitude",
    "coordinateUncertaintyInMeters",
    "eventDate",
    "year",
    "month",
)
HEADER = (*WANTED[1:], "speciesID", WANTED[0])
FLAGS = tuple(f"Assertion {number}" for number in range(12))
GUID = "urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae"

PLAIN = """
import csv, io, sys, zipfile
archive, output = sys.argv[1:3]
with zipfile.ZipFile(archive) as zip, zip.open("data.csv") as raw, open(output, "w", newline="") as file:
    rows = csv.DictReader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
    names = {names!r}
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in rows)
"""
PLAINEST = """
import csv, io, sys, zipfile
archive, output = sys.argv[1:3]
with zipfile.ZipFile(archive) as zip, zip.open("data.csv") as raw, open(output, "w", newline="") as file:
    rows = csv.reader(io.TextIOWrapper(raw, "utf-8-sig", newline=""))
    header = next(rows)
    indexes = [header.index(name) for name in {names!r}]
    writer = csv.writer(file)
    writer.writerow([header[index] for index in indexes])
    writer.writerows([row[index] for index in indexes] for row in rows)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The figures of one way."""

    name: str
    seconds: float
    peak: int
    """Bytes."""
    written: int
    """Bytes."""


def write_records(directory: Path, rows: int) -> tuple[Path, Path]:
    """Write the records, as the Atlas does, to a CSV and to a zip of it; return both paths."""
    plain, packed = directory / "data.csv", directory / "data.zip"
    chance = random.Random(20261124)
    with plain.open("w", encoding="utf-8") as file:
        file.write(",".join(f'"{name}"' for name in (*HEADER, *FLAGS)) + "\n")
        for number in range(rows):
            longitude = "" if number % 50 == 0 else f"{chance.uniform(110, 155):.6f}"
            values = (longitude, f"{chance.uniform(-44, -10):.6f}", "100.0", "2012-03-04", "2012", "03", GUID)
            flags = ['"false"'] * len(FLAGS)
            if number % 40 == 0:
                flags[number % len(FLAGS)] = '"true"'
            file.write(",".join(f'"{value}"' for value in (*values, "Macropus rufus")) + f",{','.join(flags)}\n")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain, "data.csv")
    return plain, packed


def measured(name: str, command: list[str], output: Path, *, given: bytes = b"", piped: bool = False) -> Run:
    """Run a command to its end; with ``piped`` its standard output goes to the output file."""
    start = time.perf_counter()
    with output.with_suffix(".log").open("wb") as log, (output if piped else Path(os.devnull)).open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=log)
        assert process.stdin is not None
        with process.stdin as stdin:
            stdin.write(given)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{name} failed: {output.with_suffix('.log').read_text()[-500:]}")
    return Run(name, time.perf_counter() - start, peak, output.stat().st_size)


def resident(pid: int) -> int:
    """Return the peak resident set of a running process, in bytes; 0 if it has ended.

    The figure of wait4 would include the parent's memory at the fork.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=2_000_000)
    options.add_argument("--csvcut", default=shutil.which("csvcut"), help="csvkit's program [default: the one on PATH]")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="datamover-bench-") as name:
        directory = Path(name)
        plain, packed = write_records(directory, asked.rows)
        output = directory / "out.csv"
        request = {
            "archive": str(packed),
            "output": str(output),
            "headers": dict(COLUMNS),
            "good_flags": list(GOOD_FLAGS),
            "max_unpacked": 20 * 10**9,
            "max_ratio": 200,
        }
        idle = measured(
            "idle",
            [
                sys.executable,
                "-c",
                f"import datamover.datasets.ala.clean as c, time; time.sleep(0.3); open({str(output)!r}, 'w')",
            ],
            output,
        )
        cleaner = [sys.executable, "-m", "datamover.datasets.ala.clean"]
        python = [sys.executable, "-c"]
        files = [str(packed), str(output)]
        runs = [
            measured("datamover: unpack, clean, digest", cleaner, output, given=json.dumps(request).encode("utf-8")),
            measured("csv.reader: unpack, 7 columns", [*python, PLAINEST.format(names=WANTED), *files], output),
            measured("csv.DictReader: unpack, 7 columns", [*python, PLAIN.format(names=WANTED), *files], output),
        ]
        if asked.csvcut:
            command = [asked.csvcut, "-c", ",".join(WANTED), str(plain)]
            runs.append(measured("csvkit's csvcut: 7 columns", command, output, piped=True))
        sizes = f"{plain.stat().st_size / 1e6:,.0f} MB, zipped {packed.stat().st_size / 1e6:,.0f} MB"
        print(f"{asked.rows:,} rows of {len(HEADER) + len(FLAGS)} columns, {sizes}")
        print(f"{'':36}{'seconds':>9}{'rows/s':>11}{'peak MB':>9}{'above idle':>12}{'written MB':>12}")
        for run in runs:
            print(
                f"{run.name:36}{run.seconds:9.1f}{asked.rows / run.seconds:11,.0f}{run.peak / 1e6:9.0f}"
                f"{(run.peak - idle.peak) / 1e6:12.0f}{run.written / 1e6:12.0f}"
            )


if __name__ == "__main__":
    main()
