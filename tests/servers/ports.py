"""Reserve ports for servers that must be given one.

A free port that was found and released could be taken at once: the system assigns ports to every connection and to
every server that lets it choose, those of concurrent tests included.
"""

import atexit
import socket

_kept: list[socket.socket] = []


def reserved(port: int = 0, interface: str = "127.0.0.1") -> socket.socket:
    """Return a socket that reserves a port, by default a free one, while it is open.

    The system does not assign the port to others. A server that names it can listen there with SO_REUSEADDR, as
    servers do; until then, connections to it are refused.
    """
    keeping = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET)
    keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeping.bind((interface, port))
    return keeping


def free_port() -> int:
    """Return a port on which nothing listens, reserved for the caller until the tests end."""
    keeping = reserved()
    _kept.append(keeping)
    return int(keeping.getsockname()[1])


@atexit.register
def _let_go() -> None:
    for keeping in _kept:
        keeping.close()
