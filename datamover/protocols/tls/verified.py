"""TLS connections to other services, always verified; errors say why one failed."""

from collections.abc import Callable

from OpenSSL.crypto import X509
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection
from OpenSSL.SSL import Error as OpenSSLError
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover.errors import ConfigError, Scope, TLSFailed
from datamover.protocols.tls.files import TlsFiles

log = Logger()

LOOK = 1.0
"""Seconds between two checks whether the files have changed."""

# X509_V_ERR_… of OpenSSL's x509_vfy.h.
_REASONS = {
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is self-signed",
    19: "its certificate is signed by an authority that is not trusted here",
    20: "its certificate is signed by an authority that is not trusted here",
    21: "its certificate is signed by an authority that is not trusted here",
    23: "its certificate was revoked",
    26: "its certificate is not meant for servers",
}
_UNTRUSTED = (18, 19, 20, 21)
_REFUSED = (
    "bad certificate",
    "unsupported certificate",
    "certificate revoked",
    "certificate expired",
    "certificate unknown",
    "unknown ca",
    "access denied",
)
"""The alerts by which a server refuses a client certificate (RFC 8446, section 6.2)."""


class VerifiedTLS:
    """Makes TLS connections that check the host name and trust the authorities of the system and of ``files``.

    The files are read again when they have changed. If they are unusable then, that is logged, and new connections
    still use what was read before. The system's authorities alone are read by the first connection, since that takes
    longer than all else that making a client does.
    """

    def __init__(self, files: TlsFiles, seconds: Callable[[], float]) -> None:
        """Read the files; ``seconds`` is a monotonic clock. Raises ConfigError, naming key and file."""
        self._files = files
        self._seconds = seconds
        self._stamp = files.stamp()
        self._context = files.context() if files.named else None
        self._looked = seconds()

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Return Twisted's connection creator for ``host``, a name or an address."""
        self._renew()
        return _Creator(self, host)

    def connection(self, tls: TLSMemoryBIOProtocol, host: str, identity: DNS_ID | IPAddress_ID) -> Connection:
        """Return the OpenSSL connection of ``tls`` to ``host``."""
        if self._context is None:
            self._context = self._files.context()
        connection = Connection(self._context, None)
        connection.set_app_data(tls)
        if isinstance(identity, DNS_ID):
            connection.set_tlsext_host_name(identity.hostname)

        def verify(_: Connection, certificate: X509, code: int, depth: int, trusted: int) -> bool:
            reason = None
            if not trusted:
                reason = _REASONS.get(code, f"its certificate is not valid (OpenSSL's error {code})")
                if code in _UNTRUSTED:
                    table = self._files.table
                    reason += f"; name the authority's certificate in [{table}] ca_file if it is to be trusted"
            elif depth == 0:
                try:
                    verify_service_identity(extract_patterns(certificate), [identity], [])
                except (VerificationError, ValueError):
                    reason = "its certificate is for another host name"
            if reason is None:
                return True
            tls.failVerification(Failure(failed(host, reason)))  # type: ignore[no-untyped-call]
            return False

        connection.set_verify(VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def refused(self, host: str, error: OpenSSLError) -> TLSFailed:
        """Return the error for a handshake that ``host`` ended with an alert, or for a server without TLS."""
        said = words(error)
        table = f"[{self._files.table}]"
        if "alert certificate required" in said:
            hint = f": name one in {table} certificate_file and key_file" if self._files.shows else ""
            return failed(host, f"it asks for a certificate{hint}")
        if self._files.certificate is not None and any(f"alert {each}" in said for each in _REFUSED):
            return failed(host, f"it refuses the certificate in {table} certificate_file ({said})")
        return failed(host, said)

    def _renew(self) -> None:
        """Read the files again if they have changed; blocks. Checks at most once in ``LOOK`` seconds."""
        if self._seconds() - self._looked < LOOK:
            return
        self._looked = self._seconds()
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._context = self._files.context()
        except ConfigError as error:
            log.critical("new TLS connections use the files as they were before: {why}", why=error.message)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, tls: VerifiedTLS, host: str) -> None:
        self._tls = tls
        self._host = host

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: N802, N803
        try:
            identity: DNS_ID | IPAddress_ID = IPAddress_ID(self._host)
        except ValueError:
            identity = DNS_ID(self._host)
        return self._tls.connection(tlsProtocol, self._host, identity)


def failed(host: str, reason: str) -> TLSFailed:
    """Return the error for a TLS connection to ``host`` that could not be made."""
    return TLSFailed(f"no secure connection to {host}: {reason}", scope=Scope.SOURCE)


def words(error: OpenSSLError) -> str:
    """Return OpenSSL's message for a failed handshake."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = "; ".join(str(entry[-1]) for entry in queue if entry and entry[-1])
    return said or "the handshake failed"
