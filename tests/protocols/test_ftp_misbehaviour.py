"""FTP servers that misbehave: what each does ends as an error that says so, or as a whole file."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols import listings
from datamover.protocols.base import Ability, Origin
from datamover.protocols.ftp.client.sessions import AT_ONCE
from datamover.protocols.part_files.names import part_path
from datamover.protocols.place import DestinationPool, Place
from datamover.protocols.upload import Saved
from tests.protocols.conformance import KEY, MIB, arrive, content, get, put, read, write
from tests.protocols.ftp import pool_at
from tests.servers.certificates import Authority
from tests.servers.wayward_ftp import PASSWORD, Doing, Session, WaywardFtp
from tests.waiting import until

DATA = content(300_000)
PART = part_path("file", KEY)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(PASSWORD)
    path.chmod(0o600)
    return path


@asynccontextmanager
async def served(
    password: Path, *, greeting: str | None = "220 wayward", patience: float = 1.0, tls: str = "none", **does: Doing
) -> AsyncIterator[tuple[WaywardFtp, DestinationPool]]:
    """Give a server that does something else than is right at some commands, and a pool for it."""
    server = WaywardFtp(does, greeting=greeting)
    server.start()
    pool = pool_at(server.url, {"password_file": str(password), "tls": tls}, timeout=patience)
    try:
        yield server, pool
    finally:
        await pool.close()
        await server.stop()


def says(text: str) -> Doing:
    """Answer a command with this, whatever it asks."""
    return lambda session, _: session.say(text)


def lacking(pool: DestinationPool) -> set[Ability]:
    return {lack.ability for lack in pool.lacks}


@pytest_twisted.ensureDeferred
async def test_right(password: Path) -> None:
    """A server that does nothing wrong is written to and read from."""
    async with served(password) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert server.files == {"/file": DATA}
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)


# The connection ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extended", ["500 what", "450 not now", "229 Entering extended passive mode"])
@pytest_twisted.ensureDeferred
async def test_pasv_that_points_elsewhere(password: Path, extended: str) -> None:
    """Data goes to the control connection's address, whatever PASV says, which is asked where EPSV tells no port."""

    def passive(session: Session, _: str) -> None:
        port = session.listen()
        session.say(f"227 Entering Passive Mode (192,0,2,1,{port // 256},{port % 256}).")

    async with served(password, EPSV=says(extended), PASV=passive) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)
        assert len(server.commands("EPSV")) == len(server.sessions)


@pytest_twisted.ensureDeferred
async def test_greeting_that_never_comes(password: Path) -> None:
    """A server that says nothing is given up after connect_timeout."""
    async with served(password, greeting=None) as (_, pool):
        with pytest.raises((errors.TimedOut, errors.Stalled)):
            await pool.connect()


@pytest.mark.parametrize("piece", [b"211-more\r\n" * 1000, b"x" * 10_000], ids=["reply", "line"])
@pytest_twisted.ensureDeferred
async def test_endless_answer(password: Path, piece: bytes) -> None:
    """A reply without end, of many lines or of one, ends the connection and not the memory."""

    def flood(session: Session, _: str) -> None:
        def go_on() -> None:
            if session.transport.connected and sent[0] < 10**8:
                sent[0] += len(piece)
                session.transport.write(piece)
                session.transport.reactor.callLater(0, go_on)

        go_on()

    sent = [0]
    async with served(password, patience=10.0, FEAT=flood) as (_, pool):
        with pytest.raises(errors.ServerError) as caught:
            await pool.connect()
    assert "does not answer as an FTP server" in caught.value.full
    assert sent[0] < 10**8


@pytest_twisted.ensureDeferred
async def test_no_ftp(password: Path) -> None:
    """A server of another protocol is told as such, with its words."""
    async with served(password, greeting="SSH-2.0-OpenSSH_9.2") as (_, pool):
        with pytest.raises(errors.ServerError) as caught:
            await pool.connect()
    assert "SSH-2.0-OpenSSH_9.2" in caught.value.full


@pytest_twisted.ensureDeferred
async def test_no_tls(password: Path) -> None:
    """Where TLS is required and the server has none, no login leaves."""
    async with served(password, tls="require") as (server, pool):
        with pytest.raises(errors.TLSFailed) as caught:
            await pool.connect()
        assert server.heard == ["AUTH TLS"]
    assert 'tls = "none"' in caught.value.full


@pytest_twisted.ensureDeferred
async def test_words_before_tls(password: Path) -> None:
    """What a server, or somebody between, says in clear behind its answer to AUTH TLS is not taken for the server's."""
    async with served(password, tls="require", AUTH=says("234 begin\r\n230 in already")) as (server, pool):
        with pytest.raises(errors.TLSFailed):
            await pool.connect()
        assert server.heard == ["AUTH TLS"]


@pytest_twisted.ensureDeferred
async def test_login_refused(password: Path) -> None:
    """A refused login says so, and the password is in no message, even if the server repeats it."""
    async with served(password, PASS=says(f"530 {PASSWORD} is not the word")) as (_, pool):
        with pytest.raises(errors.AuthenticationFailed) as caught:
            await pool.connect()
    assert "password_file" in caught.value.full
    assert PASSWORD not in caught.value.full + caught.value.message + str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        "421 Too many connections (1), try later",
        "530 Maximum logins reached",
        "530 Not logged in, only 1 sessions from same IP allowed concurrently",
    ],
)
@pytest_twisted.ensureDeferred
async def test_too_many_connections(password: Path, answer: str) -> None:
    """The first login that is refused for their number is RATE_LIMITED; a later one waits for one given back."""

    def limited(session: Session, password: str) -> None:
        if len(session.server.sessions) > most[0]:
            session.say(answer)
        else:
            session.do_PASS(password)

    most = [0]
    async with served(password, patience=5.0, PASS=limited) as (server, pool):
        with pytest.raises(errors.RateLimited):
            await pool.connect()
        most[0] = 1
        server.files["/file"] = DATA
        source = await pool.at(Scope.SOURCE).origin("file").open()
        looking = Deferred.fromCoroutine(pool.at(Scope.DESTINATION).inspect("none"))
        while await source.read():
            pass
        assert not looking.called
        await source.close()
        assert await looking is None


@pytest_twisted.ensureDeferred
async def test_one_login_is_enough(password: Path) -> None:
    """Where the server takes one login alone, a file is saved midway, placed over another and read back with it."""

    def limited(session: Session, password: str) -> None:
        if len(session.server.sessions) > 1:
            session.say("421 Too many connections")
        else:
            session.do_PASS(password)

    async def prove(origin: Origin) -> None:
        assert await read(origin) == (0, DATA)

    async with served(password, patience=5.0, PASS=limited) as (server, pool):
        server.files["/file"] = b"old"
        upload = pool.at(Scope.DESTINATION).begin("file", KEY)
        await upload.open()
        await upload.write(DATA[:100_000])
        assert (await upload.flush()).offset == 100_000
        assert server.files[f"/{PART}"] == DATA[:100_000]
        await upload.write(DATA[100_000:])
        assert (await upload.finish()).offset == len(DATA)
        await upload.close()
        await upload.commit(replace=True, prove=prove)
        assert server.files == {"/file": DATA}


@pytest_twisted.ensureDeferred
async def test_no_login_at_all(password: Path) -> None:
    """Where a server takes no login, all who want one are told so, each after one try."""
    connected: list[Session] = []

    def refuse(session: Session) -> None:
        connected.append(session)
        session.say("530 Sorry, the maximum number of clients is reached")

    async with served(password, greeting=None, patience=10.0) as (server, pool):
        server.greets = refuse
        place = pool.at(Scope.DESTINATION)
        looking = [Deferred.fromCoroutine(place.inspect("file")) for _ in range(4)]
        for each in looking:
            with pytest.raises(errors.RateLimited):
                await each
        assert len(connected) == len(looking)


@pytest_twisted.ensureDeferred
async def test_many_logins_at_once(password: Path) -> None:
    """No more connections wait to be greeted than servers queue: of those beyond, some are never answered."""
    async with served(password, greeting=None, patience=10.0) as (server, pool):
        looking = [Deferred.fromCoroutine(pool.at(Scope.DESTINATION).inspect("file")) for _ in range(20)]
        for greeted in range(0, len(looking), AT_ONCE):
            wanted = min(greeted + AT_ONCE, len(looking))
            await until(partial(lambda number: len(server.sessions) == number, wanted))
            for session in server.sessions[greeted:]:
                session.say("220 at last")
        assert await gatherResults(looking) == [None] * len(looking)


@pytest_twisted.ensureDeferred
async def test_idle_login_ended(password: Path) -> None:
    """A login that the server ended meanwhile is replaced by another."""
    async with served(password) as (server, pool):
        await pool.connect()
        [session] = server.sessions
        session.say("421 Idle too long")
        session.transport.loseConnection()
        [idle] = pool._sessions._idle  # type: ignore[attr-defined]
        await until(lambda: idle.control.failure is not None)
        server.files["/file"] = DATA
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)


@pytest_twisted.ensureDeferred
async def test_idle_logins_lost(password: Path) -> None:
    """When one of several kept logins answers no more, that costs one attempt, and not one for each."""
    async with served(password) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        server.files["/file"] = DATA
        await gatherResults([Deferred.fromCoroutine(place.inspect("file")) for _ in range(4)])
        kept = list(server.sessions)
        assert len(kept) == 4
        for session in kept:
            session.transport.pauseProducing()
        with pytest.raises(errors.Stalled):
            await place.inspect("file")
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)
        assert not pool._sessions._idle[0].control.failure  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_closed_at_the_end_of_a_transfer(password: Path) -> None:
    """A login that says 421 instead of a transfer's end is not used again."""
    closing = [True]

    def retrieve(session: Session, path: str) -> None:
        session.send(session.server.files[path], "421 Going down" if closing.pop() else "226 sent")

    async with served(password, RETR=retrieve) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(errors.ConnectionLost):
            await get(pool.at(Scope.SOURCE), "file")
        closing.append(False)
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)


@pytest_twisted.ensureDeferred
async def test_closed_at_the_end_of_an_upload(password: Path) -> None:
    """What is asked right after a login said 421 instead of an upload's end is asked over another."""

    def store(session: Session, path: str) -> None:
        session.take(lambda data: (session.keep(path, 0, data), "421 Going down")[1])

    async with served(password, STOR=store) as (server, pool):
        upload = pool.at(Scope.DESTINATION).begin("file", KEY)
        for way in (partial(write, upload, DATA), partial(upload.store, DATA, replace=False, commit=lambda: None)):
            with pytest.raises(errors.ConnectionLost):
                await way()
            await upload.abort()
            assert server.files == {}


@pytest.mark.parametrize("greeting", ["220 wayward", "220 vsftpd"])
@pytest.mark.parametrize("extra", ["226 closed", "426 again", "250 closed", "451 closed", "200 closed", "213 7"])
@pytest_twisted.ensureDeferred
async def test_a_word_too_many(password: Path, greeting: str, extra: str) -> None:
    """What a server says once more of a transfer that was given up is no answer to what is asked next."""
    large = content(6 * MIB)

    def retrieve(session: Session, path: str) -> None:
        session.send(session.server.files[path], "226 sent" if path != "/large" else f"426 given up\r\n{extra}")

    def wait(session: Session, _: str) -> None:
        session.transport.pauseProducing()

        def answer() -> None:
            session.say("200 here")
            session.transport.resumeProducing()

        reactor.callLater(0.03, answer)

    async with served(password, greeting=greeting, RETR=retrieve, NOOP=wait) as (server, pool):
        server.files = {"/large": large, "/b": b"bb", "/c": DATA}
        reading, writing = pool.at(Scope.SOURCE), pool.at(Scope.DESTINATION)
        source = await reading.origin("large").open()
        assert await source.read()
        await source.close()
        idle = pool._sessions._idle  # type: ignore[attr-defined]
        await until(lambda: len(idle) == 1 or not server.sessions)
        refused = []
        for name in ("b", "c"):
            try:
                assert (await reading.inspect(name)).size == len(server.files[f"/{name}"])  # type: ignore[union-attr]
            except (errors.ServerError, errors.ConnectionLost) as error:
                refused.append(error)
        await put(writing, "b", b"new", replace=True)
        await writing.remove("c")
        assert server.files == {"/large": large, "/b": b"new"}
        assert len(refused) == (extra == "200 closed")


@pytest.mark.parametrize("again", ["226 sent", "426 sent"])
@pytest_twisted.ensureDeferred
async def test_ends_that_are_told_twice(password: Path, again: str) -> None:
    """A server that tells the end of each transfer twice is written to and read from."""

    def retrieve(session: Session, path: str) -> None:
        session.send(session.server.files[path], f"226 sent\r\n{again}")

    def store(session: Session, path: str) -> None:
        session.take(lambda data: f"{session.keep(path, 0, data)}\r\n{again}")

    async with served(password, RETR=retrieve, STOR=store) as (server, pool):
        for data in (DATA, b"small"):
            await put(pool.at(Scope.DESTINATION), "file", data, replace=True)
            assert server.files == {"/file": data}
            assert await get(pool.at(Scope.SOURCE), "file") == (0, data)


@pytest.mark.parametrize("name", ["a\nDELE file", "a\r", "a\0"])
@pytest_twisted.ensureDeferred
async def test_names_that_are_commands(password: Path, name: str) -> None:
    """A name that would be two commands is refused, and not sent."""
    async with served(password) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(errors.SourceForbidden):
            await pool.at(Scope.SOURCE).origin(name).open()
        with pytest.raises(errors.DestinationInvalid):
            await put(pool.at(Scope.DESTINATION), name, b"")
        assert not any("DELE" in line or line[-1:] == "a" for line in server.heard)


@pytest.mark.parametrize("lists", [True, False])
@pytest_twisted.ensureDeferred
async def test_names_kept_otherwise(password: Path, lists: bool) -> None:
    """A server that keeps another name than it says is found out before a file is placed over a wrong one."""

    async def store(place: Place, path: str, data: bytes) -> None:
        await place.begin(path, KEY).store(data, replace=True, commit=lambda: None)

    def kept(path: str) -> str:
        return f"{path[:-1]}_" if path.endswith(" ") else path

    does: dict[str, Any] = {
        "STOR": lambda session, path: session.do_STOR(kept(path)),
        "RNTO": lambda session, path: session.do_RNTO(kept(path)),
    }
    if not lists:
        does["LIST"] = does["NLST"] = says("550 no lists")
    async with served(password, **does) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        server.files["/trail_"] = b"of another"
        for way in (put, store):
            if lists:
                with pytest.raises(errors.DestinationInvalid, match=r"keeps otherwise \(' ' as '_'\)"):
                    await way(place, "trail ", DATA)
        assert server.files == {"/trail_": b"of another"}
        for _ in range(2):
            await put(place, "plain?", DATA, replace=True)
        tries = [line for line in server.commands("STOR") if ".trial" in line]
        assert tries == ["STOR /.datamover-1-0a1b.part.trial "] * 2 * lists + ["STOR /.datamover-1-0a1b.part.trial?-"]


@pytest_twisted.ensureDeferred
async def test_a_backslash_that_is_a_slash(password: Path) -> None:
    """A server that takes "\\" for "/", and makes the directory at a rename (copyparty), gets no such name."""

    def store(session: Session, path: str) -> None:
        if "\\" in path:
            session.say("550 no such directory")
        else:
            session.do_STOR(path)

    async with served(password, STOR=store, RNTO=lambda s, path: s.do_RNTO(path.replace("\\", "/"))) as (server, pool):
        with pytest.raises(errors.DestinationInvalid, match="name"):
            await put(pool.at(Scope.DESTINATION), "a\\b", DATA)
        assert "/a/b" not in server.files


@pytest.mark.parametrize(("word", "times"), [("STOR", 1), ("LIST", 2)])
@pytest_twisted.ensureDeferred
async def test_a_name_that_cannot_be_tried_yet(password: Path, word: str, times: int) -> None:
    """What the server does not let be tried for now is not taken for a name that it keeps."""
    later = [says("451 not now")] * times
    does: dict[str, Any] = {
        "STOR": lambda session, path: session.do_STOR(f"{path[:-1]}_" if path.endswith(" ") else path),
        "NLST": says("502 unknown"),
    }
    usual = does.get(word, lambda session, path: getattr(session, f"do_{word}")(path))
    does[word] = lambda session, path: (later.pop() if later else usual)(session, path)
    async with served(password, **does) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        with pytest.raises(errors.DataMoverError) as caught:
            await put(place, "trail ", DATA)
        assert caught.value.retryable
        with pytest.raises(errors.DestinationInvalid, match="keeps otherwise"):
            await put(place, "trail ", DATA)
        assert server.files == {}


# Data connections -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_data_connection_refused(password: Path) -> None:
    """A data connection that cannot be made is an error that names the port."""

    def nowhere(session: Session, _: str) -> None:
        port = session.listen()
        session.shut()
        session.say(f"229 here (|||{port}|)")

    async with served(password, patience=60.0, EPSV=nowhere, RETR=lambda session, _: None) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(errors.ConnectFailed) as caught:
            await get(pool.at(Scope.SOURCE), "file")
    assert "passive ports" in caught.value.full


@pytest.mark.parametrize("verb", ["RETR", "STOR"])
@pytest_twisted.ensureDeferred
async def test_transfer_that_never_begins(password: Path, verb: str) -> None:
    """A server that answers a transfer with nothing is given up after idle_timeout."""
    silent: dict[str, Any] = {verb: lambda session, _: None}
    async with served(password, **silent) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(errors.Stalled) as caught:
            await (get(pool.at(Scope.SOURCE), "file") if verb == "RETR" else put(pool.at(Scope.DESTINATION), "f", DATA))
        assert f"does not answer {verb} within" in caught.value.full


@pytest.mark.parametrize("verb", ["RETR", "STOR"])
@pytest_twisted.ensureDeferred
async def test_data_that_stops(password: Path, verb: str) -> None:
    """A data connection over which nothing moves any more is given up after idle_timeout."""

    def begin(session: Session, _: str) -> None:
        session.say("150 begun")
        assert session.data is not None
        own = session.data
        own.made.addCallback(lambda _: own.transport.pauseProducing())

    stopping: dict[str, Any] = {verb: begin}
    async with served(password, **stopping) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(errors.Stalled) as caught:
            await (
                get(pool.at(Scope.SOURCE), "file")
                if verb == "RETR"
                else put(pool.at(Scope.DESTINATION), "f", bytes(16 * MIB))
            )
        assert "data connection" in caught.value.full


@pytest.mark.parametrize("data", [b"", content(8 * MIB)], ids=["empty", "large"])
@pytest_twisted.ensureDeferred
async def test_beginnings_that_are_not_told(password: Path, data: bytes) -> None:
    """A server that says nothing before a transfer has ended is sent the file, and has it read."""

    def take(session: Session, path: str) -> None:
        assert session.data is not None
        session.data.ended.addCallback(lambda data: session.say(session.keep(path, 0, data)))

    def send(session: Session, path: str) -> None:
        assert session.data is not None
        own, data = session.data, session.server.files[path]
        own.made.addCallback(lambda _: (own.transport.write(data), own.transport.loseConnection()))
        own.ended.addCallback(lambda _: session.say("226 sent"))

    async with served(password, STOR=take, RETR=send) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "file", data)
        assert server.files == {"/file": data}
        assert await get(pool.at(Scope.SOURCE), "file") == (0, data)


@pytest_twisted.ensureDeferred
async def test_end_told_before_the_data(password: Path) -> None:
    """A 226 that comes before the last bytes does not end the file."""

    def early(session: Session, path: str) -> None:
        session.say("150 here it comes\r\n226 sent")
        assert session.data is not None
        own = session.data

        def connected(_: object) -> None:
            own.transport.write(DATA[:1000])
            session.transport.reactor.callLater(0.05, own.transport.write, DATA[1000:])
            session.transport.reactor.callLater(0.1, own.transport.loseConnection)

        own.made.addCallback(connected)

    async with served(password, RETR=early) as (server, pool):
        server.files["/file"] = DATA
        assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)


@pytest.mark.parametrize("sent", [len(DATA), len(DATA) - 1, 0])
@pytest_twisted.ensureDeferred
async def test_data_connection_that_is_not_closed(password: Path, sent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says that it has sent all, and keeps the data connection, is believed where all has come."""
    monkeypatch.setattr("datamover.protocols.ftp.client.data.LEFT_OPEN", 0.1)

    def keep(session: Session, path: str) -> None:
        session.say("150 here it comes")
        assert session.data is not None
        own = session.data

        def connected(_: object) -> None:
            own.transport.write(DATA[:sent])
            session.say("226 sent")

        own.made.addCallback(connected)

    async with served(password, patience=5.0, RETR=keep) as (server, pool):
        server.files["/file"] = DATA
        reading = get(pool.at(Scope.SOURCE), "file")
        if sent == len(DATA):
            assert await reading == (0, DATA)
        else:
            with pytest.raises(errors.SizeMismatch, match=f"{sent}"):
                await reading


@pytest.mark.parametrize("reply", ["226 sent", "426 Connection closed; transfer aborted", "451 disk trouble"])
@pytest_twisted.ensureDeferred
async def test_download_cut_short(password: Path, reply: str) -> None:
    """A file that comes with fewer bytes than the server tells is an error, whatever the server says of it."""
    async with served(password, RETR=lambda session, path: session.send(DATA[:-1], reply)) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(DataMoverError) as caught:
            await get(pool.at(Scope.SOURCE), "file")
    assert (caught.value.scope, caught.value.retryable) == (Scope.SOURCE, True)


@pytest_twisted.ensureDeferred
async def test_download_too_long(password: Path) -> None:
    """More bytes than the server told of are an error: the file grew."""
    async with served(password, RETR=lambda session, path: session.send(DATA + b"x")) as (server, pool):
        server.files["/file"] = DATA
        with pytest.raises(errors.SourceChanged):
            await get(pool.at(Scope.SOURCE), "file")


REFUSED: list[tuple[str, type[DataMoverError]]] = [
    ("452 Insufficient storage", errors.NoSpace),
    ("552 Exceeded storage allocation", errors.QuotaExceeded),
    ("451 Write failed: No space left on device", errors.NoSpace),
    ("550 Quota exceeded", errors.QuotaExceeded),
    ("426 Connection closed; transfer aborted", errors.ConnectionLost),
    ("425 Can't open data connection", errors.ConnectFailed),
    ("451 Local error in processing", errors.ServerError),
    ("553 File name not allowed", errors.DestinationForbidden),
    ("522 session reuse required", errors.TLSFailed),
    ("530 Not logged in", errors.AuthenticationFailed),
]


@pytest.mark.parametrize(("reply", "kind"), REFUSED, ids=[reply for reply, _ in REFUSED])
@pytest_twisted.ensureDeferred
async def test_upload_refused(password: Path, reply: str, kind: type[DataMoverError]) -> None:
    """What a server says at the end of an upload is told by its kind; the same before it begins."""
    for doing in (lambda session, _: session.take(lambda data: reply), says(reply)):
        async with served(password, STOR=doing) as (server, pool):
            with pytest.raises(kind) as caught:
                await put(pool.at(Scope.DESTINATION), "file", DATA)
            assert caught.value.scope is Scope.DESTINATION
            assert server.files == {}


@pytest_twisted.ensureDeferred
async def test_directory_that_vanished(password: Path) -> None:
    """A server that says only at the end that a directory is not there any more has it made again."""

    def keep(session: Session, path: str, data: bytes) -> str:
        there = path.rpartition("/")[0] in session.server.directories
        return session.keep(path, 0, data) if there else "550 ENOENT: no such file or directory"

    async with served(password, STOR=lambda session, path: session.take(partial(keep, session, path))) as (
        server,
        pool,
    ):
        place = pool.at(Scope.DESTINATION)
        await put(place, "in/one", DATA)
        server.directories.remove("/in")
        with pytest.raises(errors.ServerError, match="in/two': its directory was removed") as caught:
            await put(place, "in/two", DATA)
        assert caught.value.retryable
        await put(place, "in/two", DATA)
        assert server.files["/in/two"] == DATA


@pytest_twisted.ensureDeferred
async def test_name_too_long_for_now(password: Path) -> None:
    """A name that is too long is told as such, though the server says that it may be tried again."""
    async with served(password, RNTO=says("451 Rename/move failure: File name too long")) as (_, pool):
        with pytest.raises(errors.DestinationInvalid, match="shorten it"):
            await put(pool.at(Scope.DESTINATION), "n" * 256, DATA)


@pytest.mark.parametrize("room", [None, 0])
@pytest_twisted.ensureDeferred
async def test_upload_given_up_without_a_word(password: Path, room: int | None) -> None:
    """Where a server ends the data connection and says nothing more, that is told; of a full disk its room tells."""

    def store(session: Session, _: str) -> None:
        session.say("150 send it")
        assert session.data is not None
        session.data.most, session.data.end = 1000, "abortConnection"

    does = {"STOR": store} if room is None else {"STOR": store, "FEAT": says("211-so:\r\n AVBL\r\n211 end")}
    async with served(password, AVBL=says(f"213 {room}"), **does) as (server, pool):
        upload = pool.at(Scope.DESTINATION).begin("file", KEY)
        for way in (write(upload, DATA), upload.store(DATA, replace=False, commit=lambda: None)):
            with pytest.raises(errors.ConnectionLost if room is None else errors.NoSpace) as caught:
                await way
            assert caught.value.scope is Scope.DESTINATION
            assert ("does not say why" if room is None else "no space is left") in caught.value.message
        await upload.abort()
        assert server.files == {}


# What is not true -------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_upload_kept_in_part(password: Path) -> None:
    """A server that says 226 and has kept less is found out by its size, by either way, and nothing has the name."""

    def less(session: Session, path: str) -> None:
        session.take(lambda data: session.keep(path, 0, data[:-1]))

    async with served(password, STOR=less) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        assert (await write(place.begin("file", KEY), DATA)).offset == len(DATA) - 1
        with pytest.raises(errors.SizeMismatch):
            await place.begin("file", KEY).store(DATA, replace=True, commit=lambda: None)
        assert "/file" not in server.files


def empties(session: Session, path: str, data: bytes) -> str:
    return session.keep(path, 0, data)


def appends(session: Session, path: str, data: bytes) -> str:
    return session.keep(path, len(session.server.files[path]), data)


@pytest.mark.parametrize("lie", [empties, appends])
@pytest_twisted.ensureDeferred
async def test_rest_that_is_a_lie(password: Path, lie: Callable[[Session, str, bytes], str]) -> None:
    """A server that writes elsewhere than REST said is found out; what is written on is written anew from then on."""

    def store(session: Session, path: str) -> None:
        if session.offset:
            session.offset = 0
            session.take(lambda data: lie(session, path, data))
        else:
            session.do_STOR(path)

    async with served(password, STOR=store) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        server.files[f"/{PART}"] = DATA[:200_000]
        with pytest.raises(errors.SizeMismatch):
            await write(place.resume("file", Saved(100_000, PART)), DATA[100_000:])
        assert Ability.RESUME in place.lacks
        await put(place, "file", DATA)
        assert server.files == {"/file": DATA}


@pytest_twisted.ensureDeferred
async def test_rest_that_empties_at_once(password: Path) -> None:
    """A server that empties the file when it is to be written on is found out before a byte is sent."""

    def store(session: Session, path: str) -> None:
        session.server.files[path] = b""
        session.take(lambda data: session.keep(path, 0, data))

    async with served(password, STOR=store) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        server.files[f"/{PART}"] = DATA
        with pytest.raises(errors.SizeMismatch):
            await place.resume("file", Saved(100_000, PART)).open()
        assert Ability.RESUME in lacking(pool)


@pytest_twisted.ensureDeferred
async def test_rest_that_is_a_lie_to_a_reader(password: Path) -> None:
    """A server that sends from the beginning whatever REST says is found out, and read from the beginning then."""
    async with served(password, RETR=lambda session, path: session.send(session.server.files[path])) as (server, pool):
        server.files["/file"] = DATA
        place = pool.at(Scope.SOURCE)
        identity = (await place.origin("file").inspect()).identity
        with pytest.raises(errors.SourceChanged):
            await get(place, "file", offset=1000, identity=identity)
        assert await get(place, "file", offset=1000, identity=identity) == (0, DATA)


def refuses_existing(session: Session, path: str) -> None:
    if path in session.server.files:
        session.say("553 file exists")
    else:
        session.do_RNTO(path)


@pytest_twisted.ensureDeferred
async def test_no_rename_onto_a_file(password: Path) -> None:
    """Where a server does not rename onto a file, the old one is set aside, and that is learnt."""
    async with served(password, RNTO=refuses_existing) as (server, pool):
        server.files["/file"] = b"old"
        place = pool.at(Scope.DESTINATION)
        await put(place, "file", DATA, replace=True)
        assert server.files == {"/file": DATA}
        assert server.directories == {"/"}
        assert Ability.REPLACE_ATOMICALLY in place.lacks


@pytest_twisted.ensureDeferred
async def test_old_file_comes_back(password: Path) -> None:
    """Where the new file does not get the name of the one set aside, the old one has it again."""

    def rename(session: Session, path: str) -> None:
        if session.old.endswith(".part"):
            session.say("553 not today")
        else:
            session.do_RNTO(path)

    async with served(password, RNTO=rename) as (server, pool):
        server.files["/file"] = b"old"
        with pytest.raises(errors.DestinationForbidden):
            await put(pool.at(Scope.DESTINATION), "file", DATA, replace=True)
        assert server.files["/file"] == b"old"
        assert server.directories == {"/"}


@pytest_twisted.ensureDeferred
async def test_set_aside_by_one_that_died(password: Path) -> None:
    """What an attempt had set aside when it died has its name again once its part file is removed or placed."""
    aside = f"/{PART}.set-aside"
    for again in (True, False):
        async with served(password, RNTO=refuses_existing) as (server, pool):
            place = pool.at(Scope.DESTINATION)
            server.directories.add(aside)
            server.files[f"{aside}/file"] = b"old"
            upload, _ = await arrive(place, "file", DATA)
            if again:
                await upload.commit(replace=True)
                assert server.files == {"/file": DATA}
            else:
                await upload.abort()
                assert server.files == {"/file": b"old"}
            assert server.directories == {"/"}


@pytest_twisted.ensureDeferred
async def test_placed_by_one_that_died(password: Path) -> None:
    """What an attempt had set aside when it died after it had placed its file is given up by the next one."""
    aside = f"/{PART}.set-aside"
    async with served(password, RNTO=refuses_existing) as (server, pool):
        server.directories.add(aside)
        server.files |= {f"{aside}/file": b"older", "/file": b"old"}
        await put(pool.at(Scope.DESTINATION), "file", DATA, replace=True)
        assert server.files == {"/file": DATA}
        assert server.directories == {"/"}


@pytest_twisted.ensureDeferred
async def test_rename_that_is_none(password: Path) -> None:
    """A rename that is answered OK and not done is found out, also where the old file has the same size."""
    async with served(password, RNTO=says("250 renamed")) as (server, pool):
        server.files["/file"] = bytes(len(DATA))
        with pytest.raises(errors.ServerError):
            await put(pool.at(Scope.DESTINATION), "file", DATA, replace=True)
        assert server.files["/file"] == bytes(len(DATA))
        with pytest.raises(errors.ServerError):
            await put(pool.at(Scope.DESTINATION), "other", DATA)


@pytest_twisted.ensureDeferred
async def test_no_sizes(password: Path) -> None:
    """Where a server has no SIZE and no STAT, its listings tell what is there."""
    none: dict[str, Any] = {"SIZE": says("502 no"), "STAT": says("502 no")}
    async with served(password, **none) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert server.files == {"/file": DATA}


@pytest.mark.parametrize("data", [b"", DATA], ids=["empty", "large"])
@pytest_twisted.ensureDeferred
async def test_sizes_that_are_no_numbers(password: Path, data: bytes) -> None:
    """Where SIZE is answered by words (ftp-srv, of an empty file), a file is measured by reading it."""

    def words(session: Session, path: str) -> None:
        session.say("213 File status" if path in session.server.files else "550 no such file")

    async with served(password, SIZE=words) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "file", data)
        assert server.files == {"/file": data}
        assert await get(pool.at(Scope.SOURCE), "file") == (0, data)


@pytest_twisted.ensureDeferred
async def test_nothing_there_in_other_words(password: Path) -> None:
    """Where MLST tells that nothing is there (pure-ftpd has words of its own), no directory of that name is entered."""

    def facts(session: Session, path: str) -> None:
        found = session.server.files.get(path)
        told = f"250-so\r\n type=file;size={len(found or b'')};modify=20240101000000; {path}\r\n250 end"
        session.say("550 Can't check for file existence" if found is None else told)

    async with served(password, FEAT=says("211-so:\r\n MLST type*;\r\n211 end"), MLST=facts) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "file", DATA, replace=True)
        assert server.files == {"/file": DATA}
        assert set(server.commands("CWD")) == {"CWD /"}


@pytest_twisted.ensureDeferred
async def test_directories_that_would_be_removed(password: Path) -> None:
    """A server that removes a directory as a file, with all that is in it (copyparty's), is not asked to."""

    def remove(session: Session, path: str) -> None:
        session.server.directories.discard(path)
        session.do_DELE(path)

    async with served(password, DELE=remove) as (server, pool):
        server.directories.add("/directory")
        server.files = {"/file": DATA}
        place = pool.at(Scope.DESTINATION)
        with pytest.raises(errors.DestinationInvalid, match="is a directory"):
            await place.remove("directory")
        for name in ("file", "none"):
            await place.remove(name)
        assert (server.directories, server.files) == ({"/", "/directory"}, {})


@pytest_twisted.ensureDeferred
async def test_sizes_of_directories(password: Path) -> None:
    """A directory of which a size is told (ftp-srv, Twisted) is one still: no file takes its place."""

    def size(session: Session, path: str) -> None:
        if path in session.server.directories:
            session.say("213 4096")
        else:
            session.do_SIZE(path)

    async with served(password, SIZE=size) as (server, pool):
        server.directories.add("/directory")
        place = pool.at(Scope.DESTINATION)
        found = await place.inspect("directory")
        assert found is not None
        assert found.directory
        for replace in (True, False):
            with pytest.raises(errors.DestinationInvalid, match="is a directory"):
                await put(place, "directory", DATA, replace=replace)
        assert server.directories == {"/", "/directory"}
        assert not server.commands("RNFR")


@pytest_twisted.ensureDeferred
async def test_rest_that_waits_for_the_data_connection(password: Path) -> None:
    """A server that answers nothing before it has the data connection (Twisted's) is gone on with all the same."""

    def rest(session: Session, offset: str) -> None:
        assert session.data is not None
        session.data.made.addCallback(lambda _: session.do_REST(offset))

    async with served(password, REST=rest) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        server.files[f"/{PART}"] = DATA[:100_000]
        await write(place.resume("file", Saved(100_000, PART)), DATA[100_000:])
        assert server.files == {f"/{PART}": DATA}


@pytest.mark.parametrize("broken", [True, False])
@pytest_twisted.ensureDeferred
async def test_download_of_no_known_size(password: Path, broken: bool) -> None:
    """Where no size is told, a connection that broke is no end of a file, though the server says that all was sent."""

    def send(session: Session, path: str) -> None:
        session.say("150 here it comes")
        assert session.data is not None
        own = session.data

        def connected(_: object) -> None:
            own.transport.write(DATA)
            end = own.transport.abortConnection if broken else own.transport.loseConnection
            session.transport.reactor.callLater(0.05, end)
            session.transport.reactor.callLater(0.1, session.say, "226 sent")

        own.made.addCallback(connected)

    facts = says("250-so\r\n type=file;modify=20240101000000; file\r\n250 end")
    async with served(password, FEAT=says("211-so:\r\n MLST type*;\r\n211 end"), MLST=facts, RETR=send) as (_, pool):
        if broken:
            with pytest.raises(errors.ConnectionLost):
                await get(pool.at(Scope.SOURCE), "file")
        else:
            assert await get(pool.at(Scope.SOURCE), "file") == (0, DATA)


@pytest_twisted.ensureDeferred
async def test_words_that_clients_do_not_see(password: Path) -> None:
    """A server's words with paths are for administrators: not in what clients are told of an error, or of a lack."""
    secret: dict[str, Any] = {"SITE": says("550 /srv/customers/x: denied"), "RNFR": says("550 /srv/customers/x: no")}
    async with served(password, **secret) as (_, pool):
        with pytest.raises(errors.DestinationForbidden) as caught:
            await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert "/srv/customers" in caught.value.full
        assert "/srv/customers" not in caught.value.message
        assert Ability.SET_MODE in lacking(pool)
        assert not any("/srv/customers" in lack.why for lack in pool.lacks)


@pytest_twisted.ensureDeferred
async def test_written_after_it_is_told(password: Path) -> None:
    """A server that says that all has arrived before it has written it is waited for, by either way of storing."""

    def store(session: Session, path: str) -> None:
        def later(data: bytes) -> str:
            session.server.files[path] = data[:10]
            session.transport.reactor.callLater(0.1, session.keep, path, 0, data)
            return "226 kept"

        session.take(later)

    async with served(password, STOR=store) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        await put(place, "file", DATA)
        assert server.files == {"/file": DATA}
        await place.begin("file", KEY).store(DATA[:1000], replace=True, commit=lambda: None)
        assert server.files == {"/file": DATA[:1000]}


@pytest_twisted.ensureDeferred
async def test_names_alone(password: Path) -> None:
    """A server that lists names alone, hidden ones among them without being asked, has its files found and swept."""

    def names(session: Session, argument: str) -> None:
        if argument:
            session.say("550 no such file")
        else:
            session.send(b"".join(path[1:].encode() + b"\r\n" for path in session.server.files))

    async with served(password, LIST=says("502 no"), STAT=says("502 no"), NLST=names) as (server, pool):
        place = pool.at(Scope.DESTINATION)
        server.files |= {f"/{PART}": b"left", "/other": b"kept"}
        assert await place.list("") == sorted([PART, "other"])
        await place.sweep("file", KEY.transfer, check=lambda: None)
        await put(place, "file", DATA)
        assert server.files == {"/file": DATA, "/other": b"kept"}


@pytest.mark.parametrize("answer", ["502 not implemented", "550 permission denied"])
@pytest_twisted.ensureDeferred
async def test_no_lists(password: Path, answer: str) -> None:
    """A server that lists nothing, by no command, takes files all the same."""
    async with served(password, LIST=says(answer), NLST=says(answer), STAT=says(answer)) as (server, pool):
        await put(pool.at(Scope.DESTINATION), "new/file", DATA)
        assert server.files == {"/new/file": DATA}


@pytest.mark.parametrize("verb", ["PBSZ", "PROT"])
@pytest_twisted.ensureDeferred
async def test_data_in_clear(tmp_path: Path, password: Path, verb: str) -> None:
    """Where a server takes the login with TLS and refuses it for the data, nothing moves."""
    authority = Authority(tmp_path)

    def secure(session: Session, _: str) -> None:
        session.say("234 begin")
        session.transport.startTLS(authority.server())

    right = {"AUTH": secure, "PBSZ": says("200 ok"), "PROT": says("200 ok")}
    server = WaywardFtp({**right, verb: says("536 not supported")})
    server.start()
    pool = pool_at(server.url, {"password_file": str(password), "ca_file": str(authority.file)})
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await put(pool.at(Scope.DESTINATION), "file", DATA)
        assert "has no TLS for the data" in caught.value.full
        assert not caught.value.retryable
        assert server.commands("STOR") == []
        assert server.files == {}
    finally:
        await pool.close()
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_a_listing_that_trickles(password: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that brings a byte now and then is given up, with a sentence."""
    monkeypatch.setattr(listings, "LISTING_SECONDS", 0.5)
    ended: list[bool] = []

    def trickle(session: Session, _: str) -> None:
        session.say("150 here it comes")
        assert session.data is not None
        own = session.data
        sending = LoopingCall(lambda: own.transport.write(b"-"))
        own.made.addCallback(lambda _: sending.start(0.05))

        def end(_: object) -> None:
            sending.stop()
            ended.append(True)

        own.ended.addCallback(end)

    async with served(password, LIST=trickle) as (_, pool):
        with pytest.raises(
            errors.TimedOut, match=r"destination 'place': .*a listing has not come to its end within 0.5 s"
        ):
            await pool.at(Scope.SOURCE).list("")
        await until(lambda: ended)
