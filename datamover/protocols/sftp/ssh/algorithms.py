"""The algorithms of the key exchange: those that are offered, and the choice among them."""

from collections.abc import Sequence

from twisted.conch.error import ConchError

HOST_KEYS = (
    b"ssh-ed25519",
    b"ecdsa-sha2-nistp256",
    b"ecdsa-sha2-nistp384",
    b"ecdsa-sha2-nistp521",
    b"rsa-sha2-512",
    b"rsa-sha2-256",
)
"""The signature algorithms that a server may use, in order of preference."""

KEY_EXCHANGES = (
    b"curve25519-sha256",
    b"curve25519-sha256@libssh.org",
    b"ecdh-sha2-nistp256",
    b"ecdh-sha2-nistp384",
    b"ecdh-sha2-nistp521",
    b"diffie-hellman-group-exchange-sha256",
)
SMALLEST_GROUP = 2048
"""Bits of the smallest Diffie-Hellman group that is accepted."""


def host_key_algorithms(kinds: Sequence[bytes]) -> list[bytes]:
    """Return the signature algorithms to request, beginning with those of ``kinds``, the types of the known keys."""
    return sorted(HOST_KEYS, key=lambda name: (key_type(name) not in kinds, HOST_KEYS.index(name)))


def key_type(algorithm: bytes) -> bytes:
    """Return the type of the host keys that sign by a signature algorithm."""
    return b"ssh-rsa" if algorithm.startswith(b"rsa-") else algorithm


def choose(what: str, ours: Sequence[bytes], theirs: Sequence[bytes]) -> bytes:
    """Return the first of ``ours`` that the server offers too; raises ConchError (RFC 4253, section 7.1)."""
    for name in ours:
        if name in theirs:
            return name
    offered, allowed = (b", ".join(names).decode("ascii", "replace") for names in (theirs[:20], ours))
    why = f"the server offers no {what} algorithm that may be used: offered are {offered}; allowed are {allowed}"
    raise ConchError(why)  # type: ignore[no-untyped-call]
