"""URLs that name containers: of destinations, and of the original's ``move``. Pure."""

import re
from urllib.parse import unquote_to_bytes, urlsplit

from datamover.protocols.object_store.urls import check_prefix

LONGEST_CONTAINER = 256
"""Bytes of a container's name (Swift's API, "Object Storage API overview")."""

_EXPECTED = 'expected swift://CONTAINER or swift://CONTAINER/PREFIX, such as "swift://datasets/portal"'
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ACCOUNTS = [
    re.compile(rf"(?:/swift)?/v1(?:\.0)?{account}(?=/)")  # "/swift" is Ceph's, which may leave the account out.
    for account in ("/AUTH_[^/]+", "", "/[^/]+")
]


def check_container(name: str) -> str:
    """Return ``name``; raises ValueError if a container cannot have it."""
    size = len(name.encode("utf-8", "surrogateescape"))
    if not 0 < size <= LONGEST_CONTAINER or "/" in name or _CONTROL.search(name):
        raise ValueError(f"expected the name of a container: 1 to {LONGEST_CONTAINER} bytes without '/'")
    return name


def check_url(url: str) -> None:
    """Raise ValueError unless the URL is swift://CONTAINER[/PREFIX]."""
    parts = urlsplit(url)
    if parts.scheme != "swift" or not parts.netloc or "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError(_EXPECTED)
    try:
        check_container(unquote_to_bytes(parts.netloc).decode("utf-8"))
    except ValueError:
        raise ValueError(f"{_EXPECTED}, in UTF-8, with a container of 1 to {LONGEST_CONTAINER} bytes") from None
    check_prefix(url, _EXPECTED)


def path_in(container: str, path: str, account: str) -> str | None:
    """Return the path in a container that the decoded path of a storage URL names, None if it is another container's.

    The container is the first segment, or follows the account's path, which is ``account`` if known, else one of the
    usual ones: "/v1/AUTH_portal", "/swift/v1" and others.
    """
    account = account.rstrip("/")
    if account:
        # The path may also begin with a container that is named like it: "/swift/v1".
        below = [path.removeprefix(account) if path.startswith(f"{account}/") else path]
    else:
        below = [path, *(path[match.end() :] for each in _ACCOUNTS if (match := each.match(path)))]
    for each in below:
        if each == f"/{container}" or each.startswith(f"/{container}/"):
            return each.removeprefix(f"/{container}") or "/"
    return None
