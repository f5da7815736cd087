"""The memory, CPU time and open files of this service's engine processes, read at a scrape; label ``process``."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

PREFIX = "datamover_engine"


class ProcessFigures:
    """A Prometheus collector for the processes that ``running`` returns: process ids by number."""

    def __init__(self, running: Callable[[], Mapping[str, int]]) -> None:
        self._running = running

    def describe(self) -> list[Metric]:
        """Return the one metric that is always there."""
        return [self._count(0)]

    def collect(self) -> Iterator[Metric]:
        """Yield the number of processes, and the memory, CPU time and files of each."""
        running = self._running()
        yield self._count(len(running))
        families: dict[str, Metric] = {}
        for number, pid in running.items():
            for metric in ProcessCollector(PREFIX, lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                told = metric.documentation.rstrip(".") + ", of an engine process."
                family = families.setdefault(metric.name, Metric(metric.name, told, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {"process": number}, sample.value)
        yield from families.values()

    def _count(self, running: int) -> Metric:
        return GaugeMetricFamily(f"{PREFIX}_processes", "Engine processes of this one that run.", value=running)
