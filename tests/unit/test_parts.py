"""Part files: what they are called, and the proof that one holds what it is said to hold."""

import hashlib
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.engine.groups.archive import unique_names
from datamover.engine.transfer.digest import Digest
from datamover.engine.transfer.keys import transfer_key, upload_key
from datamover.engine.transfer.prefix import saved_of, verify_prefix
from datamover.errors import ConnectionLost, DataMoverError, Scope, SourceForbidden
from datamover.jobs.values import Checkpoint
from datamover.protocols.local import LOCAL
from datamover.protocols.part_files.names import OLD, part_path, prefix
from datamover.protocols.place import Place
from datamover.protocols.upload import unchecked
from datamover.web.paths import LONGEST_NAME, RESERVED
from tests.protocols.conformance import settings
from tests.unit.executors import here

FACTS: dict[str, Any] = {
    "installation": "0f" * 16,
    "transfer": 12,
    "source": "https://example.org/a.csv",
    "identity": 'tag "1"',
    "lease": 3,
}
CONTENT = b"content " * 1000
PART = "in/.datamover-1-x.part"


def named(target: str = "in/a.csv", **changes: Any) -> str:
    return part_path(target, upload_key(**{**FACTS, **changes}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root of ``place``, with a part file."""
    (tmp_path / "root/in").mkdir(parents=True)
    (tmp_path / "root" / PART).write_bytes(CONTENT)
    return tmp_path / "root"


@pytest.fixture
def place(root: Path) -> Iterator[Place]:
    pool = LOCAL.open(settings(root.as_uri()), LOCAL.options(), reactor)
    yield pool.at(Scope.DESTINATION)
    pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


def checkpoint(offset: int = 5000, digest: str | None = None) -> Checkpoint:
    return Checkpoint(PART, "identity", offset, digest or hashlib.sha256(CONTENT[:offset]).hexdigest())


# Names --------------------------------------------------------------------------------------------------------


def test_beside_its_target() -> None:
    """It stands in its target's directory, hidden, under a name that no client can ask for."""
    assert posixpath.dirname(named("a/b/c.csv")) == "a/b"
    assert posixpath.dirname(named("c.csv")) == ""
    assert posixpath.basename(named("a/b/c.csv")).startswith(RESERVED)


def test_the_same_for_the_same_bytes() -> None:
    """Attempts at the same bytes share it, so that a later one goes on from an earlier one."""
    assert named(lease=3) == named(lease=4)


@pytest.mark.parametrize(
    "changes",
    [{"transfer": 13}, {"identity": 'tag "2"'}, {"source": "https://example.org/b.csv"}, {"installation": "f0" * 16}],
)
def test_another_for_other_bytes(changes: dict[str, Any]) -> None:
    """Another transfer, another database's, another source or a source that changed has another one."""
    assert named(**changes) != named()


def test_one_for_each_attempt_without_an_identity() -> None:
    """A source that gives no sign of a change never shares it between attempts."""
    assert named(identity=None, lease=3) != named(identity=None, lease=4)


@given(
    target=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=255),
    transfer=st.integers(1, 2**63 - 1),
    source=st.text(),
    identity=st.none() | st.text(),
)
def test_any_name(target: str, transfer: int, source: str, identity: str | None) -> None:
    """However long the target's name, and whatever the source is called, a file system takes it; it is told as ours."""
    found = named(target, transfer=transfer, source=source, identity=identity)
    assert "/" not in found
    assert found.isascii()
    assert len(found) <= LONGEST_NAME
    assert found.startswith(prefix(transfer_key(FACTS["installation"], transfer)))


def test_no_transfer_s_prefix_begins_another_s() -> None:
    """The prefix of transfer 1 does not take in transfer 12's files, nor another database's."""
    assert not named(transfer=12).startswith(prefix(transfer_key(FACTS["installation"], 1)))
    assert not named(installation="f0" * 16).startswith(prefix(transfer_key(FACTS["installation"], 12)))


@pytest_twisted.ensureDeferred
async def test_swept(root: Path, place: Place) -> None:
    """What attempts of one transfer left in a directory is removed, but for what is to be kept, and nothing else."""
    own, earlier = named(), named(identity='tag "0"')
    others = [named(transfer=13), "in/a.csv", "in/.hidden", PART]
    for name in (own, f"{own}{OLD}", earlier, f"{earlier}{OLD}", *others):
        (root / name).write_bytes(b"x")
    await place.sweep("in/a.csv", transfer_key(FACTS["installation"], 12), check=unchecked, keep=own)
    assert {f"in/{path.name}" for path in (root / "in").iterdir()} == {own, f"{own}{OLD}", *others}


@pytest_twisted.ensureDeferred
async def test_swept_by_the_holder_of_the_lease_alone(root: Path, place: Place) -> None:
    """Whoever may not remove any more removes nothing."""
    (root / named()).write_bytes(b"x")

    def lost() -> None:
        raise ConnectionLost("the lease")

    with pytest.raises(ConnectionLost):
        await place.sweep("in/a.csv", transfer_key(FACTS["installation"], 12), check=lost)
    assert (root / named()).exists()


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "b", "a.csv", "a-2.csv", ".a", "a.tar.gz"]), max_size=12))
def test_unique_names(names: list[str]) -> None:
    """Names in an archive are unique, as many as there were, and who has a name first keeps it."""
    unique = unique_names(names)
    assert len(unique) == len(names)
    assert len(set(unique)) == len(unique)
    for index, name in enumerate(names):
        if name not in names[:index]:
            assert unique[index] == name
        assert posixpath.splitext(unique[index])[1] == posixpath.splitext(name)[1]


# The proof ----------------------------------------------------------------------------------------------------


async def proven(place: Place, claimed: Checkpoint, digest: Digest) -> bool:
    return await verify_prefix(place.resume("in/a.csv", saved_of(claimed)), claimed, place.origin("none"), digest)


@pytest_twisted.ensureDeferred
async def test_proven(place: Place) -> None:
    """A part file with the right beginning is gone on from, its digest going on too; what is behind does not count."""
    digest = Digest(here)
    assert await proven(place, checkpoint(), digest)
    await digest.add(CONTENT[5000:])
    assert (await digest.hexdigests())["sha256"] == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    "claimed",
    [
        checkpoint(0),
        checkpoint(len(CONTENT) + 1),
        checkpoint(5000, "0" * 64),
        Checkpoint("in/.datamover-gone.part", "identity", 5000, "0" * 64),
        Checkpoint("nowhere/.datamover-gone.part", "identity", 5000, "0" * 64),
        Checkpoint("in", "identity", 5000, "0" * 64),
    ],
)
@pytest_twisted.ensureDeferred
async def test_not_proven(place: Place, claimed: Checkpoint) -> None:
    """A checkpoint of nothing, of more than there is, of other bytes, of what is gone or no file: from zero."""
    assert not await proven(place, claimed, Digest(here))


class Refusing:
    """An upload at which every look fails."""

    def __init__(self, error: DataMoverError) -> None:
        self._error = error

    async def exists(self) -> bool:
        raise self._error


@pytest_twisted.ensureDeferred
async def test_what_may_pass_is_no_reason_to_begin_anew(place: Place) -> None:
    """A connection that breaks ends the attempt, and what had arrived stays; a refusal means from zero."""
    lost: Any = Refusing(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        await verify_prefix(lost, checkpoint(), place.origin("none"), Digest(here))
    refused: Any = Refusing(SourceForbidden("no"))
    assert not await verify_prefix(refused, checkpoint(), place.origin("none"), Digest(here))
