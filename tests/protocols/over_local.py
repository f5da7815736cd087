"""A protocol of the tests' own over directories of this machine: ``file`` under another name."""

from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from datamover.protocols.base import Ability
from datamover.protocols.local import LOCAL
from datamover.protocols.place import DestinationPool, PlaceSettings, ProtocolOptions


class OverLocal:
    """``protocols.place.PlaceProtocol`` of URLs whose scheme a subclass names."""

    name: ClassVar[str]
    schemes: ClassVar[tuple[str, ...]]
    other_schemes: ClassVar[tuple[str, ...]] = ()
    abilities: ClassVar[frozenset[Ability]] = LOCAL.abilities
    counts_arriving: ClassVar[bool] = LOCAL.counts_arriving
    longest_name: ClassVar[int] = LOCAL.longest_name
    options: ClassVar[type[ProtocolOptions]] = ProtocolOptions

    def check_url(self, url: str) -> None:
        LOCAL.check_url(_file(url))

    def root(self, url: str) -> str:
        return LOCAL.root(_file(url))

    def host(self, url: str) -> None:
        return None

    def user(self, url: str) -> None:
        return None

    def open(self, settings: PlaceSettings, options: Any, reactor: Any) -> DestinationPool:
        return LOCAL.open(replace(settings, url=_file(settings.url)), options, reactor)


def _file(url: str) -> str:
    return urlsplit(url)._replace(scheme="file", query="").geturl()
