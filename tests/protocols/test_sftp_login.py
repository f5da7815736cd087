"""Who an SFTP server is and who we are to it: host keys, logins, and the algorithms between."""

import base64
import hashlib
import os
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from datamover import errors
from datamover.app.services import NameResolution
from datamover.concurrency.host_names import AddressInfo, HostNames
from datamover.concurrency.pending import pending
from datamover.errors import Scope
from datamover.protocols.sftp.ssh.scan import scan_host_key
from tests.protocols.sftp import opened, send, sha256, writing
from tests.servers.conch import PASSWORD, ConchServer
from tests.servers.sshd import Sshd


def ssh_keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True, capture_output=True)


def fingerprint(public: str) -> str:
    """Return the fingerprint of a line "KIND BASE64", worked out anew."""
    return base64.b64encode(hashlib.sha256(base64.b64decode(public.split()[1])).digest()).decode().rstrip("=")


@pytest.mark.parametrize(("kind", "passphrase"), [("ed25519", False), ("ecdsa", False), ("rsa", False), ("rsa", True)])
@pytest_twisted.ensureDeferred
async def test_public_key(sshd: Sshd, kind: str, passphrase: bool) -> None:
    """Every kind of key lets in, RSA with SHA-2 signatures, and one under a passphrase with the passphrase."""
    key = sshd.client_key(kind, passphrase=passphrase)
    words = sshd.passphrase_file if passphrase else None
    async with opened(sshd, private_key_file=key, passphrase_file=words) as pool:
        await pool.connect()
    assert "Accepted publickey" in sshd.log


@pytest_twisted.ensureDeferred
async def test_passphrase_wrong_or_missing(sshd: Sshd, tmp_path: Path) -> None:
    """A key that cannot be decrypted is AUTHENTICATION_FAILED, names the options, and shows no secret."""
    key = sshd.client_key("ed25519", passphrase=True)
    wrong = tmp_path / "wrong"
    wrong.write_text("not the words\n")
    wrong.chmod(0o600)
    async with opened(sshd, private_key_file=key) as pool:
        with pytest.raises(errors.AuthenticationFailed, match="no passphrase_file"):
            await pool.connect()
    async with opened(sshd, private_key_file=key, passphrase_file=wrong) as pool:
        with pytest.raises(errors.AuthenticationFailed, match="passphrase_file does not hold") as caught:
            await pool.connect()
    assert "not the words" not in caught.value.message


@pytest_twisted.ensureDeferred
async def test_key_not_authorized(sshd: Sshd, tmp_path: Path) -> None:
    """A key that the server does not know is AUTHENTICATION_FAILED, on the side it was met, and not to be retried."""
    key = tmp_path / "other"
    ssh_keygen("-t", "ed25519", "-N", "", "-f", str(key))
    async with opened(sshd, private_key_file=key) as pool:
        with pytest.raises(errors.AuthenticationFailed, match=r"'vis'.*is refused with.*publickey") as caught:
            await pool.at(Scope.SOURCE).inspect("x")
    assert caught.value.scope is Scope.SOURCE
    assert not caught.value.retryable
    assert fingerprint(key.with_suffix(".pub").read_text()) in caught.value.full


@pytest_twisted.ensureDeferred
async def test_secret_files_unreadable(sshd: Sshd, tmp_path: Path) -> None:
    """A key file that is not there, or is not a key, is said by its name; secrets are read at every connect."""
    key = tmp_path / "key"
    async with opened(sshd, private_key_file=key) as pool:
        with pytest.raises(errors.AuthenticationFailed, match=f"private_key_file {key} cannot be read"):
            await pool.connect()
        key.write_text("nonsense")
        key.chmod(0o600)
        with pytest.raises(errors.AuthenticationFailed, match="is not a private key"):
            await pool.connect()
        key.write_bytes(sshd.private_key.read_bytes())
        key.chmod(0o600)
        await pool.connect()


@pytest_twisted.ensureDeferred
async def test_unknown_host(sshd: Sshd) -> None:
    """A server that known_hosts does not name is refused, its key's fingerprint shown, the way out said."""
    sshd.known_hosts.write_text("")
    async with opened(sshd) as pool:
        with pytest.raises(errors.HostKeyMismatch, match="datamover-admin scan-host-key") as caught:
            await pool.connect()
        assert fingerprint(sshd.host_key()) in caught.value.full
        assert caught.value.scope is Scope.DESTINATION
        sshd.known_hosts.write_text("\n".join(await scan_host_key(reactor, "127.0.0.1", sshd.port, 10.0)))
        await pool.connect()


@pytest_twisted.ensureDeferred
async def test_changed_host_key(sshd: Sshd) -> None:
    """A server that shows another key than the known ones is refused before it is told anything."""
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.private_key.with_suffix('.pub').read_text()}")
    async with opened(sshd) as pool:
        with pytest.raises(errors.HostKeyMismatch, match="known by another"):
            await pool.connect()
    assert "Accepted" not in sshd.log


@pytest_twisted.ensureDeferred
async def test_revoked_host_key(sshd: Sshd) -> None:
    """A key marked as revoked is refused, whatever else names it."""
    with sshd.known_hosts.open("a") as file:
        file.write("".join(f"@revoked * {sshd.host_key(kind)}\n" for kind in ("ed25519", "ecdsa", "rsa")))
    async with opened(sshd) as pool:
        with pytest.raises(errors.HostKeyMismatch, match="revoked"):
            await pool.connect()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest_twisted.ensureDeferred
async def test_hashed_host(sshd: Sshd, kind: str) -> None:
    """A hashed entry is recognised, and the key asked for is of the kind that is known."""
    sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key(kind)}\n")
    ssh_keygen("-H", "-f", str(sshd.known_hosts))
    assert sshd.known_hosts.read_text().startswith("|1|")
    async with opened(sshd) as pool:
        await pool.connect()


@pytest_twisted.ensureDeferred
async def test_wildcard_host(sshd: Sshd) -> None:
    """A pattern names many servers, and an exception among them rules one out."""
    sshd.known_hosts.write_text(f"[127.0.0.*]:{sshd.port} {sshd.host_key()}\n")
    async with opened(sshd) as pool:
        await pool.connect()
    sshd.known_hosts.write_text(f"*,![127.0.0.1]:{sshd.port} {sshd.host_key()}\n")
    async with opened(sshd) as pool:
        with pytest.raises(errors.HostKeyMismatch, match="no line"):
            await pool.connect()


@pytest_twisted.ensureDeferred
async def test_scan(sshd: Sshd) -> None:
    """A scan gives a known_hosts line for each kind of key the server has."""
    lines = await scan_host_key(reactor, "127.0.0.1", sshd.port, 10.0)
    assert lines == [f"[127.0.0.1]:{sshd.port} {sshd.host_key(kind)}" for kind in ("ed25519", "ecdsa", "rsa")]


@pytest_twisted.ensureDeferred
async def test_scan_of_nothing(sshd: Sshd) -> None:
    """A scan where no server listens says so."""
    sshd.stop()
    with pytest.raises(errors.ConnectFailed, match="refused"):
        await scan_host_key(reactor, "127.0.0.1", sshd.port, 10.0)


@pytest.mark.parametrize(
    "algorithms",
    [
        "Ciphers aes128-gcm@openssh.com\nMACs hmac-sha2-256-etm@openssh.com\n",
        "Ciphers aes256-gcm@openssh.com\nKexAlgorithms ecdh-sha2-nistp521\n",
        pytest.param(
            "Ciphers aes128-ctr\nMACs hmac-sha2-256\nKexAlgorithms diffie-hellman-group-exchange-sha256\n",
            marks=pytest.mark.filterwarnings("ignore:Diffie-Hellman over finite fields"),
        ),
        "Ciphers aes256-ctr\nMACs hmac-sha2-512\nHostKeyAlgorithms rsa-sha2-256\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_algorithms(open_directory: Path, algorithms: str) -> None:
    """AES-GCM without a MAC in common, AES-CTR with HMAC-SHA-2, and every key exchange move bytes both ways."""
    sshd = Sshd(open_directory, config=algorithms)
    sshd.start()
    try:
        async with opened(sshd) as pool:
            data = bytes(range(256)) * 5000
            await send(writing(pool), "file", data)
            assert await sha256(pool.at(Scope.SOURCE), "file") == hashlib.sha256(data).hexdigest()
    finally:
        sshd.stop()


@pytest.mark.parametrize(
    "algorithms",
    [
        "Ciphers chacha20-poly1305@openssh.com",
        "Ciphers aes128-ctr\nMACs hmac-sha2-256-etm@openssh.com,hmac-sha1",
        "HostKeyAlgorithms ssh-rsa",
    ],
)
@pytest_twisted.ensureDeferred
async def test_weak_algorithms(open_directory: Path, algorithms: str) -> None:
    """What Terrapin or SHA-1 would weaken is not used, and the message says what the server has."""
    sshd = Sshd(open_directory, config=algorithms)
    sshd.start()
    try:
        async with opened(sshd) as pool:
            with pytest.raises(errors.ConnectFailed, match="algorithm that may be used"):
                await pool.connect()
    finally:
        sshd.stop()


@pytest.mark.parametrize("questions", [False, True])
@pytest_twisted.ensureDeferred
async def test_password(sshd: Sshd, tmp_path: Path, questions: bool) -> None:
    """A password lets in, sent or given as an answer; a wrong one is AUTHENTICATION_FAILED and not shown."""
    server = ConchServer(reactor, tmp_path, sshd.directory / "host_ed25519", questions=questions)
    password = tmp_path / "password"
    password.write_text("wrong words\n")
    password.chmod(0o600)
    try:
        async with opened(server, password_file=password) as pool:
            with pytest.raises(errors.AuthenticationFailed, match="is refused with the password") as caught:
                await pool.connect()
            assert "wrong words" not in caught.value.message
            password.write_text(f"{PASSWORD}\n")
            await pool.connect()
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_key_then_password(sshd: Sshd, tmp_path: Path) -> None:
    """Where both are configured and the key is not taken, the password is tried."""
    server = ConchServer(reactor, tmp_path, sshd.directory / "host_ed25519")
    password = tmp_path / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    try:
        async with opened(server, private_key_file=sshd.private_key, password_file=password) as pool:
            await pool.connect()
    finally:
        await server.stop()


@pytest_twisted.ensureDeferred
async def test_connection_refused(sshd: Sshd) -> None:
    """Nothing that listens is CONNECT_FAILED, and so is a name that does not exist."""
    sshd.stop()
    async with opened(sshd) as pool:
        with pytest.raises(errors.ConnectFailed, match="refused") as caught:
            await pool.connect()
        assert caught.value.retryable
    async with opened(sshd, url="sftp://user@no-such-host.invalid/srv") as pool:
        with pytest.raises(errors.ConnectFailed, match=r"no-such-host\.invalid"):
            await pool.connect()


@pytest_twisted.ensureDeferred
async def test_server_that_never_speaks(sshd: Sshd) -> None:
    """A server that accepts and says nothing is TIMED_OUT after connect_timeout, for a pool and for a scan."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with opened(sshd, url=f"sftp://user@127.0.0.1:{port}/srv", connect_timeout=0.3) as pool:
            with pytest.raises(errors.TimedOut, match=r"0\.3 s"):
                await pool.connect()
        with pytest.raises(errors.TimedOut):
            await scan_host_key(reactor, "127.0.0.1", port, 0.3)


@pytest_twisted.ensureDeferred
async def test_files_that_are_not_read(sshd: Sshd, tmp_path: Path) -> None:
    """Files on a disk that does not answer are told as that; however often it is tried, one thread waits for them."""
    sshd.known_hosts = tmp_path / "known_hosts"
    os.mkfifo(sshd.known_hosts)
    async with opened(sshd, connect_timeout=0.2) as pool:
        for _ in range(3):
            with pytest.raises(errors.TimedOut, match=r"needed to log in to .* were not read within 0\.2 s"):
                await pool.connect()
        assert [each.threads for each in pending()] == ["destination-vis"]
        for _ in range(3):
            sshd.known_hosts.open("w").close()
            await deferLater(reactor, 0.05)
        assert not pending()


@pytest_twisted.ensureDeferred
async def test_name_that_is_not_looked_up(sshd: Sshd) -> None:
    """A name server that does not answer is told as that, and not as an SSH server."""
    answer = threading.Event()

    def look_up(*_: object) -> AddressInfo:
        answer.wait(30)
        return []

    names = NameResolution(reactor, HostNames(reactor, look_up=look_up))
    names.startService()
    try:
        async with opened(sshd, url="sftp://user@hangs.example/srv", connect_timeout=0.2) as pool:
            with pytest.raises(errors.TimedOut, match=r"the name hangs\.example was not looked up within 0\.2 s"):
                await pool.connect()
    finally:
        answer.set()
        names.stopService()


@pytest_twisted.ensureDeferred
async def test_server_of_another_protocol(sshd: Sshd) -> None:
    """A server that does not speak SSH is an error at once."""

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(ConnectionError):
            connection.sendall(b"SSH-2.0-nonsense\r\n" + b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
            connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        async with opened(sshd, url=f"sftp://user@127.0.0.1:{listener.getsockname()[1]}/srv") as pool:
            with pytest.raises(errors.ConnectionLost):
                await pool.connect()
        thread.join()


@pytest_twisted.ensureDeferred
async def test_no_sftp(open_directory: Path) -> None:
    """A server without SFTP says what its administrator can do."""
    sshd = Sshd(open_directory, config="# no subsystem here")
    sshd.start()
    try:
        async with opened(sshd) as pool:
            with pytest.raises(errors.ServerError, match="enable the sftp subsystem"):
                await pool.connect()
    finally:
        sshd.stop()
