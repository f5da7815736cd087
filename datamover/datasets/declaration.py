"""The declaration of a dataset by its package, which configuration, requests and engine read."""

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
    """The keys of its section, with their checks; it says which are live and which name secret files."""
    services: Callable[[S], Iterable[str]]
    """Returns the URLs of the services that it uses; their origins are allowed whatever ``[sources]`` says."""
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
"""The base URL of a service, without a "/" at its end."""
