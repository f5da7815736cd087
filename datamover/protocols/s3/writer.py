"""Sending bytes: with their digests, in the way in which the service checks them, and its answer held against them."""

from collections.abc import Mapping

from datamover.concurrency.threads import Threads
from datamover.protocols.http.content import WholeAnswer
from datamover.protocols.object_store.bodies import SLICED, answered, body_of
from datamover.protocols.object_store.found import etag_in
from datamover.protocols.s3.address import Query
from datamover.protocols.s3.digests import Checking, Digests
from datamover.protocols.s3.refusals import S3Refusals
from datamover.protocols.s3.service import S3Refused, S3Service


class S3Writer:
    """Sends objects and parts, with the errors of one side."""

    def __init__(self, service: S3Service, refusals: S3Refusals, checking: Checking, threads: Threads) -> None:
        """``checking`` is what was learnt of the service; large bodies are digested in ``threads``."""
        self.checking = checking
        self._service = service
        self._refusals = refusals
        self._threads = threads

    async def put(
        self, path: str, key: str, query: Query, data: bytes, headers: Mapping[str, str], *, checked: bool = True
    ) -> tuple[WholeAnswer, Digests]:
        """Send ``data``; completes when the service has taken it. Raises Refused, and ChecksumMismatch.

        Without ``checked`` it is sent with its MD5 alone. Cancelled like ``answered``.
        """
        checking = self.checking if checked else self.checking.unchecked()
        try:
            return await self._sent(path, key, query, data, headers, checking)
        except S3Refused as refusal:
            if not self.checking.wants_signed(refusal):
                raise
        return await self._sent(path, key, query, data, headers, checking.signing())

    async def _sent(
        self, path: str, key: str, query: Query, data: bytes, headers: Mapping[str, str], checking: Checking
    ) -> tuple[WholeAnswer, Digests]:
        if len(data) <= SLICED:
            digests = Digests.of(data, checking)
        else:
            digests = await self._threads.run(Digests.of, data, checking)
        sent = {**headers, **digests.headers(checking)}
        body = body_of(data)
        answer = await answered(self._service.ask("PUT", key, query, sent, body, digests.payload), body)
        self.checking.learn(digests, answer.head, asked=checking.sha256)
        if self.checking.md5_etags and digests.contradicts(etag_in(answer.head), answer.head):
            if not digests.confirmed(answer.head):
                raise self._refusals.damaged(
                    path,
                    "what the service holds is not what was sent: its ETag differs; if its ETags are no MD5s, set "
                    "md5_etags = false",
                )
            self.checking.md5_etags = False
        return answer, digests
