"""The identities in a client's certificate, written as in ``[clients.NAME] certificate``.

The TLS handshake has verified the certificate before.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.logger import Logger

log = Logger()

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_DNS = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_EXPECTED = (
    'expected "sha256:" and the fingerprint, or what the certificate says: "dns:portal.example.org", '
    '"email:portal@example.org", "uri:spiffe://example.org/portal", "subject:CN=portal,O=Example"'
)


def _fingerprint(text: str) -> str:
    digits = text.replace(":", "").lower()
    return digits if _FINGERPRINT.fullmatch(digits) else ""


def _subject(text: str) -> str:
    try:
        return x509.Name.from_rfc4514_string(text).rfc4514_string()
    except ValueError:
        return ""


_FORMS: dict[str, Callable[[str], str]] = {
    "sha256": _fingerprint,
    "dns": lambda text: text.lower() if _DNS.fullmatch(text.lower()) else "",
    "email": lambda text: text if "@" in text else "",
    "uri": lambda text: text if ":" in text else "",
    "subject": _subject,
}
"""Returns the normal form of an identity, by its kind; "" for a value that is not one."""


def parse_identity(text: str) -> str:
    """Return an identity in its normal form; raises ValueError with what was expected."""
    kind, _, value = text.partition(":")
    spelt = _FORMS[kind](value.strip()) if kind in _FORMS else ""
    if not spelt:
        raise ValueError(_EXPECTED)
    return f"{kind}:{spelt}"


def identities(certificate: x509.Certificate) -> frozenset[str]:
    """Return the identities in a certificate, without those that cannot be parsed."""
    found = {f"sha256:{certificate.fingerprint(SHA256()).hex()}"}
    try:
        found.add(f"subject:{certificate.subject.rfc4514_string()}")
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return frozenset(found)
    found |= {f"dns:{name.lower()}" for name in names.get_values_for_type(x509.DNSName)}
    found |= {f"email:{name}" for name in names.get_values_for_type(x509.RFC822Name)}
    found |= {f"uri:{name}" for name in names.get_values_for_type(x509.UniformResourceIdentifier)}
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Holders:
    """The clients that log in with a certificate, by its identity."""

    names: Mapping[str, str]

    def name(self, certificate: x509.Certificate, address: str) -> str | None:
        """Return the client that a certificate belongs to; log and return None where it is no client's or several'."""
        found = {self.names[identity] for identity in identities(certificate) if identity in self.names}
        if len(found) == 1:
            return found.pop()
        log.warn(
            "a certificate from {address} is {whose}: sha256:{fingerprint}",
            address=address,
            whose="several clients'" if found else "no client's",
            fingerprint=certificate.fingerprint(SHA256()).hex(),
        )
        return None
