"""Endpoints: the servers and destinations at either end of a transfer, and their keys in limits and breakers. Pure."""

from functools import lru_cache
from urllib.parse import urlsplit

from datamover.jobs.values import DatasetSource, PlaceSource, SourceRef
from datamover.web.url import DEFAULT_PORTS


def source_host(source: SourceRef) -> str:
    """Return the key of the endpoint that a source is on: "web host scheme port", "dataset host" or "place name".

    Limits count a web server by its host alone, over all schemes and ports.
    """
    if isinstance(source, PlaceSource):
        return endpoint_key(source.destination)
    if isinstance(source, DatasetSource):
        return f"dataset {urlsplit(source.url).hostname or ''}"
    # A canonical URL has a path. The endpoints of servers are cached: there are few of them, and many files.
    scheme, _, rest = source.url.partition("://")
    return _web_endpoint(scheme, rest.partition("/")[0])


@lru_cache(1024)
def _web_endpoint(scheme: str, authority: str) -> str:
    parts = urlsplit(f"{scheme}://{authority}")
    return f"web {parts.hostname or ''} {scheme} {parts.port or DEFAULT_PORTS[scheme]}"


def host_of(endpoint: str) -> str:
    """Return the host of a source's endpoint, or the name of a destination, for people to read."""
    kind, _, name = endpoint.partition(" ")
    return name.partition(" ")[0] if kind == "web" else name


def server_of(endpoint: str) -> str:
    """Return a source's endpoint for people to read: its host, and its port unless that is the scheme's default."""
    kind, _, name = endpoint.partition(" ")
    host, _, rest = name.partition(" ") if kind == "web" else (name, "", "")
    scheme, _, port = rest.partition(" ")
    if not port or port == str(DEFAULT_PORTS.get(scheme)):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint_key(destination: str) -> str:
    """Return the key of a registered destination."""
    return f"place {destination}"


def place_of(endpoint: str) -> str | None:
    """Return the name of the registered destination that a key stands for; None for any other endpoint."""
    kind, _, name = endpoint.partition(" ")
    return name if kind == "place" else None
