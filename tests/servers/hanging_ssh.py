"""An SSH server that logs clients in and serves SFTP up to a stage, hangs there, and says nothings meanwhile.

What it says shows a client that it is alive, and moves nothing forward. It passes for OpenSSH, to which clients open
several channels.
"""
# ruff: noqa: N802, N803 - the names of what is overridden are conch's

import socket
from pathlib import Path
from typing import Any

from twisted.conch.ssh.common import NS
from twisted.conch.ssh.connection import SSHConnection
from twisted.conch.ssh.transport import SSHServerTransport
from twisted.conch.ssh.userauth import SSHUserAuthServer
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall

from tests.servers.conch import ConchServer, _User

STAGES = ("greeting", "keys", "login", "channel", "subsystem", "sftp")
_IGNORE, _KEXINIT, _KEX_FIRST, _BANNER = 2, 20, 30, 53
_IGNORED = b"\0\0\0\x0c\x0a\x02" + bytes(10)
"""The shortest SSH_MSG_IGNORE, before there are keys."""


class HangingServer(ConchServer):
    """Hangs at ``stage``, one of STAGES, or nowhere if that is None; says something every ``pause`` seconds.

    While it hangs at "keys" it sends messages without end if ``floods`` is set.
    """

    floods = False

    def __init__(self, reactor: Any, directory: Path, host_key: Path, *, stage: str | None, pause: float) -> None:
        super().__init__(reactor, directory, host_key)
        self._port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
        self.stage = stage
        self.pause = pause
        self.reached = 0
        """How often a client came to the stage."""
        server = self

        class Transport(_Transport):
            hangs = server

        class UserAuth(SSHUserAuthServer):
            def ssh_USERAUTH_REQUEST(self, packet: bytes) -> Any:
                return None if server.at("login") else super().ssh_USERAUTH_REQUEST(packet)

        class Connection(SSHConnection):
            def ssh_CHANNEL_OPEN(self, packet: bytes) -> None:
                if not server.at("channel"):
                    super().ssh_CHANNEL_OPEN(packet)  # type: ignore[no-untyped-call]

            def ssh_CHANNEL_REQUEST(self, packet: bytes) -> None:
                if not server.at("subsystem"):
                    super().ssh_CHANNEL_REQUEST(packet)  # type: ignore[no-untyped-call]

        factory: Any = self._factory
        factory.protocol = Transport
        factory.services = {b"ssh-userauth": UserAuth, b"ssh-connection": Connection}
        factory.requestAvatar = lambda avatarId, mind, *interfaces: (interfaces[0], _Hanging(self), lambda: None)

    def at(self, stage: str) -> bool:
        """Tell whether it hangs at this stage, to which a client has come."""
        self.reached += stage == self.stage
        return stage == self.stage

    def go_deaf(self) -> None:
        """Read nothing more, and let clients send much."""
        for protocol in self._factory.built:
            for channel in protocol.service.channels.values():
                protocol.service.adjustWindow(channel, 2**30)
            protocol.transport.pauseProducing()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(protocol.open for protocol in self._factory.built)


class _Hanging(_User):
    def __init__(self, server: HangingServer) -> None:
        super().__init__(server)
        if server.stage == "sftp":
            self.subsystemLookup[b"sftp"] = lambda *_, **__: _Mute(server)

    def gotVersion(self, otherVersion: int, extData: Any) -> dict[bytes, bytes]:
        return {b"fstatvfs@openssh.com": b"2"}


class _Mute(Protocol):
    """SFTP that answers nothing."""

    def __init__(self, server: HangingServer) -> None:
        server.at("sftp")


class _Transport(SSHServerTransport):
    ourVersionString = b"SSH-2.0-OpenSSH_9.9"  # noqa: N815 - conch's name
    hangs: HangingServer
    open = False

    def connectionMade(self) -> None:
        self.open = True
        self.said = LoopingCall(self.say)
        self.said.start(self.hangs.pause, now=False)
        if not self.hangs.at("greeting"):
            super().connectionMade()  # type: ignore[no-untyped-call]

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if self.hangs.stage != "keys":
            super().dispatchMessage(messageNum, payload)  # type: ignore[no-untyped-call]
        elif messageNum == _KEXINIT:
            self.hangs.at("keys")
        elif messageNum == _KEX_FIRST and self.hangs.floods:
            self.transport.registerProducer(self, False)  # type: ignore[union-attr]

    def resumeProducing(self) -> None:
        """Send many of the shortest messages, now that the socket has taken those before."""
        self.transport.write(_IGNORED * 2**14)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if self.hangs.stage != "greeting":
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def stopProducing(self) -> None:
        """Do nothing: nothing is asked for any more."""

    def say(self) -> None:
        if self.hangs.stage == "greeting":
            self.transport.write(b"wait\r\n")  # type: ignore[union-attr]
        elif self.hangs.stage == "login":
            self.sendPacket(_BANNER, NS(b"wait") + NS(b""))  # type: ignore[no-untyped-call]
        elif self.hangs.stage == "keys" or self._keyExchangeState == self._KEY_EXCHANGE_NONE:
            # conch would send it in the clear after it has announced the keys.
            self.sendPacket(_IGNORE, NS(b"wait"))  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        self.open = False
        self.said.stop()
        if self.hangs.stage != "greeting":
            super().connectionLost(reason)
