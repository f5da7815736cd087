"""What datamover does, in half a minute: `make demo`.

Starts a web server with a few files, an SFTP server that plays the map visualiser, and datamover with its own
PostgreSQL; asks for files as any program would, over XML-RPC; compares what arrived; stops everything.
"""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

HERE = Path(__file__).parent
TWISTD = Path(sys.executable).with_name("twistd")
PATIENCE = 60.0
"""Seconds that anything here may take."""
BIG = 48_000_000
SMALL = {"species.csv": 1_000_000, "places.csv": 2_500_000, "empty.csv": 0}


def main() -> int:
    """Run the demonstration; return the exit status."""
    # Its own PostgreSQL runs as another user where this one is root, so others must be able to enter.
    directory = Path(tempfile.mkdtemp(prefix="datamover-demo-"))
    directory.chmod(0o755)
    try:
        make_files(directory / "web")
        with servers(directory) as ports, datamover(directory, ports) as url:
            return demonstrate(directory, ServerProxy(url), f"http://127.0.0.1:{ports['web']}", url)
    finally:
        shutil.rmtree(directory)


def demonstrate(directory: Path, mover: Any, web: str, url: str) -> int:
    """Ask for files and look at what arrives."""
    print(f"datamover answers at {url}\n")

    print(f">>> mover = ServerProxy({url!r})")
    print(f">>> mover.move('{web}/climate.tif', 'scp://visualiser/datasets/')")
    answer = mover.move(f"{web}/climate.tif", "scp://visualiser/datasets/")
    print(answer)
    follow(mover, answer["id"])
    print(f">>> mover.checkMoveStatus({answer['id']})")
    print(mover.checkMoveStatus(answer["id"]), "\n")

    request = {
        "label": "demo",
        "files": [
            {"source": f"{web}/{name}", "destination": "visualiser", "path": f"species/{number}/"}
            for number, name in enumerate(SMALL)
        ],
    }
    print(">>> mover.jobs.submit(" + json.dumps(request, ensure_ascii=False, indent=2) + ")")
    submitted = mover.jobs.submit(request)
    print(submitted)
    follow(mover, submitted["id"])

    placed = {"climate.tif": "datasets/climate.tif"}
    placed |= {name: f"species/{number}/{name}" for number, name in enumerate(SMALL)}
    print("What is at the web server, and what is at the visualiser (sha256):")
    right = True
    for name, path in placed.items():
        here, there = digest(directory / "web" / name), digest(directory / "visualiser" / path)
        right = right and here == there
        print(f"  {here[:16]}…  {there[:16]}…  {'same' if here == there else 'DIFFERENT'}  {path}")

    print(
        "\nEverything arrived whole." if right else "\nSomething is wrong: the digests above differ.",
        "Everything started here is stopped again.\n\n"
        "Next: `make run` starts the service for you, with a destination 'local' of this machine;\n"
        "etc/datamover.toml shows how to name your own; docs/api.md has every call.",
        sep="\n",
    )
    return 0 if right else 1


def follow(mover: Any, job: int) -> None:
    """Show a job's progress until it ends."""
    deadline = time.monotonic() + PATIENCE
    last = ""
    while True:
        told = mover.jobs.wait(job, 0.25)
        done, total = told["bytes_done"], told.get("bytes_total")
        share = f"{done / total:4.0%}" if total else "    "
        files = f"{told['files_completed']} of {told['files_total']} files"
        error = told.get("error", {}).get("message", "")
        line = f"  job {job}: {told['status']:<11} {share} {done / 1e6:6.1f} MB  {files}  {error}".rstrip()
        if line != last:
            print(line)
            last = line
        if told["status"] in ("COMPLETED", "PARTIAL", "FAILED", "CANCELLED"):
            print()
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"job {job} takes longer than {PATIENCE:.0f} s: {told}")


def make_files(directory: Path) -> None:
    directory.mkdir()
    for name, size in {"climate.tif": BIG, **SMALL}.items():
        (directory / name).write_bytes(os.urandom(size))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "not there"


@contextlib.contextmanager
def servers(directory: Path) -> Iterator[dict[str, int]]:
    """Run the web server and the SFTP server; yield their ports."""
    command = [sys.executable, str(HERE / "servers.py"), str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE)


@contextlib.contextmanager
def datamover(directory: Path, ports: dict[str, int]) -> Iterator[str]:
    """Run the service, configured for the two servers; yield its URL."""
    port = free_port()
    configuration = directory / "datamover.toml"
    configuration.write_text(f"""\
[service]
listen = ["tcp:{port}:interface=127.0.0.1"]
data_directory = "{directory}/data"

[destinations.visualiser]
description = "Datasets for the map visualiser"
url = "sftp://{ports["user"]}@127.0.0.1:{ports["ssh"]}{directory}/visualiser"
private_key_file = "{directory}/id_ed25519"
known_hosts_file = "{directory}/known_hosts"

[sources]
allow = ["http://127.0.0.1:{ports["web"]}/"]
""")
    log = directory / "datamover.log"
    command = [str(TWISTD), "-n", "--pidfile=", f"--logfile={log}", "datamover", "--config", str(configuration)]
    print(f"Starting {' '.join(command[:2])} datamover --config datamover.toml, with a PostgreSQL of its own …")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory)
    try:
        url = f"http://127.0.0.1:{port}/data_mover"
        wait_until_ready(process, url, log)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            mover: Any = ServerProxy(url)
            if mover.service.status()["ready"]:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise SystemExit(f"datamover does not start; its log says:\n{log.read_text() if log.exists() else ''}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main())
