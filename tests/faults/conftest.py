"""One cluster for as many tests as leave it as it was: to start one takes longer than most of them."""

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.servers import postgres


class Clusters:
    """Has one cluster at a time."""

    def __init__(self) -> None:
        self._current: Cluster | None = None

    def get(self) -> Cluster:
        if self._current is None:
            directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
            directory.chmod(0o755)
            self._current = Cluster(directory)
            postgres.shared().keep()
            self._current.start()
        return self._current

    def take_back(self) -> None:
        """Take its engines out of a cluster; one in which something else is left is not used again."""
        if self._current is not None and not self._current.cleared():
            self.close()

    def close(self) -> None:
        cluster, self._current = self._current, None
        if cluster is not None:
            cluster.stop()
            shutil.rmtree(cluster.directory)


@pytest.fixture(scope="session")
def _clusters() -> Iterator[Clusters]:
    clusters = Clusters()
    yield clusters
    clusters.close()


@pytest.fixture
def cluster(_clusters: Clusters) -> Iterator[Cluster]:
    """A cluster that works, without engines; nothing waits in it."""
    yield _clusters.get()
    _clusters.take_back()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a test that fails name what is kept of its cluster."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and cluster is not None:
        report.sections.append(("the cluster", cluster.keep()))
    return report
