"""Sign and send requests to one S3 service; an answer that is no success raises ``S3Refused``."""

import re
import time
from collections.abc import Generator, Mapping
from typing import Any, TypeVar, cast

from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer

from datamover.bounds.servers import LARGEST_REFUSAL, MOST_S3_REDIRECTS
from datamover.protocols.http.answers import READ, Head
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.client.response import Response
from datamover.protocols.http.content import WholeAnswer, beginning, whole
from datamover.protocols.http.treq_client import TreqClient
from datamover.protocols.http_place import refused as http_place
from datamover.protocols.s3.address import BucketAddress, Query
from datamover.protocols.s3.credentials import KeyReader
from datamover.protocols.s3.documents import error_of
from datamover.protocols.s3.permissions import Permission, permission
from datamover.protocols.s3.signing import EMPTY, query_string, signed
from datamover.protocols.slices import in_slices
from datamover.text.pages import words_of
from datamover.text.quoting import cut
from datamover.web.url import shown

T = TypeVar("T")

NO_UPLOAD = "NoSuchUpload"
PARTS_REFUSED = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})
_UNEVEN = "same length"
"""Cloudflare R2: "All non-trailing parts must have the same length."."""
_PARTS_ALLOWED = re.compile(r"(?i)part number must be an integer between 1 and ([1-9]\d{0,5})\b")
_BEGINNING = 256
"""Bytes of an answer within which its document begins."""
CIRCLE = "RedirectLoop"
_KEY_REFUSED = frozenset(
    {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
)
_SHOWN = 200
TEMPORARY = 307
_HEADER_UNKNOWN = frozenset({"", "BadRequest", "InvalidArgument", "InvalidRequest", "NotImplemented", "NotSupported"})
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ERROR = re.compile(rb"<(?:[\w.-]+:)?Error(?:Response)?[\s>]")
_PAGE = re.compile(rb"(?i)<(html|!doctype html)\b")


class S3Refused(http_place.Refused):
    """The service refuses a request."""

    def __init__(
        self, head: Head, code: str = "", message: str = "", region: str | None = None, endpoint: str | None = None
    ) -> None:
        """``code`` is S3's own."""
        super().__init__(head, code, message)
        told = region or head.header("x-amz-bucket-region") or ""
        self.region = told if _REGION.fullmatch(told) else None
        """The region of the bucket, if the service reports it; None if the request was signed for that region."""
        self.location = head.header("Location") or ""
        self.permission: Permission | None = None
        """The permission that the request needed, if known."""
        if elsewhere := endpoint or self.location:
            self.said = f"{self.said}, and names {cut(shown(elsewhere), _SHOWN)}".removeprefix(", and ")

    @property
    def missing(self) -> bool:
        return self.status == 404 and self.code in ("", "NoSuchKey")

    @property
    def upload_gone(self) -> bool:
        return self.code == NO_UPLOAD

    @property
    def uneven(self) -> bool:
        """Whether it is because the parts of an upload are not of one size."""
        return self.code == "InvalidPart" and _UNEVEN in self.said.lower()

    @property
    def most_parts(self) -> int | None:
        """How many parts an upload may have, if it is because of the number of one."""
        found = _PARTS_ALLOWED.search(self.said) if self.code == "InvalidArgument" else None
        return int(found[1]) if found else None

    @property
    def header_unknown(self) -> bool:
        return super().header_unknown and self.code in _HEADER_UNKNOWN


class S3Service:
    """Signs and sends the requests for one bucket."""

    def __init__(self, agent: PolicyAgent, address: BucketAddress, region: str, keys: KeyReader, reactor: Any) -> None:
        self.address = address
        self._agent = agent
        self._treq = TreqClient(agent, reactor)
        self._region = region
        self._keys = keys
        self._reactor = reactor

    async def run(self, steps: Generator[None, None, T]) -> T:
        """Do work on what the service sent in slices, and return its result."""
        return await in_slices(self._reactor, steps)

    async def ask(
        self,
        method: str,
        key: str = "",
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | IBodyProducer | None = None,
        sha256: str = EMPTY,
        *,
        once: bool = False,
    ) -> WholeAnswer:
        """Send a request and return its answer, read whole; ``sha256`` is the digest of ``body``, in hex.

        ``once``: done twice it would leave something, so that it is not sent again where its connection breaks.

        Raises Refused for an answer that is no success, or says so in its body alone, and what ``PolicyAgent.send``
        raises. Cancelling drops the connection.
        """
        direct = method == "PUT" or once
        response = await self._send(method, key, query, headers or {}, body, sha256, direct=direct, once=once)
        _, content = await whole(response)
        if _ERROR.search(content.lstrip()[:_BEGINNING]):
            raise _refusal(response.head, content[:LARGEST_REFUSAL])
        return WholeAnswer(response.head, content)

    async def get(self, key: str, headers: Mapping[str, str]) -> Response:
        """Return the answer to the GET of an object once its head is here; raises what ``ask`` does."""
        response = await self._send("GET", key, (), headers, None, EMPTY, direct=True)
        if response.code not in READ:
            raise await _refused(response)
        return response

    async def _send(
        self,
        method: str,
        key: str,
        query: Query,
        headers: Mapping[str, str],
        body: bytes | IBodyProducer | None,
        sha256: str,
        *,
        direct: bool,
        once: bool = False,
    ) -> Response:
        url = self.address.url(key, query_string(query))
        credentials, region = await self._keys.get(), self._region
        renewed, resigned, hops = False, False, 0
        while True:
            sent = signed(
                method,
                url.authority,
                url.path,
                url.query or "",
                headers,
                sha256,
                credentials,
                region,
                time.time(),
            )
            if direct:
                # treq would double the CPU time of a small file's request (docs/performance.md).
                response = await self._agent.send(method.encode("ascii"), url, sent, body, once=once)
            else:
                raw = Headers({name: [value] for name, value in sent.items()})
                answered = await self._treq.request(method, url.text, headers=raw, data=body)
                response = cast(Response, answered.original)
            if 200 <= response.code < 300:
                return response
            refused = await _refused(response)
            refused.permission = permission(method, query)
            if refused.missing and "uploadId=" in (url.query or ""):
                refused.code = NO_UPLOAD  # Ceph answers NoSuchKey for an upload that does not exist.
            if refused.region == region:
                refused.region = None
            if not renewed and refused.code in _KEY_REFUSED:
                fresh, renewed = await self._keys.get(refused=credentials), True
                if fresh != credentials:
                    credentials = fresh
                    continue
            if not resigned and refused.status == 400 and refused.region is not None:
                # The host is the same, only the signature changes. The answer to a HEAD says no more than that.
                region = self._region = refused.region
                resigned = True
                continue
            there = self.address.redirected(key, query, refused.location) if refused.status == TEMPORARY else None
            if there is not None:
                # For this request only: later ones may be answered by the configured host.
                if hops < MOST_S3_REDIRECTS:
                    url, region, hops = there, refused.region or region, hops + 1
                    continue
                refused.code = CIRCLE
            raise refused


async def _refused(response: Response) -> S3Refused:
    return _refusal(*await beginning(response))


def _refusal(head: Head, body: bytes) -> S3Refused:
    told = error_of(body)
    if told is None:
        # A proxy's page. Other words may hold what was signed.
        return S3Refused(head, message=words_of(body) if _PAGE.search(body[:_BEGINNING]) else "")
    return S3Refused(head, told.code, told.message, told.region, told.endpoint)
