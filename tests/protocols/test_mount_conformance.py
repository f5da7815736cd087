"""The conformance suite over mounts: a good one, one that refuses what clouds refuse, one that has no answer to it."""

import itertools
from collections.abc import Iterator
from typing import ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from datamover.protocols.base import Ability
from datamover.protocols.local import LOCAL
from tests.protocols.conformance import Conformance, Premises, as_nobody, settings
from tests.servers.mounts.misbehaviour import Does, Misbehaviour, Times
from tests.servers.mounts.mount import Mount, mounted


class Mounted(Conformance):
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
    def premises(self, mount: Mount) -> Iterator[Premises]:
        """A directory of the mount."""
        names = (f"{number}" for number in itertools.count() if not (mount.back / f"{number}").exists())
        name = f"{next(names)}/root"
        (mount.back / name).mkdir(parents=True)
        pool = LOCAL.open(settings((mount.at / name).as_uri()), LOCAL.options(), reactor)
        yield Premises(pool, mount.back / name, as_nobody, self.without)
        pytest_twisted.blockon(Deferred.fromCoroutine(pool.close()))


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
