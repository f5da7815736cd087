"""The SSH transport: conch's, restricted to modern algorithms, reading packets by offset, and rekeying in time.

The owner does the login and the channels: it is called when the connection is secure and when it has ended. A function
that is handed in checks the host key before anything secret is sent.
"""

# ruff: noqa: N802, N803, N815, RUF012 - the names of what is overridden are conch's

from collections.abc import Callable, Sequence
from typing import Any

from twisted.conch.error import ConchError
from twisted.conch.ssh import _kex
from twisted.conch.ssh.transport import SSHClientTransport
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover import errors
from datamover.bounds.servers import SSH_PACKETS_IN_TURN
from datamover.errors import DataMoverError
from datamover.protocols.sftp.ssh import ciphers
from datamover.protocols.sftp.ssh.algorithms import KEY_EXCHANGES, SMALLEST_GROUP, choose, key_type
from datamover.protocols.sftp.ssh.ciphers import CIPHERS, MACS, Opener, Piece, Plain, Sealer, Tampered, is_gcm
from datamover.protocols.sftp.ssh.known_hosts import key_kind
from datamover.protocols.sftp.ssh.wire import MessageReader, number, string, words
from datamover.protocols.slices import next_turn

log = Logger()

_DISCONNECT, _KEXINIT, _KEX_FIRST, _GEX_REQUEST, _WINDOW_ADJUST, _CHANNEL_DATA = 1, 20, 30, 34, 93, 94
_BY_APPLICATION = 11
PATIENCE = 2.0
"""Seconds in which SSH_MSG_DISCONNECT must be sent at a close."""
_ENOUGH = 16
"""Bytes from which every packet's length can be read."""
_AT_ONCE = 2**18
"""Bytes read from the socket, or written to it, in one call: a call costs more than copying its bytes."""


class _Keys:
    """The result of one key exchange, as conch stores it: the algorithms' names, the Sealer and the Opener."""

    def __init__(self, out_cipher: bytes, in_cipher: bytes, out_mac: bytes, in_mac: bytes) -> None:
        self.outCipType, self.inCipType = out_cipher, in_cipher
        self.outMACType, self.inMACType = out_mac, in_mac
        self.encBlockSize = 0
        self.sealer: Sealer = Plain()
        self.opener: Opener = Plain()

    def setKeys(
        self, out_nonce: bytes, out_key: bytes, in_nonce: bytes, in_key: bytes, out_mac: bytes, in_mac: bytes
    ) -> None:
        self.sealer = ciphers.sealer(self.outCipType, out_key, out_nonce, self.outMACType, out_mac)
        self.opener = ciphers.opener(self.inCipType, in_key, in_nonce, self.inMACType, in_mac)
        self.encBlockSize = 16


class SshTransport(SSHClientTransport):
    """One connection.

    ``judge`` returns what is wrong with a host key, or None. ``secure`` and ``ended`` are called once each.
    """

    REKEY_OCTETS = 2**34
    """Bytes in one direction after which the keys are changed; AES-GCM must not exceed 2**36."""
    REKEY_PACKETS = 2**30

    supportedKeyExchanges = list(KEY_EXCHANGES)
    supportedCiphers = list(CIPHERS)
    supportedMACs = list(MACS)
    supportedCompressions = [b"none"]
    outgoingCompressionType = incomingCompressionType = b"none"
    _dhMinimalGroupSize = SMALLEST_GROUP
    _dhPreferredGroupSize = 3072
    _log = Logger(observer=lambda event: None)  # type: ignore[arg-type]  # conch tells every step at "info"

    currentEncryptions: Any
    nextEncryptions: Any
    transport: Any

    def __init__(
        self,
        algorithms: Sequence[bytes],
        judge: Callable[[bytes], DataMoverError | None],
        secure: Callable[["SshTransport"], None],
        ended: Callable[[DataMoverError], None],
    ) -> None:
        self.supportedPublicKeys = list(algorithms)
        self._judge = judge
        self._secure: Callable[[SshTransport], None] | None = secure
        self._ended = ended
        self.failure: DataMoverError | None = None
        """Why the connection ends, once it does."""
        self.received = 0
        """Packets received: while it grows, the server is alive."""
        self._until = 0
        """How many there may be when the turn ends."""
        self._next: Deferred[None] | None = None
        """The next turn of this connection, if something is left for it."""
        self._closing: Any = None
        self.key_exchanges = 0
        self.logged_in = False

    # Start and end ------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.bufferSize = _AT_ONCE
        self.transport.SEND_LIMIT = 2 * _AT_ONCE
        self.transport.write(self.ourVersionString + b"\r\n")
        self.currentEncryptions = _Keys(b"none", b"none", b"none", b"none")
        self._gotNewKeys = 0
        self.sendKexInit()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self._next is not None:
            self._next.cancel()
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        if self.failure is None:
            why = reason.getErrorMessage().rstrip(".") if reason else "connection closed"
            self.failure = errors.ConnectionLost(f"the connection broke: {why}")
        super().connectionLost(reason)
        self._ended(self.failure)

    def fail(self, error: DataMoverError) -> None:
        """Abort the connection because of ``error``."""
        if self.failure is None:
            self.failure = error
        self.transport.abortConnection()

    def leave(self) -> None:
        """Send SSH_MSG_DISCONNECT, then close."""
        if self.failure is None:
            self.failure = errors.ConnectionLost("the connection was closed because the service is stopping")
        self._disconnect(_BY_APPLICATION, b"done")

    def sendDisconnect(self, reason: int, desc: bytes) -> None:
        """Disconnect; conch calls this when the key exchange fails."""
        if self.failure is None:
            self.failure = errors.ConnectFailed(f"the key exchange failed: {words(desc)}")
        self._disconnect(reason, desc)

    def _disconnect(self, reason: int, words: bytes) -> None:
        """Say why it ends, then close; a server that does not read that within ``PATIENCE`` is not waited for."""
        self.transport.unregisterProducer()
        self.sendPacket(_DISCONNECT, number(reason) + string(words) + string(b""))
        self.transport.loseConnection()
        if self._closing is None:
            self._closing = self.transport.reactor.callLater(PATIENCE, self.transport.abortConnection)

    def receiveError(self, reasonCode: int, description: bytes) -> None:
        self.transport.unregisterProducer()
        if self.failure is None:
            said = f"the server ended the connection: {words(description)}"
            if not self.logged_in and b"authentication" in description.lower():
                self.failure = errors.AuthenticationFailed(said)
            else:
                self.failure = errors.ConnectionLost(said)

    def connectionSecure(self) -> None:
        """Take note of new keys; the first call tells the owner."""
        self.key_exchanges += 1
        secure, self._secure = self._secure, None
        if secure is not None:
            secure(self)

    # Packets ------------------------------------------------------------------------------------------------

    def getPacket(self) -> None:
        """Do nothing: ``_take_packets`` reads packets, since conch's method slices the buffer for each."""

    def dataReceived(self, data: bytes) -> None:
        try:
            if not self.gotVersion:
                super().dataReceived(data)  # type: ignore[no-untyped-call]
                data, self.buf = self.buf, b""
                if not self.gotVersion:
                    self.buf = data
                    return
        except Exception as error:  # A server's bytes must not raise in the reactor.
            self._not_understood(error)
        else:
            self._take_turn(data, 0)

    def _take_turn(self, data: bytes, offset: int) -> None:
        """Take packets from ``offset`` on; what is left is taken in another turn, before more is read."""
        self._until = self.received + SSH_PACKETS_IN_TURN
        try:
            offset = self._take_packets(data, offset)
        except Tampered as error:
            self.fail(errors.ConnectionLost(f"the stream was damaged on its way: {error}"))
        except Exception as error:
            self._not_understood(error)
        else:
            if offset < len(data) and self.failure is None:
                self.transport.pauseProducing()
                self._next = next_turn(self.transport.reactor)
                self._next.addCallbacks(lambda _: self._take_turn(data, offset), lambda cancelled: None)
            elif self._next is not None:
                self._next = None
                self.transport.resumeProducing()

    def _not_understood(self, error: Exception) -> None:
        log.failure("an SSH server is not understood")
        self.fail(errors.ServerError(f"the server is not understood: {type(error).__name__}: {error}"))

    def _take_packets(self, data: bytes, offset: int) -> int:
        """Complete the packet that an earlier call began, then take those in ``data``, without copying them.

        Return the offset of what is left for the next turn.
        """
        channels: Any = self.service if self.logged_in else None
        if channels is not None:
            channels.begin()
        while self.buf and offset < len(data) and self.failure is None:
            more = data[offset : offset + self._lacking()]
            offset += len(more)
            self.buf += more
            self.buf = self.buf[self._take_whole_packets(self.buf, 0) :]
        if not self.buf:
            offset = self._take_whole_packets(data, offset)
            if self.received < self._until:
                self.buf, offset = data[offset:], len(data)
        if channels is not None:
            channels.end()
        return offset

    def _lacking(self) -> int:
        """Return how many bytes the packet begun lacks, or how many are read to learn its length."""
        length = self.currentEncryptions.opener.length(self.buf, 0)
        return _ENOUGH if length is None else length - len(self.buf)

    def _take_whole_packets(self, buffer: bytes, offset: int) -> int:
        """Take the packets from ``offset`` on; return the offset after the last whole one."""
        view, end = memoryview(buffer), len(buffer)
        while self.failure is None and self.received < self._until:
            opener: Opener = self.currentEncryptions.opener
            length = opener.length(buffer, offset)
            if length is None or end - offset < length:
                break
            message = opener.open(self.incomingPacketSequence, view, offset, length)
            self.incomingPacketSequence = (self.incomingPacketSequence + 1) % 2**32
            offset += length
            self.received += 1
            kind = message[0]
            if kind == _CHANNEL_DATA and self.logged_in:
                self.service.data(message)  # type: ignore[union-attr]
            elif kind == _WINDOW_ADJUST and self.logged_in:
                self.service.room(message)  # type: ignore[union-attr]
            else:
                self.dispatchMessage(kind, bytes(message[1:]))  # type: ignore[no-untyped-call]
            if opener.octets > self.REKEY_OCTETS or opener.packets > self.REKEY_PACKETS:
                self._change_keys()
        return offset

    def sendPacket(self, messageType: int, payload: bytes) -> None:
        self.send(messageType, (payload,))

    def send(self, kind: int, pieces: Sequence[Piece]) -> None:
        """Send a message given in pieces, or queue it until the key exchange in progress is over."""
        changing = self._keyExchangeState != self._KEY_EXCHANGE_NONE
        if changing and not self._allowedKeyExchangeMessageType(kind):  # type: ignore[no-untyped-call]
            self._blockedByKeyExchange.append((kind, b"".join(pieces)))
            return
        sealer: Sealer = self.currentEncryptions.sealer
        message = (kind.to_bytes(1, "big"), *pieces)
        self.transport.writeSequence(sealer.seal(self.outgoingPacketSequence, message))
        self.outgoingPacketSequence = (self.outgoingPacketSequence + 1) % 2**32
        if kind == _CHANNEL_DATA and (sealer.octets > self.REKEY_OCTETS or sealer.packets > self.REKEY_PACKETS):
            self._change_keys()

    # Keys ---------------------------------------------------------------------------------------------------

    def _change_keys(self) -> None:
        if self.logged_in and self._keyExchangeState == self._KEY_EXCHANGE_NONE:
            self.sendKexInit()  # type: ignore[no-untyped-call]

    def ssh_KEXINIT(self, packet: bytes) -> None:
        """Choose the algorithms and begin the exchange; AES-GCM needs no MAC."""
        offer = MessageReader(packet, 16)
        kex, keys, out_ciphers, in_ciphers, out_macs, in_macs = (offer.names() for _ in range(6))
        self.otherKexInitPayload = bytes((_KEXINIT,)) + packet
        try:
            self.kexAlg = choose("key exchange", self.supportedKeyExchanges, kex)
            self.keyAlg = choose("host key", self.supportedPublicKeys, keys)
            out_cipher = choose("cipher", self.supportedCiphers, out_ciphers)
            in_cipher = choose("cipher", self.supportedCiphers, in_ciphers)
            out_mac = b"" if is_gcm(out_cipher) else choose("MAC", self.supportedMACs, out_macs)
            in_mac = b"" if is_gcm(in_cipher) else choose("MAC", self.supportedMACs, in_macs)
        except ConchError as error:
            self.fail(errors.ConnectFailed(str(error)))
            return
        self.nextEncryptions = _Keys(out_cipher, in_cipher, out_mac, in_mac)
        if self._keyExchangeState == self._KEY_EXCHANGE_REQUESTED:
            self._keyExchangeState = self._KEY_EXCHANGE_PROGRESSING
        else:
            self.sendKexInit()  # type: ignore[no-untyped-call]
        if _kex.isEllipticCurve(self.kexAlg):
            self.ecPriv = self._generateECPrivateKey()  # type: ignore[no-untyped-call]
            self.ecPub = self.ecPriv.public_key()
            self.sendPacket(_KEX_FIRST, string(self._encodeECPublicKey(self.ecPub)))  # type: ignore[no-untyped-call]
        else:
            sizes = (self._dhMinimalGroupSize, self._dhPreferredGroupSize, self._dhMaximalGroupSize)
            self.sendPacket(_GEX_REQUEST, b"".join(map(number, sizes)))

    def ssh_KEX_DH_GEX_GROUP(self, packet: bytes) -> Any:
        """Handle message 31: the server's group, or its answer in an elliptic-curve exchange."""
        if not _kex.isEllipticCurve(self.kexAlg):
            if int.from_bytes(MessageReader(packet).string(), "big").bit_length() < SMALLEST_GROUP:
                self.fail(errors.ConnectFailed("the server asks for a Diffie-Hellman group that is too small"))
                return None
        elif not self._signed_as_agreed(packet):
            return None
        return super().ssh_KEX_DH_GEX_GROUP(packet)  # type: ignore[no-untyped-call]

    def ssh_KEX_DH_GEX_REPLY(self, packet: bytes) -> Any:
        if not self._signed_as_agreed(packet):
            return None
        return super().ssh_KEX_DH_GEX_REPLY(packet)  # type: ignore[no-untyped-call]

    def ssh_NEWKEYS(self, packet: bytes) -> None:
        if self._keyExchangeState == self._KEY_EXCHANGE_NONE or not self.nextEncryptions.encBlockSize:
            self.fail(errors.ServerError("the server changes keys that were not agreed on"))
            return
        super().ssh_NEWKEYS(packet)  # type: ignore[no-untyped-call]

    def verifyHostKey(self, hostKey: bytes, fingerprint: bytes) -> Deferred[bool]:
        """Check the host key; the Deferred has fired already, since conch must not continue before."""
        error = self._judge(hostKey)
        if error is not None:
            self.failure = self.failure or error
            return fail(error)
        return succeed(True)

    def _signed_as_agreed(self, packet: bytes) -> bool:
        """Check that key and signature are of the algorithm agreed on (a SHA-1 signature of an RSA key is not)."""
        reply = MessageReader(packet)
        key, _, signature = reply.string(), reply.string(), reply.string()
        if key_kind(key) == key_type(self.keyAlg) and key_kind(signature) == self.keyAlg:
            return True
        self.fail(errors.ConnectFailed("the server signs with an algorithm that was not agreed on"))
        return False
