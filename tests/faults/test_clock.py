"""A node's clock that is set hours ahead and hours back (libfaketime): the database's and the others' are right."""

from datetime import datetime
from functools import partial

from tests.faults.clock import WrongClock
from tests.faults.cluster import Cluster, until
from tests.faults.work import MIB, Work


def test_clock_set(cluster: Cluster) -> None:
    """Transfers, leases and retries do not mind that their node's clock is set hours ahead, and hours back."""
    clock = WrongClock(cluster.directory)
    work = Work(cluster)
    engine = cluster.engine(environment=clock.environment, lease="12s")
    big = work.big()
    for hours, done in ((5, 8 * MIB), (-5, 20 * MIB)):
        work.midway(big, done=done)
        clock.set(hours)
        # They are four seconds apart: before the second the process has looked at its clock.
        for _ in range(2):
            until(partial(_renewed_after, cluster, _first_end(cluster)), "another renewal")
    work.midway(big)
    for asked in big:
        assert [event["kind"] for event in work.events(asked)] == ["submitted", "started"]
    assert not engine.lost()

    cluster.sshd.cut()
    cluster.open_gate()
    work.tiny()
    work.check()
    for asked in big[1:]:
        assert work.events(asked, "resumed")


def test_lease_under_a_clock_set_back(cluster: Cluster) -> None:
    """A node whose clock is set back gives up what it cannot renew, and goes on when it can."""
    clock = WrongClock(cluster.directory)
    work = Work(cluster)
    engine = cluster.engine(environment=clock.environment, lease="6s")
    big = work.big()
    work.midway(big, done=8 * MIB)
    clock.set(-5)
    cluster.database.kill()
    try:
        until(lambda: len(engine.lost("not be renewed in time")) == len(big), "the leases' end")
        assert not any(asked.targets[0].exists() for asked in big)
    finally:
        cluster.database.start()
        cluster.open_gate()
    work.check()


def _first_end(cluster: Cluster) -> datetime:
    """Return when the first lease would end, by the database's clock."""
    end: datetime = cluster.sql("SELECT min(lease_until) FROM transfers WHERE node IS NOT NULL")[0][0]
    return end


def _renewed_after(cluster: Cluster, end: datetime) -> bool:
    return _first_end(cluster) > end
