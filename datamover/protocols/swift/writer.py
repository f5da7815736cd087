"""Make objects, and their container if it is missing; the ETag that the service returns is checked."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress

from datamover.concurrency.threads import Threads
from datamover.protocols.http_place.refused import Refused
from datamover.protocols.object_store.bodies import SLICED, answered, body_of
from datamover.protocols.object_store.found import etag_in
from datamover.protocols.object_store.seam import Part
from datamover.protocols.swift.outcomes import outcome_of
from datamover.protocols.swift.refusals import SwiftRefusals
from datamover.protocols.swift.service import Body, Name, Query, SwiftService

POLICY = "X-Storage-Policy"
ACCEPTED = 202
"""The status of an answer whose body has the outcome."""


class ObjectWriter:
    """Sends the requests that make objects. All methods raise Refused."""

    def __init__(self, service: SwiftService, refusals: SwiftRefusals, container: str, threads: Threads) -> None:
        self._service = service
        self._refusals = refusals
        self._container = container
        self._threads = threads

    async def put(self, path: str, name: Name, data: bytes, headers: Mapping[str, str]) -> Part:
        """Store bytes; completes when the service has stored them and checked their digest. Cancels as ``answered``."""
        md5 = await self._threads.run(_md5, data) if len(data) > SLICED else _md5(data)
        body = body_of(data)
        await answered(self.make(path, name, md5, headers={**headers, "ETag": md5}, body=body), body)
        return Part(len(data), md5)

    async def make(
        self,
        path: str,
        name: Name,
        etag: str | None,
        *,
        query: Query = (),
        headers: Mapping[str, str],
        body: Body = None,
        extra: float = 0.0,
    ) -> None:
        """Make an object that must have ``etag`` (None: unknown); ``extra`` as in ``Service.ask``.

        Raises ChecksumMismatch, Unreadable.
        """
        try:
            made = await self._put(name, query, headers, body, extra)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            await self._make_container(name.container)
            made = await self._put(name, query, headers, body, extra)
        if etag is not None and made not in (etag, ""):
            raise self._refusals.damaged(path, "what the service holds is not what was sent: its ETag differs")

    async def _put(self, name: Name, query: Query, headers: Mapping[str, str], body: Body, extra: float) -> str:
        """Send the request; return the ETag in the answer."""
        answer = await self._service.ask("PUT", name, query, headers, body, extra=extra)
        if answer.head.status != ACCEPTED:
            return etag_in(answer.head)
        return str(outcome_of(answer.head, answer.body).get("Etag") or "").strip('"')

    async def _make_container(self, container: str) -> None:
        """Make a container; that of segments gets the storage policy of the objects' container."""
        headers = {}
        if container != self._container:
            with suppress(Refused):
                policy = (await self._service.ask("HEAD", Name(self._container))).head.header(POLICY)
                headers = {POLICY: policy} if policy else {}
        try:
            await self._service.ask("PUT", Name(container), headers=headers)
        except Refused as refusal:
            if refusal.status == 403:
                raise self._refusals.no_container() from refusal
            if refusal.status == 404:
                raise self._refusals.no_account() from refusal
            raise


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
