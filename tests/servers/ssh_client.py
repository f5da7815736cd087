"""A client of SSH that sends what a test wants to be sent, message by message, and keeps what is answered."""

# ruff: noqa: N802, N803 - the names of what is overridden are conch's

import struct
from typing import Any

from twisted.conch.ssh.common import NS
from twisted.conch.ssh.keys import Key
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

SERVICE_REQUEST, SERVICE_ACCEPT, USERAUTH_REQUEST = 5, 6, 50
USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_PK_OK = 51, 52, 60
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE = 90, 91, 92
CHANNEL_DATA, CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 94, 98, 99, 100
_SERVICES = 50
"""From this number on messages are of services."""
ENDED = (0, b"")
"""Stands for an answer where the connection has ended."""


class SshClient(SSHClientTransport):
    """One connection."""

    def __init__(self) -> None:
        self.secure: Deferred[None] = Deferred()
        self.answers: DeferredQueue[tuple[int, bytes]] = DeferredQueue()
        self.rekeyed = 0
        self.ended = False

    @classmethod
    async def to(cls, port: int) -> "SshClient":
        """Return one that has exchanged keys and asked for the service of logins."""
        client = cls()
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), client)  # type: ignore[no-untyped-call]
        await client.secure
        assert (await client.ask(SERVICE_REQUEST, NS(b"ssh-userauth")))[0] == SERVICE_ACCEPT
        return client

    @classmethod
    async def logged_in(cls, port: int, key: Key, user: bytes = b"operator") -> "SshClient":
        client = await cls.to(port)
        algorithm, blob = key.sshType(), key.public().blob()  # type: ignore[no-untyped-call]
        signature = key.sign(client.to_sign(user, algorithm, blob))
        assert await client.offer(user, algorithm, blob, signature) == USERAUTH_SUCCESS
        return client

    async def ask(self, number: int, payload: bytes) -> tuple[int, bytes]:
        """Send a message; return the next answer's number and content."""
        self.sendPacket(number, payload)  # type: ignore[no-untyped-call]
        return await self.answers.get()

    def to_sign(self, user: bytes, algorithm: bytes, blob: bytes, session: bytes | None = None) -> bytes:
        """Return what a key signs to log in; ``session`` stands for another connection's."""
        request = bytes([USERAUTH_REQUEST]) + NS(user) + NS(b"ssh-connection") + NS(b"publickey") + b"\1"
        return bytes(NS(session or self.sessionID or b"") + request + NS(algorithm) + NS(blob))

    async def offer(self, user: bytes, algorithm: bytes, blob: bytes, signature: bytes | None) -> int:
        """Offer a key, with what it has signed or without; return the answer's number."""
        request = NS(user) + NS(b"ssh-connection") + NS(b"publickey") + bytes([signature is not None])
        signed = b"" if signature is None else NS(signature)
        return (await self.ask(USERAUTH_REQUEST, request + NS(algorithm) + NS(blob) + signed))[0]

    async def open(self, *, window: int = 2**20, packet: int = 2**15) -> tuple[int, bytes]:
        """Ask for a session; return the answer's number and content."""
        return await self.ask(CHANNEL_OPEN, NS(b"session") + struct.pack(">3L", 0, window, packet))

    async def request(self, channel: int, kind: bytes, content: bytes) -> int:
        """Ask for something in a session; return the answer's number."""
        return (await self.ask(CHANNEL_REQUEST, struct.pack(">L", channel) + NS(kind) + b"\1" + content))[0]

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[bool]:
        return succeed(True)

    def connectionSecure(self) -> None:
        self.rekeyed += 1
        if not self.secure.called:
            self.secure.callback(None)

    def dispatchMessage(self, messageNum: int, payload: bytes) -> None:
        if messageNum >= _SERVICES or messageNum == SERVICE_ACCEPT:
            self.answers.put((messageNum, payload))
        else:
            super().dispatchMessage(messageNum, payload)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        self.ended = True
        super().connectionLost(reason)
        if not self.secure.called:
            self.secure.errback(reason)
        self.answers.put(ENDED)

    def close(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]
