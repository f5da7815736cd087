"""The bodies of requests: bytes and their MD5, which the service checks."""

import hashlib
from dataclasses import dataclass

from twisted.web.iweb import IBodyProducer

from datamover.concurrency.threads import Threads
from datamover.protocols.http.request_body import SlicedBody

SLICED = 2**18
"""Bytes; larger bodies are sent in slices, so that a slow network is told from one that stands still."""


@dataclass(frozen=True, slots=True)
class Digested:
    """Bytes and their digest."""

    data: bytes
    md5: str

    @property
    def body(self) -> bytes | IBodyProducer:
        return self.data if len(self.data) <= SLICED else SlicedBody(self.data)


async def digested(data: bytes, threads: Threads) -> Digested:
    """Compute the digest, in a thread where that takes a while."""
    return Digested(data, await threads.run(_md5, data) if len(data) > SLICED else _md5(data))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
