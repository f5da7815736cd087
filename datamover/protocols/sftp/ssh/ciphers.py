"""Encrypt and decrypt packets: AES-GCM (RFC 5647 as OpenSSH does it), or AES-CTR with HMAC-SHA-2 (RFC 4253).

A ``Sealer`` makes packets of messages. An ``Opener`` takes messages out of a buffer, by offset. Each counts its packets
and bytes, so that the keys can be changed in time. conch negotiates the algorithms, but implements no AEAD cipher.
"""

import hmac
import os
import struct
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from datamover.bounds.servers import LARGEST_SSH_PACKET

Piece = bytes | memoryview

CIPHERS: dict[bytes, int] = {
    b"aes128-gcm@openssh.com": 16,
    b"aes256-gcm@openssh.com": 32,
    b"aes128-ctr": 16,
    b"aes192-ctr": 24,
    b"aes256-ctr": 32,
}
"""Name -> bytes of key, in order of preference. None of these needs a strict key exchange (CVE-2023-48795)."""

MACS: dict[bytes, str] = {b"hmac-sha2-256": "sha256", b"hmac-sha2-512": "sha512"}


_BLOCK = 16
_TAG = 16
_LENGTH = struct.Struct(">L")
_HEADER = struct.Struct(">LB")
_COUNTER = struct.Struct(">Q")
_NOISE = 2**12
_OPENED = 2**16


class Tampered(Exception):
    """A packet was damaged or changed on its way."""


def is_gcm(name: bytes) -> bool:
    return name.endswith(b"-gcm@openssh.com")


class Sealer(Protocol):
    """Makes packets."""

    packets: int
    octets: int

    def seal(self, sequence: int, message: Sequence[Piece]) -> Sequence[bytes]:
        """Return the packet of a message, both in pieces."""
        ...


class Opener(Protocol):
    """Takes messages out of packets."""

    packets: int
    octets: int

    def length(self, buffer: bytes, offset: int) -> int | None:
        """Return the size of the packet that begins at ``offset``, None if too little is there. Raises Tampered."""
        ...

    def open(self, sequence: int, view: memoryview, offset: int, length: int) -> memoryview:
        """Return the message in the packet; it is valid until the next call. Raises Tampered."""
        ...


def _checked(length: int) -> int:
    if not _BLOCK // 2 <= length <= LARGEST_SSH_PACKET:
        raise Tampered(f"a packet of {length} bytes")
    return length


def _message(body: memoryview, padding: int) -> memoryview:
    """Return the message between the padding length and the padding."""
    if padding + 2 > len(body):
        raise Tampered("a packet that holds only padding")
    return body[1 : len(body) - padding]


def _padding(length: int, block: int) -> int:
    padding = -length % block
    return padding if padding >= 4 else padding + block


class _Noise:
    """Random bytes for padding, fetched many at a time. Each is used once."""

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0

    def take(self, count: int) -> bytes:
        end = self._used + count
        if end > len(self._bytes):
            self._bytes, self._used, end = os.urandom(_NOISE), 0, count
        taken = self._bytes[self._used : end]
        self._used = end
        return taken


class Plain:
    """Both directions before the first keys."""

    def __init__(self) -> None:
        self.packets = self.octets = 0

    def seal(self, sequence: int, message: Sequence[Piece]) -> Sequence[bytes]:
        size = sum(map(len, message))
        padding = _padding(5 + size, 8)
        return [_HEADER.pack(1 + size + padding, padding), *map(bytes, message), bytes(padding)]

    def length(self, buffer: bytes, offset: int) -> int | None:
        if len(buffer) - offset < 4:
            return None
        return 4 + _checked(_LENGTH.unpack_from(buffer, offset)[0])

    def open(self, sequence: int, view: memoryview, offset: int, length: int) -> memoryview:
        return _message(view[offset + 4 : offset + length], view[offset + 4])


class _Gcm:
    def __init__(self, key: bytes, nonce: bytes) -> None:
        self.packets = self.octets = 0
        self._aead = AESGCM(key)
        self._nonce = bytearray(nonce[:12])
        self._invocation: int = _COUNTER.unpack_from(nonce, 4)[0]

    def _count(self, octets: int) -> None:
        """Count a packet, and set the nonce of the next."""
        self._invocation = (self._invocation + 1) % 2**64
        _COUNTER.pack_into(self._nonce, 4, self._invocation)
        self.packets += 1
        self.octets += octets


class GcmSealer(_Gcm):
    def __init__(self, key: bytes, nonce: bytes) -> None:
        super().__init__(key, nonce)
        self._noise = _Noise()

    def seal(self, sequence: int, message: Sequence[Piece]) -> Sequence[bytes]:
        size = 1 + sum(map(len, message))
        padding = _padding(size, _BLOCK)
        header = _LENGTH.pack(size + padding)
        body = b"".join((padding.to_bytes(1, "big"), *message, self._noise.take(padding)))
        sealed = self._aead.encrypt(self._nonce, body, header)
        self._count(size)
        return header, sealed


class GcmOpener(_Gcm):
    def __init__(self, key: bytes, nonce: bytes) -> None:
        super().__init__(key, nonce)
        self._opened = memoryview(bytearray(_OPENED))
        """The buffer of every decrypted packet: reused, so that it stays in the processor's cache."""

    def length(self, buffer: bytes, offset: int) -> int | None:
        if len(buffer) - offset < 4:
            return None
        length: int = _LENGTH.unpack_from(buffer, offset)[0]
        if not _BLOCK <= length <= LARGEST_SSH_PACKET:
            raise Tampered(f"a packet of {length} bytes")
        return 4 + length + _TAG

    def open(self, sequence: int, view: memoryview, offset: int, length: int) -> memoryview:
        start, size = offset + 4, length - 4 - _TAG
        if size > len(self._opened):
            self._opened = memoryview(bytearray(size))
        body = self._opened[:size]
        try:
            self._aead.decrypt_into(self._nonce, view[start : offset + length], view[offset:start], body)
        except InvalidTag:
            raise Tampered("a packet's tag is wrong") from None
        self._count(length)
        return _message(body, body[0])


class _Ctr:
    def __init__(self, key: bytes, nonce: bytes, digest: str, digest_key: bytes) -> None:
        self.packets = self.octets = 0
        self._cipher = Cipher(AES(key), CTR(nonce[:_BLOCK]))
        self._digest = digest
        self._digest_key = digest_key

    def _mac(self, sequence: int, packet: bytes) -> bytes:
        return hmac.digest(self._digest_key, _LENGTH.pack(sequence) + packet, self._digest)

    def _count(self, octets: int) -> None:
        self.packets += 1
        self.octets += octets


class CtrSealer(_Ctr):
    def __init__(self, key: bytes, nonce: bytes, digest: str, digest_key: bytes) -> None:
        super().__init__(key, nonce, digest, digest_key)
        self._encryptor = self._cipher.encryptor()
        self._noise = _Noise()

    def seal(self, sequence: int, message: Sequence[Piece]) -> Sequence[bytes]:
        size = sum(map(len, message))
        padding = _padding(5 + size, _BLOCK)
        packet = b"".join((_HEADER.pack(1 + size + padding, padding), *message, self._noise.take(padding)))
        self._count(len(packet))
        return self._encryptor.update(packet), self._mac(sequence, packet)


class CtrOpener(_Ctr):
    def __init__(self, key: bytes, nonce: bytes, digest: str, digest_key: bytes) -> None:
        super().__init__(key, nonce, digest, digest_key)
        self._decryptor = self._cipher.decryptor()
        self._mac_size = len(hmac.digest(b"", b"", digest))
        self._first = b""
        """The first block of the current packet, decrypted: it holds the packet's length."""

    def length(self, buffer: bytes, offset: int) -> int | None:
        if not self._first:
            if len(buffer) - offset < _BLOCK:
                return None
            self._first = self._decryptor.update(buffer[offset : offset + _BLOCK])
        length = _checked(_LENGTH.unpack_from(self._first)[0])
        if (4 + length) % _BLOCK:
            raise Tampered(f"a packet of {length} bytes")
        return 4 + length + self._mac_size

    def open(self, sequence: int, view: memoryview, offset: int, length: int) -> memoryview:
        end = offset + length - self._mac_size
        packet = self._first + self._decryptor.update(view[offset + _BLOCK : end])
        self._first = b""
        self._count(len(packet))
        if not hmac.compare_digest(self._mac(sequence, packet), view[end : end + self._mac_size]):
            raise Tampered("a packet's authentication code is wrong")
        return _message(memoryview(packet)[4:], packet[4])


def sealer(cipher: bytes, key: bytes, nonce: bytes, mac: bytes, mac_key: bytes) -> Sealer:
    """Return the Sealer of a negotiated cipher and, unless the cipher is AEAD, a MAC."""
    size = CIPHERS[cipher]
    if is_gcm(cipher):
        return GcmSealer(key[:size], nonce)
    return CtrSealer(key[:size], nonce, MACS[mac], mac_key[: _mac_key_size(mac)])


def opener(cipher: bytes, key: bytes, nonce: bytes, mac: bytes, mac_key: bytes) -> Opener:
    """Return the Opener of packets that the other side made with ``sealer``."""
    size = CIPHERS[cipher]
    if is_gcm(cipher):
        return GcmOpener(key[:size], nonce)
    return CtrOpener(key[:size], nonce, MACS[mac], mac_key[: _mac_key_size(mac)])


def _mac_key_size(mac: bytes) -> int:
    return len(hmac.digest(b"", b"", MACS[mac]))
