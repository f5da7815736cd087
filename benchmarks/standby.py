"""Measure the cost of a standby for submissions: rate and latency of ``jobs.submit``, with and without one.

    python -m benchmarks.standby [--rounds 5] [--calls 4000]

The four cases, in turns: PostgreSQL alone; with an asynchronous standby; with a standby that must have flushed
(synchronous_commit = on); and with one that must have applied (remote_apply) a commit. All run on this machine and its
disk, and flush.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from xmlrpc.client import ServerProxy, dumps

from benchmarks.calls import CLIENTS, ONLY_TAKING, rate
from tests.servers.postgres import Postgres, replicated, running
from tests.servers.service import Service

LONE_CALLS = 200
REQUEST = {"source": {"destination": "here", "path": "f"}, "destination": "here", "path": "to/"}
CALL = dumps((REQUEST,), "jobs.submit").encode()
WAYS = {
    "alone": ("", "on"),
    "standby, not waited for": ("", "on"),
    "standby, flushed there": ("*", "on"),
    "standby, applied there": ("*", "remote_apply"),
}


def main() -> None:
    """Measure, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--calls", type=int, default=4000)
    chosen = options.parse_args()
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    lone: dict[str, list[float]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="datamover-bench-")))
        single = stack.enter_context(running(durable=True))
        primary, _ = stack.enter_context(replicated(durable=True))
        services = {}
        for name, server in (("single", single), ("pair", primary)):
            services[name] = _service(directory / name, server)
            stack.callback(services[name].stop)
        for _ in range(chosen.rounds):
            for way, (names, level) in WAYS.items():
                service = services["single" if way == "alone" else "pair"]
                if way != "alone":
                    _set(primary, names, level)
                rates[way].append(
                    rate(service.port, "/data_mover", dumps((REQUEST,), "jobs.submit").encode(), chosen.calls)
                )
                lone[way].append(_lone(service))
    for way in WAYS:
        print(
            f"{way:<26} {CLIENTS} clients {statistics.median(rates[way]):6.0f} "
            f"({min(rates[way]):.0f}–{max(rates[way]):.0f}) calls/s   one client "
            f"{statistics.median(lone[way]):5.2f} ({min(lone[way]):.2f}–{max(lone[way]):.2f}) ms"
        )


def _service(directory: Path, server: Postgres) -> Service:
    directory.mkdir()
    tables = f'{ONLY_TAKING}\n[database]\nurl = "{server.url}"\n[destinations.here]\nurl = "file://{directory}/here"\n'
    service = Service(directory, tables)
    service.start()
    return service


def _set(primary: Postgres, names: str, level: str) -> None:
    primary.run(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
    primary.run(f"ALTER SYSTEM SET synchronous_commit = '{level}'")
    primary.run("SELECT pg_reload_conf()")
    time.sleep(0.5)


def _lone(service: Service) -> float:
    """Return the median latency in milliseconds of one client that makes one call after another."""
    with ServerProxy(service.url) as mover:
        taken = []
        for _ in range(LONE_CALLS):
            start = time.perf_counter()
            mover.jobs.submit(REQUEST)
            taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


if __name__ == "__main__":
    main()
