"""Types of command line arguments, for argparse. Each raises ArgumentTypeError for a text that is not of its type."""

import argparse
import ipaddress
import re
from contextlib import suppress

LONGEST = 86_400.0
"""Seconds."""


def host_and_port(text: str) -> tuple[str, int]:
    """Return the host and the port of ``HOST[:PORT]``; port 22 if there is none."""
    host, port = text, "22"
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        port = (rest.removeprefix(":") or "22") if closed else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (_is_host(host) and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r}: expected HOST, HOST:PORT or [IPV6]:PORT")
    return host, int(port)


def seconds(text: str) -> float:
    """Return a number of seconds, at most a day."""
    with suppress(ValueError):
        if 0 <= (found := float(text)) <= LONGEST:
            return found
    raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds from 0 to {LONGEST:.0f}")


def _is_host(text: str) -> bool:
    """Return whether a text can be a host's name or address."""
    with suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    try:
        name = text.encode("idna").decode()
    except UnicodeError:
        return False
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is not None
