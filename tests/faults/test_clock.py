"""Clocks that are set hours ahead and hours back (libfaketime): a node's, the database's."""

from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from tests.faults.clock import WrongClock
from tests.faults.cluster import Cluster, running
from tests.faults.work import MIB, Work
from tests.servers import postgres
from tests.waiting import wait_until


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
            wait_until(partial(_renewed_after, cluster, _first_end(cluster)), "another renewal")
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
        wait_until(lambda: len(engine.lost("not be renewed in time")) == len(big), "the leases' end")
        assert not any(asked.targets[0].exists() for asked in big)
    finally:
        cluster.database.start()
        cluster.open_gate()
    work.check()


def test_clock_of_the_database(open_directory: Path) -> None:
    """The database's clock set back by hours has nobody wait for hours, for a dead node's lease or a retry."""
    clock = WrongClock(open_directory, glance=0)
    with (
        postgres.running(environment=clock.environment) as server,
        running(open_directory, databases=postgres.TestDatabases(server)) as cluster,
    ):
        work = Work(cluster)
        engine = cluster.engine()
        big = work.big()
        work.midway(big, done=8 * MIB)
        cluster.sshd.stop()
        waiting = work.one(MIB, "visualiser")
        wait_until(lambda: work.events(waiting, "retrying"), "an attempt that fails")
        engine.kill()
        before = cluster.sql("SELECT now()")[0][0]
        clock.set(-5)
        wait_until(lambda: cluster.sql("SELECT now()")[0][0] < before, "the database to look at its clock")
        cluster.sshd.start()
        cluster.open_gate()
        asked_at = cluster.sql("SELECT now()")[0][0]
        cluster.start_engine(engine)
        work.tiny()
        work.check()
        told = work.events(waiting, "retrying")[-1]["next_retry_at"]
        assert datetime.fromisoformat(told) - asked_at > timedelta(hours=4)

        big = work.big()
        work.midway(big, done=8 * MIB)
        clock.set(7)
        cluster.open_gate()
        work.check()


def test_waiting_by_a_wrong_clock(cluster: Cluster) -> None:
    """How long a retry waits is told by the database's clock, whatever those of the engine and of the door say."""
    clock = WrongClock(cluster.directory)
    clock.set(5)
    work = Work(cluster)
    cluster.engine(environment=clock.environment)
    cluster.sshd.stop()
    try:
        asked = work.one(MIB, "visualiser")
        told = wait_until(lambda: work.events(asked, "retrying"), "an attempt that fails")[0]
    finally:
        cluster.sshd.start()
    now = cluster.sql("SELECT now()")[0][0]
    for moment in (told["next_retry_at"], told["at"]):
        assert abs(datetime.fromisoformat(moment) - now) < timedelta(minutes=2)
    work.check()
    assert abs(datetime.fromisoformat(work.status(asked)["first_error"]["at"]) - now) < timedelta(minutes=2)


def _first_end(cluster: Cluster) -> datetime:
    """Return when the first lease would end, by the database's clock."""
    end: datetime = cluster.sql("SELECT min(lease_until) FROM transfers WHERE node IS NOT NULL")[0][0]
    return end


def _renewed_after(cluster: Cluster, end: datetime) -> bool:
    return _first_end(cluster) > end
