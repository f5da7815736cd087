"""The servers and places at either end of a transfer, by the names that limits and breakers know them by. Pure."""

from functools import lru_cache
from urllib.parse import urlsplit

from datamover.jobs.values import DatasetSource, PlaceSource, SourceRef
from datamover.web.url import DEFAULT_PORTS


def source_host(source: SourceRef) -> str:
    """Return the name of the server that a source is on, as breakers know it: "web host scheme port".

    Limits know a web server by its host alone, whatever its schemes and ports.
    """
    if isinstance(source, PlaceSource):
        return endpoint_key(source.destination)
    if isinstance(source, DatasetSource):
        return f"dataset {urlsplit(source.url).hostname or ''}"
    # A canonical URL has a path; servers are few.
    scheme, _, rest = source.url.partition("://")
    return _web_endpoint(scheme, rest.partition("/")[0])


@lru_cache(1024)
def _web_endpoint(scheme: str, authority: str) -> str:
    parts = urlsplit(f"{scheme}://{authority}")
    return f"web {parts.hostname or ''} {scheme} {parts.port or DEFAULT_PORTS[scheme]}"


def host_of(endpoint: str) -> str:
    """Return the host of a server that is read from, as people are told it; of a place its name."""
    kind, _, name = endpoint.partition(" ")
    return name.partition(" ")[0] if kind == "web" else name


def server_of(endpoint: str) -> str:
    """Return a server that is read from as people are told it: its host, and its port where that is not the usual."""
    kind, _, name = endpoint.partition(" ")
    host, _, rest = name.partition(" ") if kind == "web" else (name, "", "")
    scheme, _, port = rest.partition(" ")
    if not port or port == str(DEFAULT_PORTS.get(scheme)):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def endpoint_key(destination: str) -> str:
    """Return the name of a registered place, as limits and breakers know it."""
    return f"place {destination}"


def place_of(endpoint: str) -> str | None:
    """Return the registered place that a endpoint is, None for a host."""
    kind, _, name = endpoint.partition(" ")
    return name if kind == "place" else None
