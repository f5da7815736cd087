"""The one error family: what went wrong, whose side it is on, and whether trying again can help.

Control flow follows ``code``, ``retryable`` and ``scope``, never the text. A message is a sentence that a
person can act on and never holds a credential or the value of a URL's query.

Errors met while moving are kept with the job; ``RequestError`` and its kin refuse a call and become XML-RPC
Faults of the interface.
"""

from enum import Enum
from typing import Any, ClassVar, Self

from datamover.text.bounds import LONGEST_MESSAGE, cut


class Scope(Enum):
    """Whose side an error is on."""

    SOURCE = "SOURCE"
    """Where the bytes come from."""
    DESTINATION = "DESTINATION"
    """Where the bytes go."""
    TRANSFER = "TRANSFER"
    """The move itself: what was asked and what arrived disagree, or it was given up."""
    REQUEST = "REQUEST"
    """What the client sent."""
    SERVICE = "SERVICE"
    """datamover, or what it stands on."""


class DataMoverError(Exception):
    """Base of every error that datamover raises on purpose."""

    code: ClassVar[str] = "INTERNAL"
    retryable: bool = False
    """Trying again can help; an error may know better than its kind."""
    slow: ClassVar[bool] = False
    """Trying again soon is useless: begin at the longest pause (a full disk)."""
    bounded: ClassVar[bool] = False
    """What arrived is worthless: try again from zero, and count the attempt whatever it moved."""
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
        """What everybody may be told: nothing of where a destination is, or as whom it is reached."""
        self.full = self.message if full is None else cut(full, LONGEST_MESSAGE)
        """What administrators and the log are told."""
        self.scope = scope or self.default_scope
        self.retry_after = retry_after
        """Seconds that the other side asked us to wait, if it did."""

    def saying(self, message: str, *, scope: Scope | None = None, full: str | None = None) -> Self:
        """Return this error in other words, for another who is to be told."""
        return type(self)(
            message, scope=scope or self.scope, retry_after=self.retry_after, retryable=self.retryable, full=full
        )

    def below(self, what: str, *, scope: Scope | None = None) -> Self:
        """Return this error with ``what`` it is of before its words."""
        full = None if self.full == self.message else f"{what}: {self.full}"
        return self.saying(f"{what}: {self.message}", scope=scope, full=full)

    def for_administrators(self) -> Self:
        """Return this error in its full words."""
        return self if self.full == self.message else self.saying(self.full)

    def as_dict(self) -> dict[str, Any]:
        """Return what a job's row keeps of this error; ``full`` only where administrators are told more."""
        kept = {"code": self.code, "retryable": self.retryable, "scope": self.scope.value, "message": self.message}
        return kept if self.full == self.message else {**kept, "full": self.full}
