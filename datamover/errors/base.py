"""The base class of the error family, and the sides that an error can be on."""

from enum import StrEnum
from typing import Any, ClassVar, Self

from datamover.bounds.calls import LONGEST_MESSAGE
from datamover.text.quoting import cut


class Scope(StrEnum):
    """Whose side an error is on."""

    SOURCE = "SOURCE"
    """Where the bytes come from."""
    DESTINATION = "DESTINATION"
    """Where the bytes go."""
    TRANSFER = "TRANSFER"
    """The transfer itself: what arrived is not what was asked for, or the transfer was given up."""
    REQUEST = "REQUEST"
    """What the client sent."""
    SERVICE = "SERVICE"
    """datamover itself, its database or its machine."""


class DataMoverError(Exception):
    """Base of every error that datamover raises on purpose."""

    code: ClassVar[str] = "INTERNAL"
    retryable: bool = False
    """Another attempt can help. An instance may override its class."""
    slow: ClassVar[bool] = False
    """Another attempt soon is useless (a full disk): the first pause is the longest one."""
    bounded: ClassVar[bool] = False
    """What arrived is useless: the next attempt begins at zero, and this one counts whatever it moved."""
    default_scope: ClassVar[Scope] = Scope.TRANSFER

    def __init__(
        self,
        message: str,
        *,
        scope: Scope | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        full: str | None = None,
    ) -> None:
        super().__init__(message if full is None else full)
        if retryable is not None:
            self.retryable = retryable
        self.message = cut(message, LONGEST_MESSAGE)
        """For everybody: it never says where a destination is, or which account reaches it."""
        self.full = self.message if full is None else cut(full, LONGEST_MESSAGE)
        """For administrators and the log."""
        self.scope = scope or self.default_scope
        self.retry_after = retry_after
        """Seconds that the other side asks to wait, 0 where it lets one choose; None where it does not ask."""

    def saying(self, message: str, *, scope: Scope | None = None, full: str | None = None) -> Self:
        """Return a copy of this error with another message."""
        return type(self)(
            message, scope=scope or self.scope, retry_after=self.retry_after, retryable=self.retryable, full=full
        )

    def copy(self) -> Self:
        """Return a copy of this error, for another waiter: two waiters must not share a traceback."""
        return self.saying(self.message, full=self.full)

    def below(self, what: str) -> Self:
        """Return a copy of this error whose messages begin with ``what`` and a colon."""
        full = None if self.full == self.message else f"{what}: {self.full}"
        return self.saying(f"{what}: {self.message}", full=full)

    def for_administrators(self) -> Self:
        """Return this error with its full message as its message."""
        return self if self.full == self.message else self.saying(self.full)

    def as_dict(self) -> dict[str, Any]:
        """Return this error as a job's row stores it; ``full`` is included only if it differs from ``message``."""
        kept = {"code": self.code, "retryable": self.retryable, "scope": self.scope.value, "message": self.message}
        return kept if self.full == self.message else {**kept, "full": self.full}
