"""Ports for servers that must be told one: kept for them, so that nobody else is ever given the same.

A port that was found free and let go would be anybody's again: the system gives ports to every connection and to every
server that lets it choose, those of tests that run beside these included.
"""

import atexit
import socket

_kept: list[socket.socket] = []


def reserved(port: int = 0, interface: str = "127.0.0.1") -> socket.socket:
    """Return a socket that keeps a port, by default a free one, as long as it is open.

    The system gives the port to nobody who lets it choose. Who names it may listen there, as servers do: with
    SO_REUSEADDR. Until somebody does, connections to it are refused.
    """
    keeping = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET)
    keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeping.bind((interface, port))
    return keeping


def free_port() -> int:
    """Return a port that nobody listens on, and that is kept for the caller until the tests end."""
    keeping = reserved()
    _kept.append(keeping)
    return int(keeping.getsockname()[1])


@atexit.register
def _let_go() -> None:
    for keeping in _kept:
        keeping.close()
