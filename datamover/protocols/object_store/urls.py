"""The URLs of destinations in object stores: scheme://CONTAINER/PREFIX, percent-encoded UTF-8. Pure."""

import posixpath
from urllib.parse import unquote, unquote_to_bytes, urlsplit


def container_of(url: str) -> str:
    """Return the name of the container or bucket."""
    return unquote(urlsplit(url).netloc)


def prefix_of(url: str) -> str:
    """Return the prefix, without "/" at either end."""
    path = unquote(urlsplit(url).path).strip("/")
    return posixpath.normpath(path) if path else ""


def check_prefix(url: str, expected: str) -> None:
    """Raise ValueError, whose message begins with ``expected``, if no key can begin with the URL's prefix."""
    path = unquote_to_bytes(urlsplit(url).path)
    try:
        path.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{expected}, in UTF-8") from None
    if b"\0" in path or not {b".", b".."}.isdisjoint(path.split(b"/")):
        raise ValueError(f"{expected}, with no '.' or '..' in it")
