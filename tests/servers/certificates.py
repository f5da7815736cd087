"""A certificate authority for tests."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL.SSL import TLS_SERVER_METHOD, VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection, Context
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

HOSTS = ("localhost", "127.0.0.1")
UNKNOWN_CURVE = b"""-----BEGIN EC PRIVATE KEY-----
MD4CAQEEDq6v8Nxve1/t6zubc/9KoAcGBSuBBAAGoSADHgAEXKG4wA/dS+B6SPC4
q6ig5zcDNIZtBXO+EGrMjw==
-----END EC PRIVATE KEY-----
"""
"""A key for tests alone, on a curve that cryptography does not support (secp112r1)."""
CERTIFICATE_OF_UNKNOWN_CURVE = b"""-----BEGIN CERTIFICATE-----
MIIBJDCB7qADAgECAhRXFVXhIsD2Ax4nNzb+La7rYG4bYzAKBggqhkjOPQQDAjAM
MQowCAYDVQQDDAF4MCAXDTI2MTIwMTAzNDMyNloYDzIwNTEwNzIzMDM0MzI2WjAM
MQowCAYDVQQDDAF4MDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAEe3BDucWcPaqpzWB0
U6cqq14sSvqt0oh9+js3DKNTMFEwHQYDVR0OBBYEFGtzGuz41+gq98Dksv9ycb7d
xO53MB8GA1UdIwQYMBaAFGtzGuz41+gq98Dksv9ycb7dxO53MA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDJQAwIgIPAJvC8oVcfJ+Ga6fTQHgBAg8AgHCiCjA7
wYCptqn+k9Y=
-----END CERTIFICATE-----
"""
"""A certificate of a key on that curve."""


class Authority:
    """Signs certificates for servers; clients must trust ``file`` in ``directory``."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self.directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(self._name, self._key, self._name, (), timedelta(days=1), authority=True)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        *hosts: str,
        valid_for: timedelta = timedelta(hours=1),
        self_signed: bool = False,
        name: str = "server",
        usage: x509.ObjectIdentifier | None = None,
    ) -> tuple[Path, Path]:
        """Return the files of a certificate and its key, for ``hosts`` (default: this machine); negative: expired.

        ``name`` is its common name, ``usage`` its extended key usage.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._sign(subject, key, subject, hosts or HOSTS, valid_for, signer=key)
            if self_signed
            else self._sign(subject, key, self._name, hosts or HOSTS, valid_for, usage=usage)
        )
        stem = self.directory / f"server-{certificate.serial_number:x}"
        certificate_file, key_file = stem.with_suffix(".pem"), stem.with_suffix(".key")
        certificate_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        key_file.chmod(0o600)
        return certificate_file, key_file

    def server(self, *hosts: str, valid_for: timedelta = timedelta(hours=1), self_signed: bool = False) -> "ServerTLS":
        """Return the TLS context of a server in this process, with a certificate from ``issue``."""
        return ServerTLS(*self.issue(*hosts, valid_for=valid_for, self_signed=self_signed))

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        hosts: tuple[str, ...],
        valid_for: timedelta,
        *,
        authority: bool = False,
        signer: ec.EllipticCurvePrivateKey | None = None,
        usage: x509.ObjectIdentifier | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + valid_for)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if hosts:
            names = [_general_name(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        return builder.sign(signer or self._key, hashes.SHA256())


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@implementer(IOpenSSLServerConnectionCreator)
class ServerTLS:
    """The context factory for ``reactor.listenSSL``, from the files of a certificate and its key.

    With ``clients`` it lets in only clients that show a certificate of that authority.
    """

    def __init__(self, certificate: Path, key: Path, *, clients: Path | None = None) -> None:
        self._context = Context(TLS_SERVER_METHOD)
        self._context.use_certificate_chain_file(str(certificate))
        self._context.use_privatekey_file(str(key))
        if clients is not None:
            self._context.load_verify_locations(str(clients))
            self._context.set_verify(VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: N802, N803
        return Connection(self._context, None)


__all__ = ["HOSTS", "Authority", "ServerTLS"]
