"""What the package of a dataset declares, for the configuration, the requests and the engine to ask."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator

from datamover.config.schema import DeclaredSection
from datamover.datasets.base import Dataset
from datamover.protocols.http import HttpClient

S = TypeVar("S", bound=DeclaredSection)


@dataclass(frozen=True, slots=True)
class Declaration(Generic[S]):
    """One dataset."""

    name: str
    """The scheme of its URLs, its section of the configuration, and, with "://", its name in a client's ``sources``."""
    section: type[S]
    """The keys of its section, what is checked of them, which are live and which name secret files."""
    services: Callable[[S], Iterable[str]]
    """Returns the URLs of the services that it asks; their origins are reached whatever ``[sources]`` says."""
    open: Callable[[S, HttpClient, Any], Dataset]
    """Returns the dataset, given its section, a client that reaches its services, and the reactor; connects nowhere."""


def _web_base(value: str) -> str:
    expected = 'expected an http(s) URL such as "https://biocache-ws.ala.org.au/ws", without login and query'
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError(expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not value.isprintable():
        raise ValueError(expected)
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError(expected)
    return value.rstrip("/")


WebBase = Annotated[str, AfterValidator(_web_base)]
"""The URL of a service, below which its paths are; without a "/" at its end."""
