"""The files that TLS needs: trusted authorities, and a client certificate with its key."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL.SSL import Context
from OpenSSL.SSL import Error as OpenSSLError
from twisted.internet.ssl import CertificateOptions

from datamover.errors import ConfigError
from datamover.security import secret_files

LARGEST = 2**20
"""Bytes of a certificate file that are read, at most."""

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Device, inode and modification time of each file; changes when a file is replaced."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that one table of the configuration names; with ``certificate`` comes ``key``."""

    table: str
    """Names the table, for messages."""
    authorities: Path | None = None
    """PEM; trusted in addition to the system's authorities."""
    certificate: Path | None = None
    """PEM; shown to servers that ask for one, followed by the intermediate certificates."""
    key: Path | None = None
    shows: bool = True
    """Whether the table may name a certificate."""
    file: str = ""
    """The configuration file, for messages; "" if the caller adds it."""

    @property
    def named(self) -> tuple[Path, ...]:
        """The files that the table names."""
        return tuple(path for path in (self.authorities, self.certificate, self.key) if path is not None)

    def context(self) -> Context:
        """Return an OpenSSL context with these files; blocks. Raises ConfigError, which names the key and the file."""
        context: Context = CertificateOptions().getContext()
        context.set_default_verify_paths()
        if self.authorities is not None:
            try:
                context.load_verify_locations(str(self.authorities))
            except OpenSSLError:
                raise self._unusable(
                    "ca_file", self.authorities, "expected a readable file of PEM certificates"
                ) from None
        if self.certificate is not None and self.key is not None:
            certificate, *chain = self._certificates(self.certificate)
            key = self._key(self.key)
            try:
                if key.public_key() != certificate.public_key():
                    reason = "expected the key of the certificate in certificate_file"
                    raise self._unusable("key_file", self.key, reason)
                context.use_certificate(certificate)
                for each in chain:
                    context.add_extra_chain_cert(each)
                context.use_privatekey(key)  # type: ignore[arg-type]
            except (OpenSSLError, TypeError, UnsupportedAlgorithm, ValueError):
                raise self._unusable(
                    "certificate_file", self.certificate, "expected a certificate that OpenSSL can use"
                ) from None
        return context

    def stamp(self) -> Stamp:
        """Return the state of the files, to recognise a change; blocks."""
        return tuple(map(_stamp, self.named))

    def _certificates(self, path: Path) -> list[x509.Certificate]:
        expected = "expected a readable file of PEM certificates"
        try:
            with path.open("rb") as file:
                return x509.load_pem_x509_certificates(file.read(LARGEST))
        except OSError as error:
            raise self._unusable("certificate_file", path, f"{error.strerror}: {expected}") from None
        except ValueError:
            raise self._unusable("certificate_file", path, expected) from None

    def _key(self, path: Path) -> PrivateKeyTypes:
        expected = "expected a readable file of a private key in PEM, of a supported kind and without a passphrase"
        try:
            return load_pem_private_key(secret_files.read(path), None)
        except OSError as error:
            raise self._unusable("key_file", path, f"{error.strerror}: {expected}") from None
        except secret_files.Unusable as error:
            raise ConfigError(f"{self._where('key_file')}: {error.reason}") from None
        except (TypeError, UnsupportedAlgorithm, ValueError):
            raise self._unusable("key_file", path, expected) from None

    def _unusable(self, key: str, path: Path, why: str) -> ConfigError:
        return ConfigError(f"{self._where(key)} = {str(path)!r}: {why}")

    def _where(self, key: str) -> str:
        return f"{self.file}: {self.table}.{key}" if self.file else f"{self.table}.{key}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
