"""Measure datamover and the tools that one would use instead, and print the table.

    python -m benchmarks [ROW…] [--rounds 5] [--part 1.0] [--list] [--draw FILE.svg] [--table]

Without a name every row is run. ``--part 0.05`` does a twentieth of the work, to check that everything runs; such
figures are not comparable. The results are stored in benchmarks/results/, one file a row; ``--draw`` and ``--table``
show the stored results.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks import buckets, calls, dav, ftp, handover, memory, moving, polite, stored
from benchmarks.drawing import draw
from benchmarks.results import Result, load, save, table, this_machine
from benchmarks.scale import Scale

ROWS: Mapping[str, Callable[[Scale], Result]] = {
    "sftp-get": partial(moving.get, far=False),
    "sftp-put": partial(moving.put, far=False),
    "sftp-get-far": partial(moving.get, far=True),
    "sftp-put-far": partial(moving.put, far=True),
    "http-get": moving.http_get,
    "http-sftp": moving.http_put,
    "dav-put": dav.put,
    "dav-get": dav.get,
    "small-local": partial(moving.small, remote=False),
    "small-sftp": partial(moving.small, remote=True),
    "ftp-get": partial(ftp.get, secure=False),
    "ftp-put": partial(ftp.put, secure=False),
    "ftps-get": partial(ftp.get, secure=True),
    "ftps-put": partial(ftp.put, secure=True),
    "s3-put": partial(buckets.put, far=False),
    "s3-get": partial(buckets.get, far=False),
    "s3-get-parts": partial(buckets.get, far=False, in_parts=True),
    "s3-put-far": partial(buckets.put, far=True),
    "s3-get-far": partial(buckets.get, far=True),
    "small-s3": buckets.small,
    "submit": calls.submit,
    "submit-many": calls.submit_many,
    "stored-status": stored.status,
    "stored-start": stored.start,
    "polite": polite.polite,
    "memory": memory.memory,
    "crowd": memory.crowd,
    "killed": handover.killed,
    "drained": handover.drained,
    "cancelled": handover.cancelled,
}


def main() -> None:
    """Run the rows that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", metavar="ROW", nargs="*", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5, help="turns of every way")
    parser.add_argument("--part", type=float, default=1.0, help="share of the full work")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--table", action="store_true", help="print what was measured last")
    parser.add_argument("--draw", type=Path, metavar="FILE.svg", help="draw what was measured last")
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if options.list:
        print("\n".join(ROWS))
        return
    if options.table or options.draw:
        results, machine = load()
        results.sort(key=lambda result: list(ROWS).index(result.row))
        if options.table:
            print(table(results))
        if options.draw:
            options.draw.write_text(draw(results, machine))
        return
    scale, machine, results = Scale(options.part, options.rounds), this_machine(), []
    for name in options.rows or ROWS:
        print(f"{name}…", file=sys.stderr)
        results.append(ROWS[name](scale))
        save(results[-1], machine)
        print(table(results[-1:]), flush=True)
    if len(results) > 1:
        print(f"\n{machine}\n{table(results)}")


if __name__ == "__main__":
    main()
