"""Read addresses: where an endpoint string listens, and whether a URL holds a password.

Pure; nothing is resolved or connected to.
"""

import re
from ipaddress import ip_address

from twisted.internet.endpoints import _parse as _parse_endpoint

_ENDPOINT_KEYS = {"tcp": {"port", "interface", "backlog"}, "unix": {"address", "mode", "backlog", "lockfile"}}


def endpoint_interface(description: str) -> str | None:
    """Return the address an endpoint string listens on: None for a Unix socket, "" for every address.

    Raises ValueError for anything but a tcp or unix server endpoint.
    """
    try:
        arguments, keywords = _parse_endpoint(description)  # type: ignore[no-untyped-call]
    except Exception as error:
        # Twisted's parser raises all kinds of errors.
        raise ValueError(str(error)) from error
    kind, *positional = arguments or [""]
    if set(keywords) <= _ENDPOINT_KEYS.get(kind, set()):
        if kind == "unix" and (positional or keywords.get("address")):
            return None
        port = keywords.get("port") or (positional[0] if positional else "")
        if kind == "tcp" and re.fullmatch("[0-9]{1,5}", port) and int(port) < 65536:
            return str(keywords.get("interface", positional[1] if len(positional) > 1 else ""))
    raise ValueError(f"{description!r} is neither a tcp nor a unix endpoint")


def endpoint_address(description: str) -> tuple[str | None, str]:
    """Return the interface and the port of an endpoint string, or None and the path of a Unix socket.

    Raises ValueError as ``endpoint_interface``.
    """
    interface = endpoint_interface(description)
    arguments, keywords = _parse_endpoint(description)  # type: ignore[no-untyped-call]
    first = keywords.get("address" if interface is None else "port") or arguments[1]
    return interface, str(first)


def is_private_listener(description: str) -> bool:
    """Tell whether an endpoint string listens on loopback or a Unix socket alone."""
    interface = endpoint_interface(description)
    if interface is None or interface == "localhost":
        return True
    try:
        return ip_address(interface).is_loopback
    except ValueError:
        return False


def is_unix_listener(description: str) -> bool:
    """Tell whether an endpoint string listens on a Unix socket."""
    return endpoint_interface(description) is None


def holds_password(url: str) -> bool:
    """Tell whether a URL holds a password, or, where it is malformed, may hold one."""
    rest = url.partition("://")[2]
    if ":" not in rest.rpartition("@")[0]:
        return False
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if at:
        return ":" in user
    # In "user:pass/word@host" a port is expected after the colon; what stands there is none.
    return re.fullmatch(r"(\[[^]]*\]|[^:]*)(:[0-9]*)?", authority) is None
