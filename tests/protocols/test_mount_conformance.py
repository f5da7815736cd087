"""The conformance suite over mounts: a good one, one that refuses what clouds refuse, one that has no answer to it."""

import itertools
import stat
from collections.abc import Iterator
from typing import ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.base import Ability
from datamover.protocols.local import LOCAL
from tests.protocols.conformance import FILE_MODE, settings
from tests.protocols.part_files import PART, DiskPremises, PartFileConformance, as_nobody
from tests.servers.mounts.misbehaviour import Does, Misbehaviour, Times
from tests.servers.mounts.mount import Mount, mounted


class Mounted(PartFileConformance):
    """What the classes below have in common; each has one mount for all of its tests."""

    __test__: ClassVar[bool] = False
    misbehaviours: ClassVar[tuple[Misbehaviour, ...]] = ()
    times: ClassVar[Times] = Times()
    without: ClassVar[frozenset[Ability]] = frozenset()

    @pytest.fixture(scope="class")
    @classmethod
    def mount(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
        directory = tmp_path_factory.mktemp("mount")
        for parent in (directory, *directory.parents[:2]):
            parent.chmod(0o755)
        with mounted(directory, *cls.misbehaviours, times=cls.times) as mount:
            yield mount

    @pytest.fixture
    def premises(self, mount: Mount) -> Iterator[DiskPremises]:
        """A directory of the mount."""
        names = (f"{number}" for number in itertools.count() if not (mount.back / f"{number}").exists())
        name = f"{next(names)}/root"
        (mount.back / name).mkdir(parents=True)
        pool = LOCAL.open(settings((mount.at / name).as_uri()), LOCAL.options(), reactor)
        yield DiskPremises(
            pool,
            mount.back / name,
            as_nobody,
            modes=Ability.SET_MODE not in self.without,
            times=Ability.SET_MODIFIED not in self.without,
        )
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))

    @pytest_twisted.ensureDeferred
    async def test_what_a_file_goes_without(self, premises: DiskPremises) -> None:
        """What a place does not do is told of each file that went without it, and of the place."""
        sink = await premises.parts.open_part(PART, "file")
        try:
            await sink.write(b"data")
            assert await sink.finish(modified=1_234_567_890.0) == 4
        finally:
            await sink.close()
        placed = await premises.parts.place_part(PART, "large", size=4, replace=False)
        put = await premises.parts.put_part(
            PART, "small", b"data", modified=1_234_567_890.0, replace=True, commit=lambda: None
        )
        for name, lacks in (("large", [*sink.without, *placed.without]), ("small", put.without)):
            expected = self.without & {Ability.SET_MODE, Ability.SET_MODIFIED, Ability.FLUSH}
            if stat.S_IMODE((premises.root / name).stat().st_mode) == FILE_MODE:
                # Where modes cannot be set, files may still be made with theirs.
                expected -= {Ability.SET_MODE}
            assert {lack.ability for lack in lacks if lack.ability is not Ability.KEEP_OLD} == expected
        told = {lack.ability: lack.sentence for lack in premises.pool.lacks}
        assert set(told) == self.without
        assert all(": " in sentence for sentence in told.values())


class TestGoodMount(Mounted):
    __test__ = True


class TestCloud(Mounted):
    """As CIFS, 9p and clouds are: names have no second one, files have the mode and the time that the mount gives."""

    __test__ = True
    misbehaviours = (
        Misbehaviour("chmod", "EPERM"),
        Misbehaviour("utimens", "EPERM"),
        Misbehaviour("fsync", "EINVAL"),
        Misbehaviour("fsyncdir", "EINVAL"),
        Misbehaviour("link", "EPERM"),
        Misbehaviour("exclusive", "EINVAL"),
    )
    without = frozenset({Ability.SET_MODE, Ability.SET_MODIFIED, Ability.FLUSH, Ability.KEEP_OLD})


class TestUnknowing(Mounted):
    """A file system that has no such calls at all."""

    __test__ = True
    misbehaviours = tuple(
        Misbehaviour(operation, "ENOSYS")
        for operation in ("chmod", "utimens", "fsync", "fsyncdir", "link", "exclusive", "flush", "statfs", "truncate")
    )
    without = frozenset({Ability.SET_MODE, Ability.SET_MODIFIED, Ability.KEEP_OLD})
    """Not FLUSH: the kernel says that all is well where it was told so (fsync(2) of FUSE)."""


class TestPretending(Mounted):
    """A mount that says OK to what it does not do, and keeps times as FAT does."""

    __test__ = True
    misbehaviours = tuple(
        Misbehaviour(operation, does=Does.NOTHING) for operation in ("chmod", "utimens", "fsync", "fsyncdir", "link")
    )
    times = Times(step=2 * 10**9)
    without = frozenset({Ability.SET_MODE, Ability.SET_MODIFIED, Ability.KEEP_OLD})
