"""The order in which a part file's bytes are written: in parallel only on servers that are known to support that.

Several handles for one file make OpenSSH fast; other servers fail, or their process crashes. Gateways to object stores
accept bytes in order only. After a failure the next attempt uses the next more cautious order.
"""

from enum import IntEnum

from datamover.errors import DataMoverError
from datamover.protocols.base import Ability
from datamover.protocols.lacks import Lacks
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.messages import SftpError
from datamover.protocols.sftp.client.session import SftpSession

_REMEMBERED = 1000
_NOT_OF_ORDER = (messages.NO_SUCH_FILE, messages.PERMISSION_DENIED, *messages.FULL)
"""Refusals for which the order is not to blame."""


class Order(IntEnum):
    """The orders, from the fastest to the most cautious."""

    WIDE = 0
    """Through several handles, in any order."""
    PIPELINED = 1
    """Through one handle, in order, with many requests in flight."""
    ONE_BY_ONE = 2
    """One request at a time."""


class Orders:
    """The orders for one destination's part files, learnt from failures."""

    def __init__(self, lacks: Lacks) -> None:
        self._lacks = lacks
        self._next: dict[str, Order] = {}
        """Part file -> the order that its next attempt uses."""

    def first(self, session: SftpSession, part: str) -> Order:
        """Return the order to write a part file in."""
        wide = session.openssh and Ability.WRITE_WIDE not in self._lacks
        return max(Order.WIDE if wide else Order.PIPELINED, self._next.get(part, Order.WIDE))

    def failed(self, part: str, order: Order, error: BaseException, several: bool) -> None:
        """Record that writing a part file failed; ``several`` tells whether more than one handle wrote to it."""
        if not isinstance(error, SftpError | DataMoverError):
            return
        if isinstance(error, SftpError) and error.code in _NOT_OF_ORDER:
            return
        refused, wide = isinstance(error, SftpError), order is Order.WIDE
        if wide and not several:
            return
        if wide and refused:
            self._lacks.learn(Ability.WRITE_WIDE, f"the server refuses it: {error}")
        if wide or refused:
            if len(self._next) >= _REMEMBERED:
                self._next.clear()
            self._next[part] = Order(min(order + 1, Order.ONE_BY_ONE))
