"""What a protocol provides whose files are read by GET, by their paths below a root."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from datamover.protocols.base import Inspection
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.response import Response
from datamover.protocols.http_place.refusals import HttpRefusals


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there."""

    inspection: Inspection
    condition: Mapping[str, str] = field(default_factory=dict)
    """The headers of a request that is answered only while the file is the same, such as If-Match with a strong ETag
    (RFC 9110 13.1.1); empty where the server tells nothing that would do: then it is read over one connection."""


class Resources(Protocol):
    """The files below one root, as seen from one side; every path as in ``protocols.place.Place``."""

    @property
    def refusals(self) -> HttpRefusals: ...

    @property
    def serves_ranges(self) -> bool:
        """Whether every server of the protocol serves ranges, so that a file is read in ranges from its beginning."""
        ...

    async def inspect(self, path: str) -> Inspection | None:
        """Inspect one name; None where there is nothing. Raises errors of the side."""
        ...

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        """Return the answer to a GET, of status 200 or 206, once its head is here.

        Raises Refused for any other answer, and errors of the side. Cancelling drops the connection.
        """
        ...

    def found(self, path: str, head: Head) -> Found:
        """Return what the answer to a GET tells of the file."""
        ...
