"""The bodies of requests: bytes with their digests, and how the service is asked to check them."""

import base64
import hashlib
from dataclasses import dataclass

from twisted.web.iweb import IBodyProducer

from datamover.protocols.http.answers import Head
from datamover.protocols.http.request_body import SlicedBody
from datamover.protocols.s3.objects import plain_md5

SLICED = 2**18
"""Bytes; larger bodies are sent in slices, so that a slow network is told from one that stands still."""
CHECKSUM = "x-amz-checksum-sha256"


class Checking:
    """How one service checks what arrives; learnt from its answers."""

    def __init__(self) -> None:
        self._sha256: bool | None = None

    @property
    def sha256(self) -> bool:
        """Whether ``x-amz-checksum-sha256`` is sent."""
        return self._sha256 is not False

    @property
    def md5(self) -> bool:
        """Whether ``Content-MD5`` is sent: the service is not known to check the other."""
        return self._sha256 is not True

    def learn(self, sent: "Digested", head: Head) -> None:
        """Take note whether the service has taken ``x-amz-checksum-sha256``: it says it back then."""
        self._sha256 = head.header(CHECKSUM) == sent.sha256_base64

    def refused(self) -> None:
        """Take note that the service does not take it."""
        self._sha256 = False


@dataclass(frozen=True, slots=True)
class Digested:
    """Bytes and their digests."""

    data: bytes
    sha256: str
    """Hex."""
    md5: bytes | None

    @classmethod
    def of(cls, data: bytes, *, md5: bool) -> "Digested":
        """Compute the digests; takes a while for many bytes, and lets other threads run meanwhile."""
        digest = hashlib.md5(data, usedforsecurity=False).digest() if md5 else None
        return cls(data, hashlib.sha256(data).hexdigest(), digest)

    @property
    def sha256_base64(self) -> str:
        return base64.b64encode(bytes.fromhex(self.sha256)).decode("ascii")

    @property
    def body(self) -> bytes | IBodyProducer:
        return self.data if len(self.data) <= SLICED else SlicedBody(self.data)

    def headers(self, checking: Checking) -> dict[str, str]:
        """Return the headers that have the service check the bytes."""
        headers = {}
        if checking.sha256:
            headers[CHECKSUM] = self.sha256_base64
        if self.md5 is not None:
            headers["Content-MD5"] = base64.b64encode(self.md5).decode("ascii")
        return headers

    def contradicts(self, etag: str, head: Head) -> bool:
        """Tell whether an answer's ETag is the MD5 of other bytes."""
        told = plain_md5(etag, head)
        return told is not None and self.md5 is not None and told != self.md5.hex()
