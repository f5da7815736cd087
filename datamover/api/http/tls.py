"""TLS for the listeners, with the files of ``[tls]``, which are read again when they change.

A connection keeps the certificate that it began with; a new connection gets the current one. If changed files cannot be
used, that is logged and the previous certificate stays in use.
"""

import os
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover.api.http.turns import Turns
from datamover.bounds.door import TLS_PIECE
from datamover.config.schema import Tls
from datamover.errors import ConfigError
from datamover.security.secret_files import exposure

log = Logger()

LOOK = 1.0
"""Seconds between two checks of the files' times."""

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, those with forward secrecy and authenticated encryption. Every cipher of TLS 1.3 has both."""

_TOLD = b"this listener speaks TLS: use https://\n"
_PLAIN = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    % (len(_TOLD), _TOLD)
)
_REASONS = {
    7: "its signature is wrong",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its authority is not in tls.client_ca_file",
    20: "its authority is not in tls.client_ca_file",
    21: "its authority is not in tls.client_ca_file",
    26: "it is not meant for clients",
}
"""X509_V_ERR_… of OpenSSL's x509_vfy.h."""

Stamp = tuple[tuple[int, int, int], ...]
"""Device, inode and time of change of each file; it differs after a renewal."""


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """Makes the server side of TLS connections, with the current content of the files of ``[tls]``."""

    def __init__(self, settings: Tls, seconds: Callable[[], float], *, file: str = "datamover.toml") -> None:
        """Read the files; raises ConfigError, which names the key and the file, if one cannot be used."""
        self._settings = settings
        self._seconds = seconds
        self._file = file
        self._stamp = self._look()
        self._context = self._load()
        self._looked = seconds()

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803
        self.renew()
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        return connection

    def renew(self) -> None:
        """Read the files again if they have changed; checks at most once a second."""
        if self._seconds() - self._looked < LOOK:
            return
        self._looked = self._seconds()
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._context = self._load()
        except ConfigError as error:
            log.critical(
                "the previous certificate stays in use, the renewed one cannot be used: {why}", why=error.message
            )

    def _look(self) -> Stamp:
        settings = self._settings
        files = [settings.certificate_file, settings.key_file, settings.client_ca_file]
        return tuple(_stamp(path) for path in files if path is not None)

    def _load(self) -> SSL.Context:
        settings = self._settings
        assert settings.certificate_file is not None, "the configuration was checked"
        assert settings.key_file is not None, "the configuration was checked"
        certificate, *chain = self._certificates("certificate_file", settings.certificate_file)
        key = self._key(settings.key_file)
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        # No session resumption: every connection shows its certificate again.
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET)
        context.set_options(SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_session_id(b"datamover")
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        try:
            if key.public_key() != certificate.public_key():
                reason = "is not the key of the certificate in certificate_file"
                raise self._refusal("key_file", settings.key_file, reason)
            context.use_certificate(certificate)
            for each in chain:
                context.add_extra_chain_cert(each)
            context.use_privatekey(key)  # type: ignore[arg-type]
        except (SSL.Error, TypeError, UnsupportedAlgorithm, ValueError):
            raise self._refusal("certificate_file", settings.certificate_file, "is refused by OpenSSL") from None
        if settings.client_ca_file is not None:
            self._certificates("client_ca_file", settings.client_ca_file)
            try:
                context.load_verify_locations(str(settings.client_ca_file))
                context.load_client_ca(os.fsencode(settings.client_ca_file))
            except SSL.Error:
                raise self._refusal("client_ca_file", settings.client_ca_file, "is refused by OpenSSL") from None
            context.set_verify(SSL.VERIFY_PEER, _verify)
        context.set_cipher_list(CIPHERS)
        ends = certificate.not_valid_after_utc
        if ends < datetime.now(UTC):
            log.warn("the certificate in {file} has expired: renew it", file=str(settings.certificate_file))
        log.info(
            "TLS with the certificate in {file}, valid until {ends}", file=str(settings.certificate_file), ends=ends
        )
        return context

    def _certificates(self, key: str, path: Path) -> list[x509.Certificate]:
        content, _ = self._read(key, path)
        try:
            return x509.load_pem_x509_certificates(content)
        except ValueError:
            raise self._refusal(key, path, "holds no certificate in PEM") from None

    def _key(self, path: Path) -> PrivateKeyTypes:
        content, mode = self._read("key_file", path)
        if (reason := exposure(path, mode)) is not None:
            raise ConfigError(f"{self._file}: tls.key_file: {reason}")
        try:
            return load_pem_private_key(content, None)
        except (TypeError, UnsupportedAlgorithm, ValueError):
            raise self._refusal(
                "key_file", path, "holds no private key in PEM without a passphrase, of a kind that is supported"
            ) from None

    def _read(self, key: str, path: Path) -> tuple[bytes, int]:
        """Return a file's content and its mode."""
        try:
            with path.open("rb") as file:
                return file.read(2**20), os.fstat(file.fileno()).st_mode
        except OSError as error:
            raise self._refusal(key, path, f"cannot be read: {error.strerror}") from None

    def _refusal(self, key: str, path: Path, reason: str) -> ConfigError:
        return ConfigError(f"{self._file}: tls.{key}: {path} {reason}")


def over_tls(tls: ServerTLS, factory: IProtocolFactory, reactor: Any) -> TLSMemoryBIOFactory:
    """Return a factory that serves ``factory``, a site with ``turns``, over TLS, and refuses plain HTTP."""
    return _OverTLS(tls, False, factory, reactor)


class _OverTLS(TLSMemoryBIOFactory):
    def buildProtocol(self, addr: Any) -> Any:  # noqa: N802
        """Return the protocol for a connection, or None, which closes it, if the site has no channel for it."""
        channel = self.wrappedFactory.buildProtocol(addr)
        return None if channel is None else _Connection(self, channel)


class _Connection(BufferingTLSTransport):
    """One TLS connection. If it begins with an HTTP method, it is answered in plain text and closed.

    A handshake takes a millisecond of CPU time, and each record some microseconds, however small it is: what is
    received waits for its turn, and nothing more is received meanwhile.
    """

    factory: Any
    _begun = False
    _refused = False
    _working = False
    """What was received is being decrypted, in turns."""
    _held = False
    """The channel wants nothing more for now."""

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()  # type: ignore[no-untyped-call]
        self._come = bytearray()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if not self._begun and data:
            self._begun = True
            self._refused = data[:1].isupper()
            if self._refused:
                self._received.write(_PLAIN)
                # The rest is thrown away, so that the client gets the answer; the HTTP channel's timeout ends it.
                self._received.loseWriteConnection()
        if not self._refused:
            self._come += data
            self._go_on()

    def pauseProducing(self) -> None:  # noqa: N802
        self._held = True
        self._received.pauseProducing()

    def resumeProducing(self) -> None:  # noqa: N802
        self._held = False
        self._go_on()

    def _go_on(self) -> None:
        """Decrypt what has come, or receive more."""
        if self._held or self._working or not self.connected:
            return
        if not self._come:
            self._received.resumeProducing()
            return
        self._working = True
        self._received.pauseProducing()
        channel: Any = self.wrappedProtocol
        turns: Turns = self.factory.wrappedFactory.turns
        turns.run(channel.who, self._decrypt()).addBoth(self._decrypted)

    def _decrypt(self) -> Generator[None, None, None]:
        while self._come and self.connected and not self._held:
            piece = bytes(self._come[:TLS_PIECE])
            del self._come[:TLS_PIECE]
            super().dataReceived(piece)  # type: ignore[no-untyped-call]
            yield

    def _decrypted(self, result: Failure | None) -> None:
        self._working = False
        if result is not None:
            log.failure("a TLS connection failed, and is closed", result)
            self._come.clear()
            self._received.abortConnection()
        self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        super().connectionLost(reason)
        self._producer = None  # The channel, which refers to the connection.

    def _tlsShutdownFinished(self, reason: Any) -> None:  # noqa: N802
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]
        if reason is not None:
            # Its frames refer to it and to the connection: the memory of many would be freed at once, later.
            reason.tb = reason.value.__traceback__ = None

    @property
    def _received(self) -> Any:
        """The connection below TLS."""
        return self.transport


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _verify(connection: SSL.Connection, certificate: X509, code: int, depth: int, trusted: int) -> bool:
    """Refuse an invalid client certificate and log why (OpenSSL's verify callback)."""
    if not trusted:
        peer: Any = connection.get_app_data().transport.getPeer()
        reason = _REASONS.get(code, f"OpenSSL's error {code}")
        address = getattr(peer, "host", "a Unix socket")
        log.warn("a client's certificate from {address} is not valid: {reason}", address=address, reason=reason)
    return bool(trusted)
