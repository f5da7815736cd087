"""An SSH server in this process, for what sshd does only with system accounts: passwords, questions, silence.

Its SFTP has no extensions and answers reads in part. It serves this machine's files to its only user.
"""
# ruff: noqa: N802, N803, N815, RUF012 - the names of what is overridden are conch's

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.conch.avatar import ConchUser
from twisted.conch.error import ConchError
from twisted.conch.interfaces import IConchUser, ISFTPFile, ISFTPServer
from twisted.conch.ssh.common import NS, getNS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.factory import SSHFactory
from twisted.conch.ssh.filetransfer import FileTransferServer
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.session import SSHSession
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred
from zope.interface import implementer

USER = "mover"
PASSWORD = "a secret"
SHORT = 10_000
"""Bytes of the longest answer to a read."""

_INFO_REQUEST, _INFO_RESPONSE = 60, 61


class ConchServer:
    """A server on 127.0.0.1 that accepts ``USER``; with ``questions`` it allows only keyboard-interactive logins.

    While it is ``mute`` it answers no read. ``at_rename`` is called before each rename with the old and the new path;
    an exception from it is the answer, and a Deferred is waited for.
    """

    def __init__(self, reactor: Any, directory: Path, host_key: Path, *, questions: bool = False) -> None:
        self.root = directory / "root"
        self.root.mkdir(exist_ok=True)
        self.mute = False
        self.at_rename: Callable[[bytes, bytes], Deferred[None] | None] = lambda old, new: None
        key = Key.fromFile(str(host_key))  # type: ignore[no-untyped-call]
        self._factory = _Factory(self, key, questions)
        self._port = reactor.listenTCP(0, self._factory, interface="127.0.0.1")
        self.port: int = self._port.getHost().port
        self.known_hosts = directory / "known_hosts_conch"
        public = key.public().toString("OPENSSH").decode("ascii")
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}\n")

    @property
    def url(self) -> str:
        return f"sftp://{USER}@127.0.0.1:{self.port}{self.root}"

    def cut(self) -> None:
        """Drop every connection."""
        for protocol in self._factory.built:
            protocol.transport.abortConnection()

    async def stop(self) -> None:
        """Stop listening; connections end with their clients."""
        await self._port.stopListening()


class _Questions(SSHUserAuthServer):
    """Asks for the password, and refuses the method "password"."""

    protocolMessages = {**SSHUserAuthServer.protocolMessages, _INFO_RESPONSE: "MSG_USERAUTH_INFO_RESPONSE"}

    def serviceStarted(self) -> None:
        super().serviceStarted()  # type: ignore[no-untyped-call]
        self.supportedAuthentications = [b"keyboard-interactive"]

    def auth_keyboard_interactive(self, packet: bytes) -> Any:
        self._answer: Deferred[bytes] = Deferred()
        prompts = b"\0\0\0\1" + NS(b"Password: ") + b"\0"
        transport: Any = self.transport
        transport.sendPacket(_INFO_REQUEST, NS(b"") + NS(b"Who are you?") + NS(b"") + prompts)
        return self._answer.addCallback(self._check)

    def _check(self, password: bytes) -> Any:
        return self.portal.login(UsernamePassword(self.user or b"", password), None, IConchUser)

    def ssh_USERAUTH_INFO_RESPONSE(self, packet: bytes) -> None:
        if packet[:4] == b"\0\0\0\1":
            self._answer.callback(getNS(packet[4:])[0])
        else:
            self._answer.errback(ConchError("one answer was expected"))  # type: ignore[no-untyped-call]


@implementer(IRealm)
class _Factory(SSHFactory):
    def __init__(self, server: ConchServer, key: Key, questions: bool) -> None:
        self.built: list[Any] = []
        self._server = server
        self._key = key
        checker = InMemoryUsernamePasswordDatabaseDontUse(**{USER: PASSWORD.encode("ascii")})
        self.portal = Portal(self, [checker])
        self.services = {
            b"ssh-userauth": _Questions if questions else SSHUserAuthServer,
            b"ssh-connection": SSHConnection,
        }

    def buildProtocol(self, addr: Any) -> Any:
        self.built.append(super().buildProtocol(addr))
        return self.built[-1]

    def getPublicKeys(self) -> dict[bytes, Key]:
        return {self._key.sshType(): self._key.public()}  # type: ignore[no-untyped-call]

    def getPrivateKeys(self) -> dict[bytes, Key]:
        return {self._key.sshType(): self._key}  # type: ignore[no-untyped-call]

    def requestAvatar(self, avatarId: Any, mind: Any, *interfaces: Any) -> Any:
        return interfaces[0], _User(self._server), lambda: None


@implementer(ISFTPServer)
class _User(ConchUser):
    """The user, and the operations on the machine's files."""

    def __init__(self, server: ConchServer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.server = server
        self.avatar = self
        self.channelLookup[b"session"] = SSHSession
        self.subsystemLookup[b"sftp"] = FileTransferServer

    def gotVersion(self, otherVersion: int, extData: Any) -> dict[bytes, bytes]:
        return {}

    def realPath(self, path: bytes) -> bytes:
        return os.path.realpath(path)

    def getAttrs(self, path: bytes, followLinks: bool) -> dict[str, Any]:
        return _attributes(os.stat(path, follow_symlinks=bool(followLinks)))

    def setAttrs(self, path: bytes, attrs: dict[str, Any]) -> None:
        _set(path, attrs)

    def openFile(self, filename: bytes, flags: int, attrs: dict[str, Any]) -> "_File":
        return _File(self.server, filename, flags)

    def removeFile(self, filename: bytes) -> None:
        os.remove(filename)

    def renameFile(self, oldpath: bytes, newpath: bytes) -> Any:
        waited = self.server.at_rename(oldpath, newpath)
        if waited is not None:
            return waited
        if os.path.lexists(newpath):
            raise FileExistsError
        return os.rename(oldpath, newpath)

    def makeDirectory(self, path: bytes, attrs: dict[str, Any]) -> None:
        os.mkdir(path)

    def removeDirectory(self, path: bytes) -> None:
        os.rmdir(path)

    def openDirectory(self, path: bytes) -> "_Directory":
        return _Directory(path)

    def _unsupported(self, *arguments: object) -> Any:
        raise NotImplementedError

    readLink = makeLink = extendedRequest = _unsupported


class _Directory:
    """The names in a directory, as conch reads them."""

    def __init__(self, path: bytes) -> None:
        self._names = iter(sorted(os.listdir(path)))

    def __iter__(self) -> Iterator[tuple[bytes, bytes, dict[str, Any]]]:
        return ((name, name, {}) for name in self._names)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


@implementer(ISFTPFile)
class _File:
    def __init__(self, server: ConchServer, path: bytes, flags: int) -> None:
        self._server = server
        kind = os.O_RDWR if flags & 2 else os.O_RDONLY
        self._descriptor = os.open(path, kind | (os.O_CREAT if flags & 8 else 0), 0o600)

    def close(self) -> None:
        os.close(self._descriptor)

    def readChunk(self, offset: int, length: int) -> Any:
        if self._server.mute:
            return Deferred()
        return os.pread(self._descriptor, min(length, SHORT), offset)

    def writeChunk(self, offset: int, data: bytes) -> None:
        os.pwrite(self._descriptor, data, offset)

    def getAttrs(self) -> dict[str, Any]:
        return _attributes(os.fstat(self._descriptor))

    def setAttrs(self, attrs: dict[str, Any]) -> None:
        _set(self._descriptor, attrs)


def _attributes(status: os.stat_result) -> dict[str, Any]:
    times = {"atime": int(status.st_atime), "mtime": int(status.st_mtime)}
    return {"size": status.st_size, "permissions": status.st_mode, **times}


def _set(file: bytes | int, attributes: dict[str, Any]) -> None:
    if "size" in attributes:
        os.truncate(file, attributes["size"])
    if "permissions" in attributes:
        os.chmod(file, attributes["permissions"] & 0o7777)
    if "mtime" in attributes:
        os.utime(file, (attributes["atime"], attributes["mtime"]))
