"""Connect and log in: greeting, AUTH TLS (RFC 4217), user and password, and what the server announces."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from twisted.internet import error as failures
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from datamover import errors
from datamover.concurrency.host_names import Resolved, addresses
from datamover.concurrency.threads import Threads
from datamover.protocols.ftp.client.control import Control, UnusableName, busy, checked
from datamover.protocols.ftp.client.replies import FtpRefusal, Reply, decode, encode, quoted_path
from datamover.protocols.ftp.client.session import Features, FtpSession
from datamover.protocols.ftp.client.tls import SessionTLS
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.security.secret_files import Unusable, read

log = Logger()

_PIPELINING = ("vsftpd", "proftpd", "pyftpdlib", "pure-ftpd", "filezilla server")
"""Servers that are known to read a command while they answer the one before."""
_NO_TELNET = ("vsftpd", "rclone")
"""Servers that are known to take a byte 255 as it comes, and not for a command of Telnet."""
_SECURE = re.compile(r"\b(ssl|tls|encrypt\w*)\b")
"""What servers say, in small letters, that want TLS before a login."""
_RESOLVING = ("vsftpd", "proftpd", "pure-ftpd")
"""Servers that are known to tell the real path of a directory."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address, the login and the time limits, in seconds."""

    host: str
    port: int
    user: str
    password_file: Path | None = field(repr=False)
    implicit: bool
    """TLS from the first byte, instead of AUTH TLS."""
    tls: VerifiedTLS | None
    """None: no TLS."""
    connect_timeout: float
    idle_timeout: float

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def log_in(
    reactor: Any, server: Server, threads: Threads, door: DeferredSemaphore, made: Callable[[Control], object]
) -> FtpSession:
    """Return a session within the server's connect_timeout; ``made`` is told of the connection once there is one.

    ``door`` is passed first, and held until the server greets.
    Raises ConnectFailed, TimedOut, TLSFailed, AuthenticationFailed, RateLimited, ConnectionLost, ServerError.
    Cancelling drops the connection.
    """
    await door.acquire()
    login = _Login(reactor, server, threads, door.release, made)
    attempt = Deferred.fromCoroutine(login.run())
    try:
        return await attempt.addTimeout(server.connect_timeout, reactor, onTimeoutCancel=login.give_up)
    except BaseException:
        login.drop()
        raise
    finally:
        login.leave_door()


class _Login:
    def __init__(
        self,
        reactor: Any,
        server: Server,
        threads: Threads,
        leave_door: Callable[[], None],
        made: Callable[[Control], object],
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._threads = threads
        self._leave_door: Callable[[], None] | None = leave_door
        self._made = made
        self._control = Control(reactor, server.shown, server.idle_timeout, server.tls if server.implicit else None)
        self._secure = None if server.tls is None else SessionTLS(server.tls, server.host)
        self._late, self._advice = f"the name {server.host} was not looked up", ""

    def give_up(self, result: object, timeout: float) -> NoReturn:
        raise errors.TimedOut(f"{self._late} within {timeout:g} s{self._advice}")

    def leave_door(self) -> None:
        """Let the next one connect."""
        leave, self._leave_door = self._leave_door, None
        if leave is not None:
            leave()

    def drop(self) -> None:
        self._control.fail(errors.ConnectionLost("the connection was given up while it was made"))

    async def run(self) -> FtpSession:
        server, control = self._server, self._control
        password = await self._threads.run(_password, server.password_file)
        greeting = control.greeting()
        try:
            await self._connect()
        except BaseException:
            greeting.addErrback(lambda _: None)
            raise
        greeted = await greeting
        self.leave_door()
        if not greeted.positive:
            raise busy(server.shown, greeted) or errors.ConnectFailed(
                f"{server.shown} refuses the connection: {greeted.code} {greeted.words}"
            )
        if self._secure is not None and not server.implicit:
            await self._secured()
        await self._authenticated(password)
        if self._secure is not None:
            await self._protected()
        features = await self._features()
        if "UTF8" in features:
            await self._tried("OPTS", b"UTF8 ON")
        await self._told("TYPE", b"I", "the server does not move bytes as they are")
        where = await self._tried("PWD")
        program = greeted.words.lower()
        control.pipelining = any(name in program for name in _PIPELINING)
        control.telnet = not any(name in program for name in _NO_TELNET)
        control.established = True
        log.info("logged in to {server} as {user}", server=server.shown, user=server.user)
        return FtpSession(
            self._reactor,
            control,
            features,
            (where and quoted_path(where)) or "/",
            resolves=any(name in program for name in _RESOLVING),
            secure=self._secure,
            connect_timeout=server.connect_timeout,
            idle_timeout=server.idle_timeout,
        )

    async def _connect(self) -> None:
        server = self._server
        found = await addresses(self._reactor, server.host, server.port, server.connect_timeout)
        if not found:
            raise errors.ConnectFailed(f"no connection to {server.shown}: no address is known for {server.host}")
        self._late = f"{server.shown} did not complete the login"
        endpoint: Any = HostnameEndpoint(
            Resolved(self._reactor, found), found[0].host, server.port, timeout=server.connect_timeout
        )
        if self._secure is not None and server.implicit:
            endpoint = wrapClientTLS(self._secure, endpoint)
        factory = Factory.forProtocol(lambda: self._control)
        factory.noisy = False  # The log tells of each login.
        try:
            await endpoint.connect(factory)
        except failures.TimeoutError:
            raise errors.TimedOut(f"{server.shown} does not answer within {server.connect_timeout:g} s") from None
        except (failures.ConnectError, OSError) as error:
            why = str(error).rstrip(".")
            raise errors.ConnectFailed(f"no connection to {server.shown}: {why}") from None
        self._made(self._control)
        self._advice = "; does it speak FTP, and does a firewall let it answer?"

    async def _secured(self) -> None:
        """Ask for TLS: nothing of the login is sent unencrypted."""
        assert self._secure is not None
        reply = await self._control.ask("AUTH", b"TLS")
        if not reply.positive:
            raise errors.TLSFailed(
                f"{self._server.shown} has no TLS ({reply.code} {reply.words}), and the login is not sent unencrypted: "
                'set it up there, or write tls = "none" in the destination\'s table'
            )
        assert self._server.tls is not None
        self._control.secure(self._server.tls, self._secure)

    async def _authenticated(self, password: bytes | None) -> None:
        server, control = self._server, self._control
        try:
            reply = await control.ask("USER", encode(server.user))
            if reply.code in (331, 336):
                if password is None:
                    raise errors.AuthenticationFailed(
                        f"{server.shown} wants a password of {server.user!r}: name password_file"
                    )
                reply = await control.ask("PASS", password)
        except UnusableName:
            raise errors.AuthenticationFailed(
                f"the login to {server.shown} holds a line break or NUL, which FTP cannot carry; correct password_file"
            ) from None
        if reply.code == 332:
            raise errors.AuthenticationFailed(f"{server.shown} wants an account besides, which datamover does not give")
        if not reply.positive:
            said = reply.words.replace(decode(password), "…") if password else reply.words
            if server.tls is None and _SECURE.search(said.lower()):
                raise errors.TLSFailed(
                    f'{server.shown} accepts no login without TLS: {reply.code} {said}; take tls = "none" out of the '
                    "destination's table"
                )
            raise busy(server.shown, reply) or errors.AuthenticationFailed(
                f"user {server.user!r} is refused by {server.shown}: {reply.code} {said}; correct password_file or the "
                "account"
            )

    async def _protected(self) -> None:
        """Have the data connections have TLS, too (RFC 4217, 9)."""
        await self._told("PBSZ", b"0", "the server has no TLS for the data")
        await self._told("PROT", b"P", "the server has no TLS for the data")

    async def _features(self) -> Features:
        reply = await self._tried("FEAT")
        lines = () if reply is None else reply.lines[1:-1]
        told = (decode(line).strip().partition(" ") for line in lines)
        return Features({name.upper(): rest for name, _, rest in told})

    async def _told(self, verb: str, argument: bytes, otherwise: str) -> None:
        reply = await self._control.ask(verb, argument)
        if not reply.positive:
            kind = errors.TLSFailed if verb in ("PBSZ", "PROT") else errors.ServerError
            raise kind(f"{self._server.shown}: {otherwise} ({verb}: {reply.code} {reply.words})")

    async def _tried(self, verb: str, argument: bytes | None = None) -> Reply | None:
        try:
            return checked(await self._control.ask(verb, argument), verb)
        except FtpRefusal:
            return None


def _password(path: Path | None) -> bytes | None:
    """Return a file's content without its last line's end; blocks."""
    if path is None:
        return None
    try:
        return read(path).removesuffix(b"\n").removesuffix(b"\r")
    except Unusable as error:
        raise errors.AuthenticationFailed(f"password_file: {error.reason}") from None
    except OSError as error:
        raise errors.AuthenticationFailed(f"password_file {path} cannot be read: {error.strerror}") from None
