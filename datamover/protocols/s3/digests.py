"""The digests of what is sent, and how the service is asked to check them."""

import base64
import hashlib
from dataclasses import dataclass

from datamover.protocols.http.answers import Head
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.s3.objects import plain_md5
from datamover.protocols.s3.signing import UNSIGNED

CHECKSUM = "x-amz-checksum-sha256"
_UNSIGNED_REFUSED = frozenset(
    {
        "",
        "AccessDenied",
        "InvalidArgument",
        "InvalidRequest",
        "MissingSecurityHeader",
        "NotImplemented",
        "SignatureDoesNotMatch",
        "XAmzContentSHA256Mismatch",
    }
)


class Checking:
    """How one service checks what arrives; learnt from its answers."""

    def __init__(self) -> None:
        self._sha256: bool | None = None
        self._unsigned: bool | None = None

    @property
    def sha256(self) -> bool:
        """Whether ``x-amz-checksum-sha256`` is sent."""
        return self._sha256 is not False

    @property
    def md5(self) -> bool:
        """Whether ``Content-MD5`` is sent: the service is not known to check the other."""
        return self._sha256 is not True

    @property
    def signed(self) -> bool:
        """Whether the sha256 of a body is signed as such, and so computed once more by the service.

        What is signed in any case are the headers, with the digest by which the service checks the body.
        """
        return self._unsigned is False

    def learn(self, sent: "Digests", head: Head) -> None:
        """Take note whether the service has taken ``x-amz-checksum-sha256``: it says it back then."""
        self._sha256 = sent.sha256 is not None and head.header(CHECKSUM) == sent.sha256_base64
        self._unsigned = not sent.signed

    def wants_signed(self, refusal: Refused) -> bool:
        """Tell whether a refusal may be because the body was not signed, as long as no unsigned one was accepted."""
        return self._unsigned is None and refusal.code in _UNSIGNED_REFUSED

    def signing(self) -> "Checking":
        """Return the same, with bodies signed."""
        other = Checking()
        other._sha256, other._unsigned = self._sha256, False
        return other

    def refused(self) -> None:
        """Take note that the service does not take it."""
        self._sha256 = False


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of one body."""

    sha256: str | None
    """Hex."""
    md5: bytes | None
    signed: bool
    """Whether the sha256 is what is signed of the body."""

    @classmethod
    def of(cls, data: bytes, checking: Checking) -> "Digests":
        """Compute the digests that are sent; takes a while for many bytes, and lets other threads run meanwhile."""
        md5 = hashlib.md5(data, usedforsecurity=False).digest() if checking.md5 else None
        sha256 = hashlib.sha256(data).hexdigest() if checking.sha256 or checking.signed else None
        return cls(sha256, md5, checking.signed)

    @property
    def payload(self) -> str:
        """What is signed of the body."""
        return self.sha256 if self.signed and self.sha256 is not None else UNSIGNED

    @property
    def sha256_base64(self) -> str:
        assert self.sha256 is not None
        return base64.b64encode(bytes.fromhex(self.sha256)).decode("ascii")

    def headers(self, checking: Checking) -> dict[str, str]:
        """Return the headers that have the service check the bytes."""
        headers = {}
        if checking.sha256 and self.sha256 is not None:
            headers[CHECKSUM] = self.sha256_base64
        if self.md5 is not None:
            headers["Content-MD5"] = base64.b64encode(self.md5).decode("ascii")
        return headers

    def contradicts(self, etag: str, head: Head) -> bool:
        """Tell whether an answer's ETag is the MD5 of other bytes."""
        told = plain_md5(etag, head)
        return told is not None and self.md5 is not None and told != self.md5.hex()
