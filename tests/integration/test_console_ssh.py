"""Clients of the console over SSH that offer odd keys, and ask for too much."""

import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.conch.ssh.common import MP, NS
from twisted.conch.ssh.keys import Key

from datamover.bounds.console import LARGEST_OFFERED_KEY, MOST_SESSIONS, SMALLEST_SSH_PACKET
from tests.integration.test_console import Ssh, console_tables, no_traceback, ssh
from tests.servers.ports import free_port
from tests.servers.service import Service
from tests.servers.ssh_client import (
    CHANNEL_DATA,
    CHANNEL_FAILURE,
    CHANNEL_OPEN_CONFIRMATION,
    CHANNEL_OPEN_FAILURE,
    CHANNEL_REQUEST,
    CHANNEL_SUCCESS,
    USERAUTH_FAILURE,
    USERAUTH_PK_OK,
    USERAUTH_SUCCESS,
    SshClient,
)
from tests.waiting import until

__all__ = ["no_traceback", "ssh"]

pytestmark = pytest.mark.usefixtures("no_traceback")

OPERATOR = b"operator"
Offer = tuple[bytes, bytes, bytes, bytes | None]
"""A name, an algorithm, a key, and what it has signed; None: it is asked whether the key is taken."""


@pytest.fixture(scope="module")
def service(ssh: Ssh) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="datamover-test-"))
    service = Service(directory, console_tables(free_port(), ssh))
    service.start()
    yield service
    service.stop()
    shutil.rmtree(directory)


@pytest_twisted.async_yield_fixture
async def client(service: Service, ssh: Ssh) -> AsyncIterator[SshClient]:
    """One that has exchanged keys, and not logged in."""
    client = await SshClient.to(ssh.port)
    yield client
    client.close()
    await until(lambda: client.ended)


@pytest_twisted.async_yield_fixture
async def operator(service: Service, ssh: Ssh) -> AsyncIterator[SshClient]:
    """One that has logged in."""
    client = await SshClient.logged_in(ssh.port, read(ssh, "key"))
    yield client
    client.close()
    await until(lambda: client.ended)


# Keys ---------------------------------------------------------------------------------------------------------


def read(ssh: Ssh, name: str) -> Key:
    key: Key = Key.fromFile(str(ssh.directory / name))  # type: ignore[no-untyped-call]
    return key


def blob(key: Key) -> bytes:
    return bytes(key.public().blob())  # type: ignore[no-untyped-call]


def signed(client: SshClient, key: Key, algorithm: bytes, *, user: bytes = OPERATOR, **others: bytes) -> Offer:
    """Return the offer of a key that signs with an algorithm; ``others`` replace what is signed or offered."""
    told = others.get("told", algorithm)
    text = client.to_sign(user, told, blob(key), others.get("session"))
    return user, told, others.get("blob", blob(key)), key.sign(text, algorithm)


def agents() -> bytes:
    """Return a private key as agents are given it: it begins as a public key does."""
    return bytes(Key(rsa.generate_private_key(65537, 2048)).toString("agentv3"))  # type: ignore[no-untyped-call]


def pem() -> bytes:
    """Return a private key in PEM."""
    private = rsa.generate_private_key(65537, 2048)
    return private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


ED25519, RSA = b"ssh-ed25519", b"rsa-sha2-256"
ROWS: dict[str, tuple[Callable[[SshClient, Ssh], Offer], int]] = {
    "the operator's": (lambda c, s: signed(c, read(s, "key"), ED25519), USERAUTH_SUCCESS),
    "the operator's RSA": (lambda c, s: signed(c, read(s, "rsa"), RSA), USERAUTH_SUCCESS),
    "a question": (lambda c, s: (OPERATOR, ED25519, blob(read(s, "key")), None), USERAUTH_PK_OK),
    "another's key": (lambda c, s: signed(c, read(s, "stranger"), ED25519), USERAUTH_FAILURE),
    "another name": (lambda c, s: signed(c, read(s, "key"), ED25519, user=b"root"), USERAUTH_FAILURE),
    "no name": (lambda c, s: signed(c, read(s, "key"), ED25519, user=b""), USERAUTH_FAILURE),
    "a signature of another session": (
        lambda c, s: signed(c, read(s, "key"), ED25519, session=bytes(32)),
        USERAUTH_FAILURE,
    ),
    "an RSA key that signs with SHA-1": (lambda c, s: signed(c, read(s, "rsa"), b"ssh-rsa"), USERAUTH_FAILURE),
    "SHA-1 that is called SHA-2": (lambda c, s: signed(c, read(s, "rsa"), b"ssh-rsa", told=RSA), USERAUTH_FAILURE),
    "another algorithm than the key's": (
        lambda c, s: signed(c, read(s, "key"), ED25519, told=b"ecdsa-sha2-nistp256"),
        USERAUTH_FAILURE,
    ),
    "another's signature": (
        lambda c, s: signed(c, read(s, "stranger"), ED25519, blob=blob(read(s, "key"))),
        USERAUTH_FAILURE,
    ),
    "no signature": (lambda c, s: (OPERATOR, ED25519, blob(read(s, "key")), b""), USERAUTH_FAILURE),
    "half a signature": (
        lambda c, s: (OPERATOR, ED25519, blob(read(s, "key")), NS(ED25519) + NS(b"x" * 32)),
        USERAUTH_FAILURE,
    ),
    "no length of a signature": (
        lambda c, s: (OPERATOR, ED25519, blob(read(s, "key")), b"\xff" * 8),
        USERAUTH_FAILURE,
    ),
    "no key": (lambda c, s: (OPERATOR, ED25519, b"", None), USERAUTH_FAILURE),
    "half a key": (lambda c, s: (OPERATOR, ED25519, blob(read(s, "key"))[:30], None), USERAUTH_FAILURE),
    "more than a key": (lambda c, s: (OPERATOR, ED25519, blob(read(s, "key")) + NS(b"x"), None), USERAUTH_FAILURE),
    "no point": (
        lambda c, s: (OPERATOR, b"ecdsa-sha2-nistp256", NS(b"ecdsa-sha2-nistp256") + NS(b"nistp256") + NS(b"x"), None),
        USERAUTH_FAILURE,
    ),
    "DSA": (lambda c, s: (OPERATOR, b"ssh-dss", NS(b"ssh-dss") + MP(2**1023 + 1) * 4, None), USERAUTH_FAILURE),
    "a certificate": (
        lambda c, s: (
            OPERATOR,
            b"ssh-ed25519-cert-v01@openssh.com",
            NS(b"ssh-ed25519-cert-v01@openssh.com") + NS(bytes(32)) * 9,
            None,
        ),
        USERAUTH_FAILURE,
    ),
    "a security key": (
        lambda c, s: (
            OPERATOR,
            b"sk-ssh-ed25519@openssh.com",
            NS(b"sk-ssh-ed25519@openssh.com") + NS(bytes(32)) + NS(b"ssh:"),
            None,
        ),
        USERAUTH_FAILURE,
    ),
    "an algorithm that is no text": (lambda c, s: (OPERATOR, b"\xff", b"\xff", None), USERAUTH_FAILURE),
    "a giant RSA key": (
        lambda c, s: (OPERATOR, RSA, NS(b"ssh-rsa") + MP(65537) + MP(2 ** (8 * LARGEST_OFFERED_KEY) + 1), None),
        USERAUTH_FAILURE,
    ),
    "a private key": (lambda c, s: (OPERATOR, RSA, pem(), None), USERAUTH_FAILURE),
    "an agent's private key": (lambda c, s: (OPERATOR, RSA, agents(), None), USERAUTH_FAILURE),
    "a private key of OpenSSH": (
        lambda c, s: (OPERATOR, ED25519, (s.directory / "stranger").read_bytes(), None),
        USERAUTH_FAILURE,
    ),
    "a public key in words": (
        lambda c, s: (OPERATOR, ED25519, (s.directory / "key.pub").read_bytes(), None),
        USERAUTH_FAILURE,
    ),
    "a key of LSH": (lambda c, s: (OPERATOR, RSA, b"{KDEwOnB1YmxpYy1rZXkp}", None), USERAUTH_FAILURE),
}


@pytest.mark.parametrize("row", list(ROWS))
@pytest_twisted.ensureDeferred
async def test_keys(client: SshClient, ssh: Ssh, row: str) -> None:
    """Public keys of the kinds that are taken are looked up, and nothing else is even read as a key."""
    offer, expected = ROWS[row]
    assert await client.offer(*offer(client, ssh)) == expected


@pytest_twisted.ensureDeferred
async def test_attempts_are_few(client: SshClient, ssh: Ssh) -> None:
    """A connection that offers one wrong key after the other ends."""
    offers = 0
    while await client.offer(*signed(client, read(ssh, "stranger"), ED25519)) == USERAUTH_FAILURE:
        offers += 1
        assert offers < 10
    assert offers == 6
    await until(lambda: client.ended)


# Sessions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packet", [0, 1, SMALLEST_SSH_PACKET - 1])
@pytest_twisted.ensureDeferred
async def test_tiny_packets(operator: SshClient, ssh: Ssh, packet: int) -> None:
    """A client that takes nothing, or almost nothing, in one packet gets no session."""
    answer, _ = await operator.open(packet=packet)
    assert answer == CHANNEL_OPEN_FAILURE
    assert (await operator.open(packet=SMALLEST_SSH_PACKET))[0] == CHANNEL_OPEN_CONFIRMATION


@pytest_twisted.ensureDeferred
async def test_giant_windows(operator: SshClient) -> None:
    """A client that says it takes everything at once is given it."""
    _, opened = await operator.open(window=2**32 - 1, packet=2**32 - 1)
    (channel,) = struct.unpack(">L", opened[4:8])
    asked = struct.pack(">L", channel) + NS(b"exec") + b"\1" + NS(b"'x' * 100_000")
    operator.sendPacket(CHANNEL_REQUEST, asked)  # type: ignore[no-untyped-call]
    shown = 0
    while shown < 100_000:
        number, data = await operator.answers.get()
        shown += len(data) - 8 if number == CHANNEL_DATA else 0


@pytest_twisted.ensureDeferred
async def test_sessions_that_are_opened_without_end(operator: SshClient, service: Service) -> None:
    """Beyond a few each is refused, and takes no memory; others are answered meanwhile."""
    before = service.memory()
    answers = [(await operator.open())[0] for _ in range(MOST_SESSIONS + 2000)]
    assert answers == [CHANNEL_OPEN_CONFIRMATION] * MOST_SESSIONS + [CHANNEL_OPEN_FAILURE] * 2000
    assert service.memory() - before < 20_000_000


@pytest_twisted.ensureDeferred
async def test_keys_that_are_changed_without_end(operator: SshClient) -> None:
    """A client may change its keys as often as it likes, and is served in between."""
    for number in range(1, 21):
        operator.sendKexInit()  # type: ignore[no-untyped-call]
        await until(lambda number=number: operator.rekeyed > number)  # type: ignore[misc]
    assert (await operator.open())[0] == CHANNEL_OPEN_CONFIRMATION


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (b"pty-req", b""),
        (b"pty-req", NS(b"xterm") + b"\0"),
        (b"window-change", b"\0\0\0"),
        (b"env", b"\xff\xff"),
        (b"exec", b""),
        (b"\xff", b""),
        (b"dataReceived", b""),
        (b"x11-req", b"\0"),
        (b"auth-agent-req@openssh.com", b""),
        (b"subsystem", NS(b"sftp")),
        (b"signal", NS(b"KILL")),
        (b"x" * 30_000, b""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_requests_that_cannot_be_met(operator: SshClient, kind: bytes, content: bytes) -> None:
    """What cannot be read, or is not known, is refused, with an answer or without one; the session goes on."""
    _, opened = await operator.open()
    (channel,) = struct.unpack(">L", opened[4:8])
    silently = struct.pack(">L", channel) + NS(kind) + b"\0" + content
    operator.sendPacket(CHANNEL_REQUEST, silently)  # type: ignore[no-untyped-call]
    assert await operator.request(channel, kind, content) == CHANNEL_FAILURE
    assert await operator.request(channel, b"env", NS(b"LANG") + NS(b"C")) == CHANNEL_SUCCESS
