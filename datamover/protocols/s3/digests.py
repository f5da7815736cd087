"""The digests of bodies, and by which of them the service checks what arrives."""

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
    """How one service checks bodies; learnt from its answers."""

    def __init__(self, *, md5_etags: bool = True) -> None:
        self.md5_etags = md5_etags
        """Whether an ETag that looks like an MD5 is one."""
        self._sha256: bool | None = None
        self._unsigned: bool | None = None
        self.listed: bool | None = None
        """Whether the list of an upload's parts tells their checksums; None: unknown.

        An upload whose parts have checksums is completed only with all of them, and those of one that is gone on with
        come from that list. SeaweedFS lists none: there uploads are begun without.
        """

    @property
    def sha256(self) -> bool:
        """Whether ``x-amz-checksum-sha256`` is sent."""
        return self._sha256 is not False

    @property
    def md5(self) -> bool:
        """Whether ``Content-MD5`` is sent, because the service is not known to check the other."""
        return self._sha256 is not True

    @property
    def signed(self) -> bool:
        """Whether the signature covers the sha256 of the body, which the service then computes once more.

        In any case it covers the headers, among them the digest by which the service checks the body.
        """
        return self._unsigned is False

    def learn(self, sent: "Digests", head: Head, *, asked: bool) -> None:
        """Record whether the service supports ``x-amz-checksum-sha256``, if ``asked``: its answer then has it, too."""
        if asked:
            self._sha256 = sent.confirmed(head)
        self._unsigned = not sent.signed

    def wants_signed(self, refusal: Refused) -> bool:
        """Tell whether a refusal may mean that the body must be signed; no unsigned one was accepted so far."""
        return self._unsigned is None and refusal.code in _UNSIGNED_REFUSED

    def signing(self) -> "Checking":
        """Return a copy, with bodies signed."""
        other = Checking()
        other._sha256, other._unsigned = self._sha256, False
        return other

    def unchecked(self) -> "Checking":
        """Return a copy, without sha256."""
        other = Checking()
        other._sha256, other._unsigned = False, self._unsigned
        return other

    def refused(self) -> None:
        """Record that the service does not support ``x-amz-checksum-sha256``."""
        self._sha256 = False


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of one body."""

    sha256: str | None
    """Hex."""
    md5: bytes | None
    signed: bool
    """Whether the signature covers the sha256."""

    @classmethod
    def of(cls, data: bytes, checking: Checking) -> "Digests":
        """Compute the digests that are sent; blocks for many bytes, without holding the interpreter's lock."""
        md5 = hashlib.md5(data, usedforsecurity=False).digest() if checking.md5 else None
        sha256 = hashlib.sha256(data).hexdigest() if checking.sha256 or checking.signed else None
        return cls(sha256, md5, checking.signed)

    @property
    def payload(self) -> str:
        """The body's hash in the signature."""
        return self.sha256 if self.signed and self.sha256 is not None else UNSIGNED

    @property
    def sha256_base64(self) -> str:
        assert self.sha256 is not None
        return base64.b64encode(bytes.fromhex(self.sha256)).decode("ascii")

    def headers(self, checking: Checking) -> dict[str, str]:
        """Return the headers by which the service checks the bytes."""
        headers = {}
        if checking.sha256 and self.sha256 is not None:
            headers[CHECKSUM] = self.sha256_base64
        if self.md5 is not None:
            headers["Content-MD5"] = base64.b64encode(self.md5).decode("ascii")
        return headers

    def contradicts(self, etag: str, head: Head) -> bool:
        """Tell whether an answer's ETag is another MD5."""
        told = plain_md5(etag, head)
        return told is not None and self.md5 is not None and told != self.md5.hex()

    def confirmed(self, head: Head) -> bool:
        """Tell whether an answer says that the service has checked the sha256."""
        return self.sha256 is not None and head.header(CHECKSUM) == self.sha256_base64
