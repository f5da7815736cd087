"""Metrics that are read at each scrape: the queue's figures, and the pool of database connections."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from datamover.jobs.figures import MOST, Figures


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The use of the pool of database connections."""

    most: int
    free: int
    waiting: int
    """Callers that wait for a connection."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The values of one scrape; ``figures`` None: the database is away."""

    figures: Figures | None
    age: float
    """Seconds since the figures were read."""


class Gauges:
    """A Prometheus collector of the values in ``scrape``."""

    def __init__(self, destinations: Callable[[], Iterable[str]], pool: Callable[[], PoolUse]) -> None:
        self._destinations = destinations
        self._pool = pool
        self.scrape = Scrape(None, 0.0)

    def describe(self) -> list[Metric]:
        """Return the metrics; only their names are used."""
        return list(self.collect())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; while the database is away, those of the queue are empty."""
        figures = self.scrape.figures
        yield _gauge("database_up", "1 if the database answers, 0 if it is away.", float(figures is not None))
        pool = self._pool()
        yield _gauge("database_connections", "Connections to the database in use.", pool.most - pool.free)
        yield _gauge("database_connections_max", "Connections to the database, at most.", pool.most)
        yield _gauge("database_waiting", "Calls that wait for a connection to the database.", pool.waiting)
        yield from self._of_the_queue(figures)

    def _of_the_queue(self, figures: Figures | None) -> Iterator[Metric]:
        known = figures or Figures({}, {}, {}, {}, {}, frozenset(), frozenset(), 0, {}, 0)
        names = {*self._destinations(), *known.pending, *(name for name, _ in known.active)} if figures else set()
        active = dict.fromkeys(names, 0)
        states = {"PENDING": sum(known.pending.values()), "PREPARING": 0, "IN_PROGRESS": 0}
        for (name, state), groups in known.active.items():
            active[name] += groups
            states[state] = states.get(state, 0) + groups
        jobs = {**dict.fromkeys(("PENDING", "PREPARING", "IN_PROGRESS"), 0), **known.jobs}
        up_to = f" None is counted further than {MOST}."

        def by(name: str, label: str, told: str, values: Mapping[str, float]) -> Metric:
            return _labelled(name, told, label, values if figures else {})

        yield by("jobs", "state", "Jobs that have not ended, over all processes." + up_to, jobs)
        yield by("transfers", "state", "Transfers that have not ended (an archive or dataset is one)." + up_to, states)
        pending = {name: known.pending.get(name, 0) for name in names}
        yield by("queue_pending", "destination", "Transfers that wait, paused jobs left out." + up_to, pending)
        without_room = {name: known.without_room.get(name, 0) for name in names}
        told = "Transfers of those that wait for room at a destination that keeps some free." + up_to
        yield by("queue_without_room", "destination", told, without_room)
        yield by("queue_active", "destination", "Transfers that are worked on, over all processes.", active)
        ages = {name: known.age.get(name, 0.0) for name in names}
        told = "Seconds since the oldest job of which something waits was submitted, paused jobs left out."
        yield by("queue_age_seconds", "destination", told, ages)
        held = {name: float(name in known.held) for name in names}
        yield by("destination_held", "destination", "1 if an administrator holds the destination.", held)
        broken = {name: float(name in known.broken) for name in names}
        told = "1 if the destination failed for everyone, so that it is left alone but for one try at a time."
        yield by("destination_breaker_open", "destination", told, broken)
        alive = {**dict.fromkeys(("api", "engine"), 0), **known.nodes}
        yield by("nodes", "role", "Processes that are alive, by what they do.", alive)
        if figures is not None:
            yield _gauge("nodes_draining", "Engines that take nothing new.", known.draining)
            yield _gauge("source_hosts_broken", "Servers of sources that are left alone.", known.broken_hosts)
            yield _gauge("figures_age_seconds", "Seconds since the queue's figures were read.", self.scrape.age)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"datamover_{name}", told, value=value)


def _labelled(name: str, told: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"datamover_{name}", told, labels=[label])
    for key in sorted(values):
        family.add_metric([key], values[key])
    return family
