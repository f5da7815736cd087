"""The counters of one process, in a registry of their own; the engine and the interface report to them.

Metrics that are read from the database at a scrape are in ``gauges``.
"""

import platform
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)

import twisted
from datamover import __version__
from datamover.concurrency.loops import LOOPS

OUTCOMES = ("completed", "retrying", "failed", "cancelled", "parked", "lost")
_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The counters of one process: implements the engine's ``Observer`` and the interface's ``Calls``."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("datamover_build", "What runs.", registry=registry).info(
            {"version": __version__, "twisted": str(twisted.__version__), "python": platform.python_version()}
        )
        self._claims = Counter(
            "datamover_claims", "Transfers that this process took from the queue.", registry=registry
        )
        self._attempts = Counter(
            "datamover_attempts",
            "Attempts at transfers that ended in this process: completed, retrying (there will be another), failed, "
            "cancelled, parked (handed back), lost (with the lease).",
            ["outcome"],
            registry=registry,
        )
        self._errors = Counter(
            "datamover_errors",
            "Attempts that ended in an error in this process, by the error's code; docs/api.md tells what each means.",
            ["code"],
            registry=registry,
        )
        self._bytes = Counter(
            "datamover_bytes_moved",
            "Bytes that this process moved for transfers to a destination. What is staged first counts on both ways.",
            ["destination"],
            registry=registry,
        )
        self._losses = Counter(
            "datamover_lease_losses",
            "Leases that this process lost: it was silent for too long, or the database was away.",
            registry=registry,
        )
        self._takeovers = Counter(
            "datamover_lease_takeovers",
            "Transfers of processes that fell silent, put back in the queue by this process.",
            registry=registry,
        )
        self._loops = Counter(
            "datamover_loop_failures",
            "Unexpected errors, by the loop that met them and went on; the log has their tracebacks.",
            ["loop"],
            registry=registry,
        )
        self._ends = Counter(
            "datamover_engine_process_ends",
            "Engine processes of this service that ended by themselves, and were replaced.",
            registry=registry,
        )
        self._calls = Counter(
            "datamover_xmlrpc_calls",
            'XML-RPC calls, by method ("unknown": there is none of that name) and outcome: ok, the Fault\'s number, or '
            "abandoned by the client.",
            ["method", "outcome"],
            registry=registry,
        )
        self._call_seconds = Histogram(
            "datamover_xmlrpc_call_seconds",
            "How long XML-RPC calls take; jobs.wait and jobs.events wait as long as they are asked to.",
            ["method"],
            registry=registry,
            buckets=_CALL_SECONDS,
        )
        self._lag = Histogram(
            "datamover_reactor_lag_seconds",
            "How late the event loop is: the delay of a call that is due every second.",
            registry=registry,
            buckets=_LAG_SECONDS,
        )
        # Kept here, since looking up the counter of a label costs more than counting.
        self._attempts_by = cache(self._attempts.labels)
        self._bytes_by = cache(self._bytes.labels)
        self._calls_by = cache(self._calls.labels)
        self._call_seconds_by = cache(self._call_seconds.labels)
        for outcome in OUTCOMES:
            self._attempts_by(outcome)
        for loop in LOOPS:
            self._loops.labels(loop)

    # Reported by the engine -----------------------------------------------------------------------------------

    def claimed(self, groups: int) -> None:
        self._claims.inc(groups)

    def attempt_ended(self, outcome: str, code: str | None) -> None:
        self._attempts_by(outcome).inc()
        if code is not None:
            self._errors.labels(code).inc()

    def bytes_moved(self, destination: str, count: int) -> None:
        self._bytes_by(destination).inc(count)

    def lease_lost(self) -> None:
        self._losses.inc()

    def taken_over(self, groups: int) -> None:
        self._takeovers.inc(groups)

    def loop_failed(self, loop: str) -> None:
        self._loops.labels(loop).inc()

    def process_ended(self) -> None:
        self._ends.inc()

    # Reported by the interface --------------------------------------------------------------------------------

    def called(self, method: str, outcome: str, seconds: float) -> None:
        self._calls_by(method, outcome).inc()
        self._call_seconds_by(method).observe(seconds)

    # Reported by the lag probe --------------------------------------------------------------------------------

    def lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)
