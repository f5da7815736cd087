"""Engines that are killed, stalled and stopped: what they worked on is finished by another, once and whole."""

import signal
import time
from functools import partial
from pathlib import Path

from tests.faults.cluster import Cluster, running
from tests.faults.points import STORY
from tests.faults.process import command
from tests.faults.work import MIB, Asked, Work
from tests.waiting import wait_until


def test_killed(cluster: Cluster) -> None:
    """What a killed engine was moving, every way, another goes on with from the checkpoints once the lease is over."""
    work = Work(cluster)
    first = cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)
    work.archive()
    cluster.engine(wait=False)
    work.midway(big)
    work.kept(big, 4 * MIB)

    first.kill()
    cluster.open_gate()
    work.tiny()
    for asked in big:
        work.ended(asked)
    cluster.start_engine(first)
    work.check()

    for asked in big:
        # A checkpoint comes every 32 MiB, or sooner.
        assert max(event["from"] for event in work.events(asked, "resumed")) >= 4 * MIB


def test_stalled(cluster: Cluster) -> None:
    """An engine that stands still past its lease learns, when it goes on, that it lost it, and does no harm."""
    work = Work(cluster)
    first = cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)
    second = cluster.engine(wait=False)
    work.midway(big)

    first.stall()
    for asked in big:
        wait_until(partial(_started, work, asked, 2), "the second engine's turn")
    first.go_on()
    cluster.open_gate()
    work.check()
    wait_until(first.lost, "it has learnt of it")

    second.drain()
    work.tiny()
    work.check()


def test_stalled_to_the_end(cluster: Cluster) -> None:
    """An engine that stood still until another had placed its files changes nothing of them, and leaves nothing."""
    work = Work(cluster)
    first = cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)
    cluster.engine(wait=False)

    first.stall()
    cluster.open_gate()
    for asked in big:
        work.ended(asked)
    first.go_on()
    wait_until(lambda: len(first.lost()) == len(big), "it has learnt of it")
    work.check()


def test_stalled_before_it_wrote(cluster: Cluster) -> None:
    """What an engine that stood still meanwhile begins to write after the file was placed is removed again."""
    work = Work(cluster)
    late = []
    for point, size, destination in [
        ("about to be put on a disk", 100, "archive"),
        ("about to be put over SFTP", 100, "visualiser"),
        ("part file about to be opened", 8 * MIB, "archive"),
    ]:
        late.append(cluster.engine(command=command(point, signal.SIGSTOP)))
        work.one(size, destination)
        wait_until(lambda: late[-1].stalled, point)
    cluster.engine()
    for asked in work.asked:
        work.ended(asked)
    for engine in late:
        engine.go_on()
        wait_until(engine.lost, "it has learnt of it")
    work.check()


def test_killed_after_it_wrote_late(cluster: Cluster) -> None:
    """What an engine makes that stood still meanwhile is removed, too, if it is killed before it can tell anybody."""
    work = Work(cluster)
    # Both in the thread, which goes on whatever is learnt meanwhile.
    late = cluster.engine(command=command("part file about to be made", signal.SIGSTOP, then="part file made"))
    asked = work.one(8 * MIB, "archive")
    wait_until(lambda: late.stalled, "it stands still")
    cluster.engine()
    work.ended(asked)
    wait_until(lambda: not cluster.sql("SELECT id FROM transfers WHERE late"), "the first look for leftovers")

    cluster.mover.destinations.hold("archive", "nobody looks meanwhile")
    late.go_on()
    assert wait_until(partial(getattr, late, "returncode"), "death") == -signal.SIGKILL
    assert cluster.parts()
    cluster.mover.destinations.release("archive")
    work.check()


def test_drained(cluster: Cluster) -> None:
    """What a stopped engine was moving another goes on with at once, and nothing is sent twice."""
    work = Work(cluster)
    first = cluster.engine(lease="10m")
    big = work.big()
    work.midway(big, done=8 * MIB)
    cluster.engine(lease="10m")
    work.midway(big)

    first.drain()
    wait_until(lambda: not first.alive, "its end")
    cluster.open_gate()
    work.tiny()
    work.check()

    for asked in big:
        (resumed,) = work.events(asked, "resumed")
        assert resumed["from"] >= 36 * MIB
        assert resumed["resent"] == 0


def test_cancelled(cluster: Cluster) -> None:
    """A cancelled job ends while its file is on its way, its part file goes, and other jobs are not touched."""
    work = Work(cluster)
    cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)
    assert len(cluster.parts()) == len(big)

    for asked in big[1:]:
        cluster.mover.jobs.cancel(asked.job)
    for asked in big[1:]:
        status = work.ended(asked)
        assert status["status"] == "CANCELLED"
        assert status["bytes_done"] < asked.size
        assert not asked.targets[0].exists()
        assert [event["kind"] for event in work.events(asked)][-2:] == ["cancelled", "cancelled"]
    wait_until(lambda: len(cluster.parts()) <= 1, "the part files are gone")
    work.asked = big[:1]
    cluster.open_gate()
    work.check()


def test_cancelled_after_a_kill(cluster: Cluster) -> None:
    """A job that is cancelled when nobody works on it any more leaves no part file either."""
    work = Work(cluster)
    first = cluster.engine()
    big = work.big()
    work.midway(big, done=8 * MIB)

    first.kill()
    for asked in big:
        cluster.mover.jobs.cancel(asked.job)
    cluster.start_engine(first)
    for asked in big:
        assert work.ended(asked)["status"] == "CANCELLED"
        assert not asked.targets[0].exists()
    work.check_clean()


def test_stalled_with_a_lock(cluster: Cluster) -> None:
    """An engine that stands still in the midst of a claim does not keep others from theirs for long."""
    work = Work(cluster)
    first = cluster.engine(command=command("claiming", signal.SIGSTOP))
    cluster.engine()
    work.archive(size=MIB)
    wait_until(lambda: first.stalled or work.status(work.asked[0])["status"] != "PENDING", "a claim")
    while not first.stalled:
        work.archive(size=MIB)
        wait_until(lambda: first.stalled or work.status(work.asked[-1])["status"] != "PENDING", "a claim")
    asked_at = time.monotonic()
    work.one(MIB, "archive")
    work.ended(work.asked[-1])
    assert time.monotonic() - asked_at < 20

    first.go_on()
    work.check()


def test_killed_at_every_point(cluster: Cluster) -> None:
    """Wherever in a file's story an engine dies, whoever comes next finishes it."""
    work = Work(cluster)
    for point in STORY:
        if "archive" in point or point == "placement written down":
            work.archive(size=MIB, destination="visualiser")
        else:
            work.one(MIB, "visualiser")
            work.one(MIB, "archive")
        engine = cluster.engine(command=command(point))
        assert wait_until(partial(getattr, engine, "returncode"), f"death: {point}") == -signal.SIGKILL

    cluster.engine()
    work.check()


def _started(work: Work, asked: Asked, times: int) -> bool:
    return len(work.events(asked, "started")) == times


def test_killed_between_renames(open_directory: Path) -> None:
    """A file that an engine had set aside when it died is back once its job is cancelled; else it is replaced."""
    ssh = "Subsystem sftp internal-sftp -P posix-rename"
    with running(open_directory, ssh=ssh) as cluster:
        work = Work(cluster)
        cancelled = _set_aside(work)
        cluster.mover.jobs.cancel(cancelled.job)
        engine = cluster.engine()
        assert work.ended(cancelled)["status"] == "CANCELLED"
        assert cancelled.targets[0].read_bytes() == b"old"
        engine.kill()

        work.asked = [_set_aside(work)]
        cluster.engine()
        work.check()


def test_cut_between_renames(open_directory: Path) -> None:
    """A file that was set aside when its server went away has its name again once that is back; the job has failed."""
    ssh = "Subsystem sftp internal-sftp -P posix-rename"
    with running(open_directory, ssh=ssh) as cluster:
        work = Work(cluster)
        asked = work.one(MIB, "visualiser", overwrite="always", max_attempts=1)
        asked.targets[0].parent.mkdir()
        asked.targets[0].write_bytes(b"old")
        engine = cluster.engine(command=command("old file set aside", signal.SIGSTOP))
        wait_until(lambda: engine.stalled, "the file set aside")
        assert not asked.targets[0].exists()
        cluster.sshd.stop()
        engine.go_on()
        assert work.ended(asked)["status"] == "FAILED"
        assert cluster.parts()

        cluster.sshd.start()
        wait_until(lambda: not cluster.parts(), "nothing left")
        assert asked.targets[0].read_bytes() == b"old"
        wait_until(lambda: not cluster.sql("SELECT id FROM transfers WHERE traces"), "that is written down")


def _set_aside(work: Work) -> Asked:
    """Ask for a file that replaces another, and have an engine die when that has been set aside."""
    asked = work.one(MIB, "visualiser", overwrite="always")
    asked.targets[0].parent.mkdir(exist_ok=True)
    asked.targets[0].write_bytes(b"old")
    engine = work.cluster.engine(command=command("old file set aside"))
    assert wait_until(partial(getattr, engine, "returncode"), "death") == -signal.SIGKILL
    assert not asked.targets[0].exists()
    return asked
