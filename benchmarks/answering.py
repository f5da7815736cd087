"""Measure the latency of ``jobs.status``, and the memory, while a dataset of two million rows is cleaned.

    python -m benchmarks.answering [--rows 2000000]

It runs a whole service, a fake Atlas on a socket, and one client that calls again as soon as it is answered. The
latencies are of calls made while the stage is "cleaning", and of the idle service.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.python.failure import Failure

from benchmarks.cleaning import write_records
from tests.servers.ala import EMAIL, LSID, FakeAla
from tests.servers.service import Service

reactor: Any = _reactor

IDLE_CALLS = 500


def measure(directory: Path, ala: FakeAla, rows: int) -> None:
    """Run the measurement in a thread, while the reactor serves the fake Atlas."""
    _, packed = write_records(directory, rows)
    ala.archive = packed.read_bytes()
    tables = f"""
[destinations.archive]
url = "file://{directory}/archive"
[ala]
destination = "archive"
occurrences_url = "{ala.occurrences_url}"
species_url = "{ala.species_url}"
email = "{EMAIL}"
poll_interval = "200ms"
"""
    service = Service(directory, tables)
    service.start()
    try:
        mover = service.proxy
        idle = [timed(lambda: mover.jobs.list({}))[0] for _ in range(IDLE_CALLS)]
        before = service.memory()
        job = mover.pullOccurrenceFromALA(LSID)["id"]
        busy: list[float] = []
        while True:
            seconds, status = timed(lambda: mover.jobs.status(job))
            if status["status"] in ("COMPLETED", "FAILED"):
                break
            if status.get("stage", "").startswith("cleaning"):
                busy.append(seconds)
        print(f"{rows} rows: {status['status']}")
        for name, figures in (("idle", idle), ("cleaning", busy)):
            cuts = statistics.quantiles(figures, n=100)
            print(
                f"{name:<10} {len(figures):6} calls   median {1000 * cuts[49]:6.1f} ms   "
                f"99th percentile {1000 * cuts[98]:6.1f} ms   slowest {1000 * max(figures):6.1f} ms"
            )
        print(f"the service's peak memory: {before / 1e6:.0f} MB before, {service.memory() / 1e6:.0f} MB after")
    finally:
        service.stop()


def timed(call: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=2_000_000)
    rows = options.parse_args().rows

    def work() -> None:
        with tempfile.TemporaryDirectory(prefix="datamover-bench-") as name:
            directory = Path(name)
            directory.chmod(0o755)
            ala = FakeAla(reactor)
            ala.know(LSID)
            blockingCallFromThread(reactor, ensureDeferred, ala.start())  # type: ignore[arg-type]
            try:
                measure(directory, ala, rows)
            finally:
                blockingCallFromThread(reactor, ensureDeferred, ala.stop())  # type: ignore[arg-type]

    def begin() -> None:
        deferToThread(work).addErrback(Failure.printTraceback).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()


if __name__ == "__main__":
    main()
