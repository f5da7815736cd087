"""Whether a client has closed a connection from which nothing is received at the moment."""

import select
from typing import Any


def has_closed(transport: Any) -> bool:
    """Return whether the other side has closed a connection or its half of it, even if received bytes are unread.

    See poll(2), POLLRDHUP.
    """
    while (below := getattr(transport, "transport", None)) is not None:
        transport = below  # The TCP connection below TLS.
    looking = select.poll()
    looking.register(transport.fileno(), select.POLLRDHUP)
    return bool(looking.poll(0))
