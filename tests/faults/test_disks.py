"""Disks that answer a call with an error: each is told for what it is, what can be retried is, and nothing is left."""

from collections.abc import Iterator

import pytest

from tests.faults.cluster import Cluster, running
from tests.faults.process import command
from tests.faults.work import MIB, Asked, Work

SLOW = 2.0
"""Seconds between attempts that are not worth hurrying."""

PASSING = {
    "write": "call=write&error=EIO&at=12582912",
    "sync": "call=sync&error=EIO",
    "rename": "call=rename&error=EIO",
    "read": "call=read&error=EIO&at=12582912",
    "quota": "call=write&error=EDQUOT&at=12582912",
}
LASTING = {
    "dead": "call=write&error=EIO&at=4194304&times=0",
    "unreadable": "call=read&error=EIO&at=4194304&times=0",
    "spent": "call=write&error=EDQUOT&at=4194304&times=0",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a directory for each way to break, and one engine."""
    directory = tmp_path_factory.mktemp("disks")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)
    tables = "".join(
        f'[destinations.{name}]\nurl = "broken://{directory}/{name}?{fault}"\n'
        for name, fault in {**PASSING, **LASTING}.items()
    )
    for name in {**PASSING, **LASTING}:
        (directory / name).mkdir()
    with running(directory, tables=tables, command=command(), retry_cap=f"{SLOW}s") as cluster:
        cluster.engine()
        yield cluster


@pytest.fixture
def work(cluster: Cluster) -> Work:
    return Work(cluster)


def told(work: Work, asked: Asked) -> dict[str, str]:
    """Return the error of a job's one attempt that failed."""
    (retrying,) = work.events(asked, "retrying")
    error: dict[str, str] = retrying["error"]
    return error


@pytest.mark.parametrize("name", ["write", "sync", "rename"])
def test_error_passes(work: Work, name: str) -> None:
    """An input/output error that passes costs one attempt, and the file is whole."""
    asked = work.one(20 * MIB, name, overwrite="always")
    work.check()
    error = told(work, asked)
    assert error["code"] == "SERVER_ERROR"
    assert error["scope"] == "DESTINATION"
    assert f"destination '{name}': " in error["message"]
    assert "the disk answers: Input/output error" in error["message"]


def test_reading_fails_once(work: Work) -> None:
    """An input/output error at a source is the source's, and the next attempt goes on from what had arrived."""
    asked = work.between(20 * MIB, "read", "small")
    work.check()
    error = told(work, asked)
    assert (error["code"], error["scope"]) == ("SERVER_ERROR", "SOURCE")
    assert "destination 'read': " in error["message"]
    assert work.events(asked, "resumed")


def test_quota(work: Work) -> None:
    """A quota that is used up is told as that, and not asked again in a hurry."""
    asked = work.one(20 * MIB, "quota")
    work.check()
    error = told(work, asked)
    assert error["code"] == "QUOTA_EXCEEDED"
    assert "raise it or free space" in error["message"]
    moments = work.cluster.sql(
        f"SELECT kind, extract(epoch FROM at) FROM events WHERE job = {asked.job} AND file = 0 ORDER BY cursor"
    )
    assert [kind for kind, _ in moments] == ["started", "retrying", "started", "completed"]
    assert moments[2][1] - moments[1][1] >= SLOW / 2


@pytest.mark.parametrize(("name", "code"), [("dead", "SERVER_ERROR"), ("spent", "QUOTA_EXCEEDED")])
def test_error_stays(work: Work, name: str, code: str) -> None:
    """Where every attempt meets the error the job fails, its first and last error told, and no part file is left."""
    asked = work.one(8 * MIB, name, max_attempts=2)
    status = work.ended(asked)
    assert status["status"] == "FAILED"
    assert (status["attempt"], status["error"]["code"], status["first_error"]["code"]) == (2, code, code)
    assert [event["kind"] for event in work.events(asked)] == [
        "submitted",
        *("started", "retrying", "started", "failed", "failed"),
    ]
    assert not asked.targets[0].exists()
    work.check_clean()


def test_reading_always_fails(work: Work) -> None:
    """A source that cannot be read leaves nothing at the destination."""
    asked = work.between(8 * MIB, "unreadable", "small", max_attempts=2)
    status = work.ended(asked)
    assert status["status"] == "FAILED"
    assert (status["error"]["code"], status["error"]["scope"]) == ("SERVER_ERROR", "SOURCE")
    assert not asked.targets[0].exists()
    work.check_clean()
