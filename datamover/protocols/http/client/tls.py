"""TLS to web servers, always verified; errors say why it failed."""

from pathlib import Path

from OpenSSL.crypto import X509
from OpenSSL.SSL import VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection, Context
from OpenSSL.SSL import Error as OpenSSLError
from service_identity import VerificationError
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from datamover.errors import ConfigError, Scope, TLSFailed

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


class VerifiedTLS:
    """Makes TLS connections that check the host name, and trust the system's authorities and those of ``ca_file``."""

    def __init__(self, ca_file: Path | None, *, file: str = "datamover.toml") -> None:
        """Read the authorities. Raises ConfigError for a ``ca_file`` without any."""
        self._context: Context = CertificateOptions().getContext()
        self._context.set_default_verify_paths()
        if ca_file is not None:
            try:
                self._context.load_verify_locations(str(ca_file))
            except OpenSSLError:
                raise ConfigError(
                    f"{file}: http.ca_file = {str(ca_file)!r}: expected a readable file of PEM certificates"
                ) from None

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """Return Twisted's connection creator for ``host``."""
        return _Creator(self, host)

    def connection(self, tls: TLSMemoryBIOProtocol, host: str, identity: DNS_ID | IPAddress_ID) -> Connection:
        """Return the OpenSSL connection of ``tls`` to ``host``."""
        connection = Connection(self._context, None)
        connection.set_app_data(tls)
        if isinstance(identity, DNS_ID):
            connection.set_tlsext_host_name(host.encode("ascii"))

        def verify(_: Connection, certificate: X509, code: int, depth: int, trusted: int) -> bool:
            reason = None
            if not trusted:
                reason = _REASONS.get(code, f"its certificate does not hold (OpenSSL's error {code})")
                if code in _UNTRUSTED:
                    reason += "; name the authority's certificate in [http] ca_file if it is to be trusted"
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
    """Return the error for a TLS connection that could not be made."""
    return TLSFailed(f"no secure connection to {host}: {reason}", scope=Scope.SOURCE)


def words(error: OpenSSLError) -> str:
    """Return OpenSSL's message for a failed handshake."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    said = "; ".join(str(entry[-1]) for entry in queue if entry and entry[-1])
    return said or "the handshake failed"
