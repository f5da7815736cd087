"""The interface that a protocol implements to have its files read by GET."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.response import Response
from datamover.protocols.http_place.refusals import HttpRefusals


@dataclass(frozen=True, slots=True)
class Found:
    """A file that exists."""

    inspection: Inspection
    condition: Mapping[str, str] = field(default_factory=dict)
    """Headers that make a request fail if the file has changed, such as If-Match with a strong ETag (RFC 9110 13.1.1).

    Empty if the server gives no validator; the file is then read over one connection."""


class Resources(Protocol):
    """The files below one root, with the errors of one side; paths are as in ``protocols.place.Place``."""

    @property
    def refusals(self) -> HttpRefusals: ...

    @property
    def serves_ranges(self) -> bool:
        """Whether every server of the protocol serves ranges, so that a file is read in ranges from its beginning."""
        ...

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one path; None if nothing is there. Raises errors of the side."""
        ...

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        """Return the answer to a GET, of status 200 or 206, once its head is here.

        Raises Refused for any other answer, and errors of the side. Cancelling drops the connection.
        """
        ...

    def found(self, path: str, head: Head) -> Found:
        """Return what the head of an answer to GET says of the file."""
        ...
