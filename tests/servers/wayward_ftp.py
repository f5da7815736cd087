"""An FTP server in this process, without TLS, that does as a test says: right where the test says nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

USER, PASSWORD = "portal", "secret-word"
Doing = Callable[["Session", str], object]
"""What a session does with a command's argument, instead of what is right."""


@dataclass(slots=True)
class Break:
    """All connections are to break at a command that is so many ahead, before it is done or, ``done``, unanswered."""

    ahead: int
    done: bool


class WaywardFtp:
    """The server; ``files`` are its files, ``does`` the deviations by command, ``heard`` every command it got."""

    def __init__(self, does: dict[str, Doing] | None = None, *, greeting: str | None = "220 wayward") -> None:
        """Without a ``greeting`` it says nothing to who connects."""
        self.files: dict[str, bytes] = {}
        self.directories = {"/"}
        self.does = does or {}
        self.greets: Callable[[Session], object] = lambda session: None if greeting is None else session.say(greeting)
        self.heard: list[str] = []
        self.breaks: Break | None = None
        self.sessions: list[Session] = []
        self._port: Any = None

    @property
    def url(self) -> str:
        return f"ftp://{USER}@127.0.0.1:{self._port.getHost().port}/"

    def start(self) -> None:
        factory: Any = Factory.forProtocol(lambda: Session(self))
        factory.noisy = False
        self._port = reactor.listenTCP(0, factory, interface="127.0.0.1")

    async def stop(self) -> None:
        await self._port.stopListening()
        for session in tuple(self.sessions):
            await session.end()

    def break_all(self) -> None:
        """End every connection at once, data connections too."""
        self.breaks = None
        for session in tuple(self.sessions):
            session.transport.abortConnection()

    def commands(self, verb: str) -> list[str]:
        """Return what was heard of one command."""
        return [line for line in self.heard if line.split(" ")[0] == verb]


class Session(LineReceiver):
    """One control connection."""

    transport: Any
    delimiter = b"\r\n"

    def __init__(self, server: WaywardFtp) -> None:
        self.server = server
        self.offset = 0
        self.old = ""
        self.where = "/"
        self.data: Data | None = None
        self._mute = False
        self._listening: Any = None
        self._gone: Deferred[None] = Deferred()

    async def end(self) -> None:
        self.transport.abortConnection()
        await self._gone

    def connectionMade(self) -> None:  # noqa: N802
        self.server.sessions.append(self)
        self.transport.setTcpNoDelay(True)
        self.server.greets(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.server.sessions.remove(self)
        self.shut()
        if self.data is not None and self.data.transport is not None:
            self.data.transport.abortConnection()
        self._gone.callback(None)

    def shut(self) -> None:
        if self._listening is not None:
            self._listening.stopListening()
            self._listening = None

    def say(self, text: str) -> None:
        if not self._mute:
            self.transport.write(text.encode() + b"\r\n")

    def lineReceived(self, line: bytes) -> None:  # noqa: N802
        text = line.decode()
        self.server.heard.append(text)
        breaks = self.server.breaks
        if breaks is not None and not breaks.ahead:
            self._mute = True
            if breaks.done:
                self._do(text)
            self.server.break_all()
        elif not self._mute:
            if breaks is not None:
                breaks.ahead -= 1
            self._do(text)

    def _do(self, text: str) -> None:
        verb, _, argument = text.partition(" ")
        if verb in self.server.does:
            self.server.does[verb](self, argument)
        else:
            getattr(self, f"do_{verb}", self._unknown)(argument)

    def _unknown(self, _: str) -> None:
        self.say("500 not understood")

    # What is right ------------------------------------------------------------------------------------------------

    def do_USER(self, _: str) -> None:  # noqa: N802
        self.say("331 password")

    def do_PASS(self, password: str) -> None:  # noqa: N802
        self.say("230 in" if password == PASSWORD else "530 Login incorrect")

    def do_FEAT(self, _: str) -> None:  # noqa: N802
        self.say("211-so:\r\n REST STREAM\r\n SIZE\r\n MDTM\r\n211 end")

    def do_TYPE(self, _: str) -> None:  # noqa: N802
        self.say("200 binary")

    def do_NOOP(self, _: str) -> None:  # noqa: N802
        self.say("200 here")

    def do_QUIT(self, _: str) -> None:  # noqa: N802
        self.say("221 bye")
        self.transport.loseConnection()

    def do_PWD(self, _: str) -> None:  # noqa: N802
        self.say(f'257 "{self.where}" it is')

    def do_CWD(self, path: str) -> None:  # noqa: N802
        if path in self.server.directories:
            self.where = path
            self.say("250 there")
        else:
            self.say("550 no such file or directory")

    def do_MKD(self, path: str) -> None:  # noqa: N802
        if path in self.server.directories:
            self.say("550 it is there")
        else:
            self.server.directories.add(path)
            self.say(f'257 "{path}" made')

    def do_RMD(self, path: str) -> None:  # noqa: N802
        self.server.directories.remove(path)
        self.say("250 removed")

    def do_SIZE(self, path: str) -> None:  # noqa: N802
        found = self.server.files.get(path)
        self.say("550 no such file" if found is None else f"213 {len(found)}")

    def do_MDTM(self, path: str) -> None:  # noqa: N802
        self.say("213 20240101000000" if path in self.server.files else "550 no such file")

    def do_STAT(self, path: str) -> None:  # noqa: N802
        found = self.server.files.get(path)
        line = "" if found is None else f"-rw-r--r-- 1 u g {len(found)} Jan 1 2024 {path.rpartition('/')[2]}\r\n"
        self.say(f"213-so:\r\n{line}213 end")

    def do_DELE(self, path: str) -> None:  # noqa: N802
        self.say("550 no such file" if self.server.files.pop(path, None) is None else "250 removed")

    def do_RNFR(self, path: str) -> None:  # noqa: N802
        self.old = path
        self.say("350 whereto" if path in self.server.files else "550 no such file")

    def do_RNTO(self, path: str) -> None:  # noqa: N802
        self.server.files[path] = self.server.files.pop(self.old)
        self.say("250 renamed")

    def do_REST(self, offset: str) -> None:  # noqa: N802
        self.offset = int(offset)
        self.say("350 from there")

    def do_EPSV(self, _: str) -> None:  # noqa: N802
        self.say(f"229 here (|||{self.listen()}|)")

    def do_LIST(self, _: str) -> None:  # noqa: N802
        lines = [
            f"-rw-r--r-- 1 u g {len(data)} Jan 1 2024 {path.rpartition('/')[2]}\r\n"
            for path, data in self.server.files.items()
            if path.rpartition("/")[0] == self.where.rstrip("/")
        ]
        above = self.where.rstrip("/")
        lines += [
            f"drwxr-xr-x 1 u g 0 Jan 1 2024 {path.rpartition('/')[2]}\r\n"
            for path in self.server.directories
            if path != "/" and path.rpartition("/")[0] == above
        ]
        self.send("".join(lines).encode())

    def do_RETR(self, path: str) -> None:  # noqa: N802
        offset, self.offset = self.offset, 0
        self.send(self.server.files[path][offset:])

    def do_STOR(self, path: str) -> None:  # noqa: N802
        offset, self.offset = self.offset, 0
        self.take(lambda data: self.keep(path, offset, data))

    def keep(self, path: str, offset: int, data: bytes) -> str:
        """Write data to a file; return the reply."""
        self.server.files[path] = self.server.files.get(path, b"")[:offset] + data
        return "226 kept"

    # The data connection --------------------------------------------------------------------------------------------

    def listen(self) -> int:
        """Listen for a data connection; return the port."""
        self.shut()
        data = self.data = Data()
        factory: Any = Factory.forProtocol(lambda: data)
        factory.noisy = False
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        port: int = self._listening.getHost().port
        return port

    def send(self, data: bytes, reply: str = "226 sent") -> None:
        """Send data over the data connection, close it, and say ``reply``."""
        self.say("150 here it comes")
        assert self.data is not None
        own = self.data

        def connected(_: object) -> None:
            own.transport.write(data)
            own.transport.loseConnection()

        own.made.addCallback(connected)
        own.ended.addCallback(lambda _: self.say(reply))

    def take(self, done: Callable[[bytes], str]) -> None:
        """Take data until its connection ends; say what ``done`` returns for it."""
        self.say("150 send it")
        assert self.data is not None
        self.data.ended.addCallback(lambda data: self.say(done(data)))


class Data(Protocol):
    """One data connection."""

    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.ended: Deferred[bytes] = Deferred()
        self._pieces: list[bytes] = []
        self.most: int | None = None
        """The bytes that it takes before it ends the connection, by the transport's method ``end``."""
        self.end = ""

    def connectionMade(self) -> None:  # noqa: N802
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._pieces.append(data)
        if self.most is not None and sum(map(len, self._pieces)) >= self.most:
            getattr(self.transport, self.end)()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        self.ended.callback(b"".join(self._pieces))
