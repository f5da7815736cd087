"""The registry of destinations: what it takes, what it refuses, and how a URL's host finds its destination."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from datamover.config.load import load
from datamover.config.schema import Config, DestinationTable
from datamover.errors import (
    AuthenticationFailed,
    ConfigError,
    ConnectFailed,
    DataMoverError,
    HostKeyMismatch,
    Scope,
    UnknownDestination,
)
from datamover.protocols import PLACES
from datamover.protocols.base import Ability, Lack, Origin
from datamover.protocols.local import LOCAL
from datamover.protocols.place import DestinationPool, Place, PlaceProtocol, PlaceSettings, ProtocolOptions
from datamover.registry.destinations import Registry
from datamover.registry.probe import probe
from tests.protocols.part_files import as_nobody
from tests.servers.sshd import Sshd

Build = Callable[..., Registry]


class RemoteOptions(ProtocolOptions):
    """The one key that ``Remote`` asks for."""

    depth: int = 1


class Remote:
    """A protocol of nowhere: what the registry asks of any other, and files below /."""

    name: ClassVar[str] = "remote"
    schemes: ClassVar[tuple[str, ...]] = ("remote",)
    other_schemes: ClassVar[tuple[str, ...]] = ()
    abilities: ClassVar[frozenset[Ability]] = frozenset({Ability.READ})
    counts_arriving: ClassVar[bool] = False
    longest_name: ClassVar[int] = 255
    options: ClassVar[type[ProtocolOptions]] = RemoteOptions

    def check_url(self, url: str) -> None:
        if not url.startswith("remote://"):
            raise ValueError("expected remote://")

    def root(self, url: str) -> str:
        return "/" + url.removeprefix("remote://").partition("/")[2]

    def host(self, url: str) -> str | None:
        return url.removeprefix("remote://").partition("/")[0].rpartition("@")[2]

    def user(self, url: str) -> str | None:
        return url.removeprefix("remote://").partition("/")[0].rpartition("@")[0] or None

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        return LOCAL.open(PlaceSettings(settings.name, "file:///", 0o644, 0o755, 1.0, 1.0), ProtocolOptions(), reactor)


@pytest.fixture
def build() -> Iterator[Build]:
    """Registries by the URLs of their destinations, closed at the end."""
    built = []

    def make(http: Any = None, /, **urls: str) -> Registry:
        config = Config(destinations={name: DestinationTable(url=url) for name, url in urls.items()})
        protocols: tuple[PlaceProtocol, ...] = (*PLACES, Remote())
        built.append(Registry.from_config(config, reactor, http, protocols=protocols))
        return built[-1]

    yield make
    for registry in built:
        pytest_twisted.blockon(Deferred.fromCoroutine(registry.close()))


def test_destination(tmp_path: Path) -> None:
    """A destination is what its table says, and what its protocol says of its URL."""
    file = tmp_path / "dm.toml"
    file.write_text(
        '[destinations.archive]\ndescription = "Old files"\nurl = "file:///srv/an%20archive/"\nmax_active = 3\n'
        'bandwidth = "2MB/s"\nfile_mode = "0600"\ndirectory_mode = "0700"\nverify = "read-back"\n'
        '[destinations.other]\nurl = "file:///srv"\n'
    )
    registry = Registry.from_config(load(file), reactor)
    archive = registry.get("archive")
    assert registry.names() == ("archive", "other")
    assert (archive.name, archive.description, archive.protocol) == ("archive", "Old files", "file")
    assert (archive.root, archive.host, archive.user) == ("/srv/an archive", None, None)
    assert (archive.max_active, archive.bandwidth, archive.verify) == (3, 2_000_000, "read-back")
    assert (archive.file_mode, archive.directory_mode) == (0o600, 0o700)
    assert archive.abilities == LOCAL.abilities
    assert registry.describe("archive") == {
        "name": "archive",
        "description": "Old files",
        "protocol": "file",
        "abilities": sorted(ability.value for ability in LOCAL.abilities),
        "lacks": [],
        "max_active": 3,
    }


def test_unknown_destination(build: Build) -> None:
    """An unknown name is refused by itself; those that there are stay unsaid."""
    registry = build(secret="file:///srv")
    for ask in (registry.get, registry.describe):
        with pytest.raises(UnknownDestination, match=r"^destination 'nowhere' is not registered$"):
            ask("nowhere")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            'url = "gopher://x/y"',
            "destinations.x.url = 'gopher://x/y': expected a URL with one of the schemes ",
        ),
        ('url = "/srv/x"', "destinations.x.url = '/srv/x': expected a URL with one of the schemes "),
        ('url = ""', "destinations.x.url = '': expected a URL"),
        ('url = "file://host/x"', "destinations.x.url = 'file://host/x': expected file:// and an absolute path"),
        ('url = "file:///x"\nport = 5', "destinations.x.port: unknown key"),
        ('url = "file:///x"\npassword = "hunter2"', "destinations.x.password: unknown key"),
        ('url = "sftp://bob:hunter2@h/x"', "destinations.x.url: holds a password: leave it out"),
        ('url = "sftp://bob:hun/ter2@h/x"', "destinations.x.url: holds a password: leave it out"),
        (
            'url = "sftp://h/x"\nknown_hosts_file = "/k"\npassword_file = "/p"',
            "destinations.x.url = 'sftp://h/x': expected sftp:",
        ),
        ('url = "sftp://bob@h/x"\npassword_file = "/p"', "destinations.x.known_hosts_file: missing"),
        ('url = "sftp://bob@h/x"\nknown_hosts_file = "/k"', "destinations.x: expected private_key_file or"),
        ('url = "gopher://bob:hunter2@h/x"', "destinations.x.url: holds a password: leave it out"),
        ('url = "gopher://h/x?key=hunter2"', "destinations.x.url = 'gopher://h/x?key=***': expected"),
    ],
)
def test_refused_table(tmp_path: Path, table: str, said: str) -> None:
    """A table that cannot be used is refused in one line that names file, key, value and expectation, and no secret."""
    file = tmp_path / "dm.toml"
    file.write_text(f"[destinations.x]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        Registry.from_config(load(file), reactor)
    assert caught.value.message.startswith(f"{file}: {said}")
    assert "\n" not in caught.value.message
    assert "hun" not in caught.value.message


def test_options_are_the_protocols_own(build: Build, tmp_path: Path) -> None:
    """A key that its protocol asks for is taken, and checked by what the protocol says of it."""
    file = tmp_path / "dm.toml"
    file.write_text('[destinations.x]\nurl = "remote://h/"\ndepth = "deep"\n')
    with pytest.raises(ConfigError, match=r"destinations\.x\.depth = 'deep': expected a"):
        Registry.from_config(load(file), reactor, protocols=[Remote()])
    file.write_text('[destinations.x]\nurl = "remote://h/"\ndepth = 2\n')
    assert Registry.from_config(load(file), reactor, protocols=[Remote()]).names() == ("x",)


def test_built_without_connecting(build: Build, tmp_path: Path) -> None:
    """A registry is built, asked and closed without a thing being touched."""
    registry = build(here=(tmp_path / "none").as_uri())
    assert registry.get("here").at(Scope.SOURCE) is not registry.get("here").at(Scope.DESTINATION)
    assert os.listdir(tmp_path) == []


LOCATED: list[tuple[str, str | None, str, tuple[str, str] | None]] = [
    ("archive", None, "/srv/archive/a/b", ("archive", "a/b")),
    ("archive", None, "/srv/archive", ("archive", "")),
    ("archive", None, "/srv/archive/", ("archive", "")),
    ("archive", None, "/srv//archive/./a/", ("archive", "a/")),
    ("archive", None, "/srv/archives/a", ("archive", "srv/archives/a")),
    ("archive", None, "/datasets/", ("archive", "datasets/")),
    ("archive", None, "datasets/x", ("archive", "datasets/x")),
    ("archive", None, "srv/archive/x", ("archive", "srv/archive/x")),
    ("archive", None, "/", ("archive", "")),
    ("archive", None, "", ("archive", "")),
    ("archive", None, "/srv/archive/../x", ("archive", "../x")),
    ("archive", "bob", "/x", None),
    ("whole", None, "/x/y/", ("whole", "x/y/")),
    ("vis.example.org", None, "/data/x", ("vis", "x")),
    ("VIS.example.org.", None, "/data/x", ("vis", "x")),
    ("vis.example.org", None, "/data/deep/x", ("deep", "x")),
    ("vis.example.org", None, "/data/deeper/x", ("vis", "deeper/x")),
    ("vis.example.org", None, "/other/x", ("vis", "other/x")),
    ("vis.example.org", "bob", "/data/deep/x", ("vis", "deep/x")),
    ("vis.example.org", "ann", "/data/deep/x", ("deep", "x")),
    ("vis.example.org", "eve", "/data/x", None),
    ("vis", "bob", "/x", ("vis", "x")),
    ("vis", "ann", "/x", None),
    ("VIS", None, "/x", None),
    ("nowhere", None, "/x", None),
    ("", None, "/x", None),
]


@pytest.mark.parametrize(("host", "user", "path", "expected"), LOCATED)
def test_locate(build: Build, host: str, user: str | None, path: str, expected: tuple[str, str] | None) -> None:
    """A host is a name or a registered host, a user the destination's; the longest root that holds the path wins."""
    registry = build(
        archive="file:///srv/archive",
        whole="file:///",
        vis="remote://bob@vis.example.org/data",
        deep="remote://ann@vis.example.org/data/deep",
    )
    found = registry.locate(host, user, path)
    assert (None if found is None else (found[0].name, found[1])) == expected


@pytest_twisted.ensureDeferred
async def test_rehearsal(build: Build, tmp_path: Path) -> None:
    """A test of a destination goes through every step and leaves nothing behind."""
    told = await build(here=tmp_path.as_uri()).test("here")
    assert told["ok"] is True
    assert [step["step"] for step in told["steps"]] == ["connect", "authenticate", "write", "read", "replace", "delete"]
    assert all(step["ok"] and step["seconds"] >= 0.0 and "error" not in step for step in told["steps"])
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_rehearsal_that_fails(build: Build, tmp_path: Path) -> None:
    """A step that fails is the last one, and is told with the error."""
    (tmp_path / "file").write_bytes(b"")
    told = await build(here=(tmp_path / "file").as_uri()).test("here")
    assert told["ok"] is False
    [step] = told["steps"]
    assert (step["step"], step["ok"], step["error"]["code"]) == ("connect", False, "DESTINATION_INVALID")


@pytest_twisted.ensureDeferred
async def test_rehearsal_that_is_cancelled(build: Build, tmp_path: Path) -> None:
    """Who stops waiting for a test gets away at once, and still nothing is left behind."""
    registry = build(here=tmp_path.as_uri())
    testing = Deferred.fromCoroutine(registry.test("here"))
    await registry.get("here").at(Scope.SOURCE).inspect("")
    testing.cancel()
    with pytest.raises(CancelledError):
        await testing
    await registry.test("here")
    deadline = reactor.seconds() + 5.0
    while os.listdir(tmp_path) and reactor.seconds() < deadline:
        await deferLater(reactor, 0.01, lambda: None)
    assert os.listdir(tmp_path) == []


@pytest_twisted.ensureDeferred
async def test_rehearsal_of_what_only_reads(build: Build) -> None:
    """Where nothing can be written, a test connects and writes nothing."""
    told = await build(far="remote://h/").test("far")
    assert [step["step"] for step in told["steps"]] == ["connect", "authenticate"]


class Refusing:
    """A pool whose other side says no to every login."""

    def __init__(self, answer: DataMoverError) -> None:
        self.answer = answer

    def at(self, side: Scope) -> Place:
        raise AssertionError(f"used on side {side} without a connection")

    @property
    def lacks(self) -> tuple[Lack, ...]:
        return ()

    async def connect(self) -> None:
        raise self.answer

    async def close(self) -> None:
        """Nothing was opened."""


@pytest.mark.parametrize(
    ("answer", "steps"),
    [
        (AuthenticationFailed("no", scope=Scope.DESTINATION), [("connect", True), ("authenticate", False)]),
        (HostKeyMismatch("another key", scope=Scope.DESTINATION), [("connect", False)]),
        (ConnectFailed("refused", scope=Scope.DESTINATION), [("connect", False)]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_rehearsal_without_a_login(answer: DataMoverError, steps: list[tuple[str, bool]]) -> None:
    """A login that is refused is told apart from a connection that is, and nothing more is tried."""
    told = await probe(Refusing(answer), frozenset(Ability), reactor)
    assert told["ok"] is False
    assert [(step["step"], step["ok"]) for step in told["steps"]] == steps
    assert told["steps"][-1]["error"] == answer.as_dict()


@pytest_twisted.ensureDeferred
async def test_rehearsal_where_nothing_may_be_written(build: Build, open_directory: Path) -> None:
    """A directory that may not be written to is told at the step that writes."""
    (open_directory / "root").mkdir(mode=0o755)
    registry = build(here=(open_directory / "root").as_uri())
    (open_directory / "root").chmod(0o555)
    with as_nobody():
        told = await registry.test("here")
    assert [(step["step"], step["ok"]) for step in told["steps"]] == [
        ("connect", True),
        ("authenticate", True),
        ("write", False),
    ]
    assert told["steps"][-1]["error"]["code"] == "DESTINATION_FORBIDDEN"
    assert os.listdir(open_directory / "root") == []


@pytest_twisted.ensureDeferred
async def test_rehearsal_over_ssh(open_directory: Path) -> None:
    """Over a real SSH server a rehearsal goes through, or tells a strange server from a refused login."""
    sshd = Sshd(open_directory)
    sshd.start()
    stranger = open_directory / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)  # noqa: ASYNC221
    (open_directory / "no_hosts").touch()
    file = open_directory / "dm.toml"
    file.write_text(
        "".join(
            f'[destinations.{name}]\nurl = "{sshd.url}"\nknown_hosts_file = "{hosts}"\nprivate_key_file = "{key}"\n'
            for name, hosts, key in (
                ("good", sshd.known_hosts, sshd.private_key),
                ("strange", open_directory / "no_hosts", sshd.private_key),
                ("refused", sshd.known_hosts, stranger),
            )
        )
    )
    registry = Registry.from_config(load(file), reactor)
    try:
        told = {name: await registry.test(name) for name in registry.names()}
        located = registry.locate("127.0.0.1", sshd.user, f"{sshd.root}/a/")
    finally:
        await registry.close()
        sshd.stop()
    steps = {name: [(step["step"], step["ok"]) for step in each["steps"]] for name, each in told.items()}
    assert told["good"]["ok"], told["good"]
    assert [step for step, _ in steps["good"]] == ["connect", "authenticate", "write", "read", "replace", "delete"]
    assert steps["strange"] == [("connect", False)]
    assert steps["refused"] == [("connect", True), ("authenticate", False)]
    assert os.listdir(sshd.root) == []
    assert located is not None
    assert (located[0].name, located[1]) == ("good", "a/")


@pytest_twisted.ensureDeferred
async def test_close(build: Build) -> None:
    """The registry closes what it was given to read URLs with."""

    class Web:
        closed = 0

        def origin(self, url: str, *, client: str | None = None) -> Origin:
            raise AssertionError(f"{url} was read")

        async def close(self) -> None:
            self.closed += 1

    web = Web()
    registry = build(web, here="file:///srv")
    assert registry.http is web
    await registry.close()
    assert web.closed == 1
