"""In what order the bytes of a part file are written, by what its server is and what failed before."""

from typing import Any

import pytest

from datamover.errors import ConnectionLost
from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.orders import Order, Orders

PART = ".datamover-1-a.part"


class Server:
    """What of a session decides."""

    def __init__(self, *, openssh: bool) -> None:
        self.openssh = openssh


def first(orders: Orders, server: Any, part: str = PART) -> Order:
    return orders.first(server, part)


def test_wide_at_openssh_alone() -> None:
    """OpenSSH takes a file from several handles; any other server from one, in order."""
    orders = Orders(Lacks(lambda: 0.0))
    assert first(orders, Server(openssh=True)) is Order.WIDE
    assert first(orders, Server(openssh=False)) is Order.PIPELINED


def test_refused_when_wide() -> None:
    """A server that refused a wide write is written to in order from then on, whatever the file."""
    lacks = Lacks(lambda: 0.0)
    orders = Orders(lacks)
    orders.failed(PART, Order.WIDE, SftpError(messages.FAILURE, "no"), True)
    assert Ability.WRITE_WIDE in lacks
    assert first(orders, Server(openssh=True), "another") is Order.PIPELINED


def test_lost_when_wide() -> None:
    """A connection lost under several handles has that file go on in order, and others be wide."""
    orders = Orders(Lacks(lambda: 0.0))
    orders.failed(PART, Order.WIDE, ConnectionLost("gone"), True)
    assert first(orders, Server(openssh=True)) is Order.PIPELINED
    assert first(orders, Server(openssh=True), "another") is Order.WIDE


@pytest.mark.parametrize("code", [messages.NO_SPACE, messages.PERMISSION_DENIED, messages.QUOTA])
def test_no_matter_of_order(code: int) -> None:
    """What another order would not change changes none."""
    orders = Orders(Lacks(lambda: 0.0))
    orders.failed(PART, Order.PIPELINED, SftpError(code, "no"), False)
    assert first(orders, Server(openssh=False)) is Order.PIPELINED


def test_narrower_to_the_narrowest() -> None:
    """What fails in order goes by one request after the other, and stays there."""
    orders = Orders(Lacks(lambda: 0.0))
    server = Server(openssh=False)
    for _ in range(3):
        orders.failed(PART, first(orders, server), SftpError(messages.FAILURE, "no"), False)
        assert first(orders, server) is Order.ONE_BY_ONE


def test_never_wide_in_the_end() -> None:
    """A file that one handle alone had written by when it failed tells nothing of wide writes."""
    orders = Orders(Lacks(lambda: 0.0))
    orders.failed(PART, Order.WIDE, ConnectionLost("gone"), False)
    assert first(orders, Server(openssh=True)) is Order.WIDE
