"""In what order the bytes of a part file are written: in parallel only where its server is known to allow that.

Several handles on one file make OpenSSH fast, and others fail, or their process die. A gateway to an object store takes
bytes in their order only. So what failed in one order is written in the next narrower one.
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
"""Refusals that another order would not change."""


class Order(IntEnum):
    """In what order a file's bytes are written: where one fails, the next attempt takes the one after it."""

    WIDE = 0
    """By several handles, in any order."""
    PIPELINED = 1
    """By one handle, in order, many requests under way."""
    ONE_BY_ONE = 2
    """By one request, and the next when it is answered."""


class Orders:
    """What was learnt of one destination's server."""

    def __init__(self, lacks: Lacks) -> None:
        self._lacks = lacks
        self._next: dict[str, Order] = {}
        """Part file -> the order that its next attempt takes."""

    def first(self, session: SftpSession, part: str) -> Order:
        """Return the order to write a part file in."""
        wide = session.openssh and Ability.WRITE_WIDE not in self._lacks
        return max(Order.WIDE if wide else Order.PIPELINED, self._next.get(part, Order.WIDE))

    def failed(self, part: str, order: Order, error: BaseException, several: bool) -> None:
        """Take note that writing a part file failed; ``several`` is whether more than one handle wrote."""
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
