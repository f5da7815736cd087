"""The connections to the service of one destination, and what was learnt of it."""

from bisect import insort
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from datamover.concurrency.threads import Threads
from datamover.errors import DestinationForbidden, Scope
from datamover.protocols.base import Ability, Lack
from datamover.protocols.http.client.agent import PolicyAgent
from datamover.protocols.http.streams import Streams
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.object_store.conditions import Conditions
from datamover.protocols.object_store.upload import Tools
from datamover.protocols.place import UnfinishedUpload
from datamover.protocols.s3.address import BucketAddress
from datamover.protocols.s3.bucket import Bucket
from datamover.protocols.s3.credentials import KeyReader, KeySource
from datamover.protocols.s3.digests import Checking
from datamover.protocols.s3.documents import Pending
from datamover.protocols.s3.made import MadeUploads
from datamover.protocols.s3.objects import ARCHIVED, Storing
from datamover.protocols.s3.place import S3Place
from datamover.protocols.s3.refusals import S3Refusals
from datamover.protocols.s3.service import S3Service
from datamover.protocols.s3.writer import S3Writer

STREAMS = 8
"""Connections over which one large object may be read."""
UPLOADS_TOLD = 100
"""Unfinished uploads that are reported, the oldest ones."""


class S3Pool:
    """``protocols.place.DestinationPool`` of one prefix of a bucket."""

    def __init__(
        self,
        agent: PolicyAgent,
        address: BucketAddress,
        region: str,
        prefix: str,
        files: KeySource,
        storing: Storing,
        part_size: int,
        md5_etags: bool,
        name: str,
        abilities: frozenset[Ability],
        reactor: Any,
    ) -> None:
        archived = f"objects of the storage class {storing.storage_class} are read only once they were restored"
        self.lacks: Sequence[Lack] = (Lack(Ability.READ, archived),) if storing.storage_class in ARCHIVED else ()
        self._agent = agent
        # Two: if the disk with the key hangs, digests are still computed.
        self._threads = Threads(reactor, f"destination-{name}", 2)
        self._conditions = Conditions(reactor.seconds)
        service = S3Service(agent, address, region, KeyReader(files, self._threads, reactor.seconds), reactor)
        checking, made = Checking(md5_etags=md5_etags), MadeUploads(address.limits)
        streams = Streams(reactor, STREAMS, agent.busy)
        missing = frozenset(Ability) - abilities
        self._buckets = {}
        self._places = {}
        for side in (Scope.SOURCE, Scope.DESTINATION):
            refusals = S3Refusals(name, side, address)
            writer = S3Writer(service, refusals, checking, self._threads)
            bucket = Bucket(service, prefix, refusals, storing, writer, made)
            origin = partial(ResourceOrigin, bucket, clock=reactor, streams=streams)
            tools = Tools(bucket, self._conditions, part_size, origin, reactor)
            self._buckets[side] = bucket
            self._places[side] = S3Place(bucket, origin, tools, missing)

    def at(self, side: Scope) -> S3Place:
        return self._places[side]

    async def connect(self) -> None:
        """List a key, which needs a login, and find out whether the service honours conditions."""
        bucket = self._buckets[Scope.DESTINATION]
        # A key that may not list has logged in all the same, and may be able to read and write.
        with suppress(DestinationForbidden):
            await bucket.list_page(bucket.key(""), "", most=1)
        await self._conditions.probe(bucket)

    async def unfinished_uploads(self) -> Sequence[UnfinishedUpload]:
        bucket = self._buckets[Scope.DESTINATION]
        own = await bucket.initiator.get()
        oldest: list[Pending] = []
        async for pending in bucket.list_uploads(bucket.inside(""), ""):
            if pending.initiator == own:
                insort(oldest, pending, key=lambda each: each.initiated)
                del oldest[UPLOADS_TOLD:]
        return [UnfinishedUpload(bucket.path(each.key), each.initiated, each.upload) for each in oldest]

    async def close(self) -> None:
        await self._agent.close()
        await self._threads.close()
