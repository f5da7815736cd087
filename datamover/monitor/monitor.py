"""The answers to monitoring requests: metrics, liveness and readiness. HTTP itself is in ``api``."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.interfaces import IReactorTime

from datamover.config.schema import Config
from datamover.jobs.figures import FigureReader, Figures
from datamover.monitor.cached import Cached
from datamover.monitor.gauges import Gauges, PoolUse, Scrape
from datamover.monitor.metrics import Metrics
from datamover.postgres.database import Database

TEXT = "text/plain; charset=utf-8"
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

FIGURES_AGE = 5.0
"""Seconds that the queue's figures are cached, so that scrapes cost the database little."""
SHARE = 0.05
"""Part of one connection's time that reading the figures takes at most."""
REACH_AGE = 1.0
"""Seconds that it is cached whether the database answers."""
PATIENCE = 5.0
"""Seconds that the database may take to answer."""

Response = tuple[int, str, bytes]
"""HTTP status, content type and body."""


def make_monitor(
    metrics: Metrics,
    database: Database,
    destinations: Callable[[], Iterable[str]],
    settings: Config,
    clock: IReactorTime,
    working: Callable[[], bool] | None,
    troubles: Callable[[], Sequence[str]],
    failed: Callable[[str], None],
) -> "HealthMonitor":
    """Return the ``HealthMonitor`` of a process with this database; see there for ``working`` and ``troubles``.

    ``failed`` is called with the name of a loop that meets an unexpected error.
    """
    reader = FigureReader(database, settings.service.lease)
    gauges = Gauges(destinations, lambda: PoolUse(settings.database.connections, *database.use))
    metrics.registry.register(gauges)
    broke = partial(failed, "figures")
    figures = Cached(reader.read, clock, seconds=FIGURES_AGE, patience=PATIENCE, share=SHARE, failed=broke)
    reach = Cached(reader.reach, clock, seconds=REACH_AGE, patience=PATIENCE, share=1.0, failed=broke)
    return HealthMonitor(metrics.registry, gauges, figures, reach, working, lambda: database.refuses, troubles)


class HealthMonitor:
    """Answers the monitoring requests of one process."""

    def __init__(
        self,
        registry: CollectorRegistry,
        gauges: Gauges,
        figures: Cached[Figures],
        reach: Cached[bool],
        working: Callable[[], bool] | None,
        refuses: Callable[[], bool],
        troubles: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """``working`` returns whether the engine of this process takes work; None: it has no engine.

        ``refuses`` returns whether the database answers but refuses this process' login; ``troubles`` a sentence for
        each loop that does not turn.
        """
        self._troubles = troubles
        self._registry = registry
        self._gauges = gauges
        self._figures = figures
        self._reach = reach
        self._working = working
        self._refuses = refuses

    async def metrics(self) -> Response:
        """Return every metric, in Prometheus' text format; never raises for a database that is away."""
        figures = await self._figures.get()
        self._gauges.scrape = Scrape(figures, self._figures.age)
        return 200, EXPOSITION, generate_latest(self._registry)

    async def live(self) -> Response:
        """Return 200; an event loop that hangs answers nothing."""
        return 200, TEXT, b"ok\n"

    async def ready(self) -> Response:
        """Return 200 if the database answers, this process' engine (if it has one) takes work, and all loops turn.

        Otherwise return 503 and a sentence for each thing that is wrong.
        """
        if not await self._reach.get():
            away = "database refuses the login: see the log" if self._refuses() else "database away"
            return 503, TEXT, _lines(away, *self._troubles())
        if self._working is not None and not self._working():
            return 503, TEXT, _lines("engine not running", *self._troubles())
        if troubles := self._troubles():
            return 503, TEXT, _lines(*troubles)
        return 200, TEXT, b"ok\n"


def _lines(*sentences: str) -> bytes:
    return "".join(f"{sentence}\n" for sentence in sentences).encode()
