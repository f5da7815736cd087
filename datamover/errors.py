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


# At the source ------------------------------------------------------------------------------------------------


class SourceNotFound(DataMoverError):
    code = "SOURCE_NOT_FOUND"
    default_scope = Scope.SOURCE


class SourceForbidden(DataMoverError):
    code = "SOURCE_FORBIDDEN"
    default_scope = Scope.SOURCE


class SourceNotAllowedHere(DataMoverError):
    """A redirect or an address, met while moving, that ``[sources]`` does not allow."""

    code = "SOURCE_NOT_ALLOWED"
    default_scope = Scope.SOURCE


class SourceChanged(DataMoverError):
    code = "SOURCE_CHANGED"
    retryable = True
    bounded = True
    default_scope = Scope.SOURCE


# At the destination -------------------------------------------------------------------------------------------


class DestinationExists(DataMoverError):
    code = "DESTINATION_EXISTS"
    default_scope = Scope.DESTINATION


class DestinationForbidden(DataMoverError):
    code = "DESTINATION_FORBIDDEN"
    default_scope = Scope.DESTINATION


class DestinationInvalid(DataMoverError):
    code = "DESTINATION_INVALID"
    default_scope = Scope.DESTINATION


class NoSpace(DataMoverError):
    code = "NO_SPACE"
    retryable = True
    slow = True
    default_scope = Scope.DESTINATION


class QuotaExceeded(DataMoverError):
    code = "QUOTA_EXCEEDED"
    retryable = True
    slow = True
    default_scope = Scope.DESTINATION


# Of a dataset ------------------------------------------------------------------------------------------------


class DatasetNotFound(DataMoverError):
    """The service that has the data does not know what was asked for."""

    code = "DATASET_NOT_FOUND"
    default_scope = Scope.SOURCE


class DatasetEmpty(DataMoverError):
    """Nothing of what came is of use."""

    code = "DATASET_EMPTY"
    default_scope = Scope.SOURCE


class DatasetInvalid(DataMoverError):
    """What came is not what it should be, and will not be next time."""

    code = "DATASET_INVALID"
    default_scope = Scope.SOURCE


# On either side -----------------------------------------------------------------------------------------------


class PathNotAllowedHere(DataMoverError):
    """A path that, met while moving, leads out of its place's root (a symbolic link)."""

    code = "PATH_NOT_ALLOWED"


class ConnectFailed(DataMoverError):
    code = "CONNECT_FAILED"
    retryable = True


class ConnectionLost(DataMoverError):
    code = "CONNECTION_LOST"
    retryable = True


class TimedOut(DataMoverError):
    code = "TIMED_OUT"
    retryable = True


class Stalled(DataMoverError):
    code = "STALLED"
    retryable = True


class TooSlow(DataMoverError):
    code = "TOO_SLOW"
    retryable = True


class RateLimited(DataMoverError):
    code = "RATE_LIMITED"
    retryable = True


class ServerError(DataMoverError):
    code = "SERVER_ERROR"
    retryable = True


class AuthenticationFailed(DataMoverError):
    code = "AUTHENTICATION_FAILED"


class HostKeyMismatch(DataMoverError):
    code = "HOST_KEY_MISMATCH"


class TLSFailed(DataMoverError):
    code = "TLS_FAILED"


# Of the move itself -------------------------------------------------------------------------------------------


class ChecksumMismatch(DataMoverError):
    code = "CHECKSUM_MISMATCH"
    retryable = True
    bounded = True


class SizeMismatch(DataMoverError):
    code = "SIZE_MISMATCH"
    retryable = True
    bounded = True


class Cancelled(DataMoverError):
    code = "CANCELLED"


class DeadlineExceeded(DataMoverError):
    """The client's deadline has passed."""

    code = "DEADLINE_EXCEEDED"


class InternalError(DataMoverError):
    """A bug of ours: logged with its traceback, told without one."""

    code = "INTERNAL"
    retryable = True
    bounded = True
    default_scope = Scope.SERVICE

    def __init__(self, message: str = "an error of the service itself; its log has more", **more: Any) -> None:
        super().__init__(message, **more)


# Of the request: refused by the interface ---------------------------------------------------------------------


class RequestError(DataMoverError):
    """A call that is refused; ``fault`` is its XML-RPC fault code."""

    code = "INVALID_REQUEST"
    fault: ClassVar[int] = 1001
    default_scope = Scope.REQUEST


class InvalidRequest(RequestError):
    pass


class UnknownDestination(RequestError):
    code = "UNKNOWN_DESTINATION"
    fault = 1002


class UnsupportedScheme(RequestError):
    code = "UNSUPPORTED_SCHEME"
    fault = 1003


class PathNotAllowed(RequestError):
    code = "PATH_NOT_ALLOWED"
    fault = 1004


class SourceNotAllowed(RequestError):
    code = "SOURCE_NOT_ALLOWED"
    fault = 1005


class NotPermitted(RequestError):
    code = "NOT_PERMITTED"
    fault = 1006


class UnknownJob(RequestError):
    code = "UNKNOWN_JOB"
    fault = 1007


class ExpiredJob(RequestError):
    """It existed and was the caller's; its history is gone."""

    code = "EXPIRED_JOB"
    fault = 1008


class InvalidState(RequestError):
    code = "INVALID_STATE"
    fault = 1009


class RequestIdConflict(RequestError):
    code = "REQUEST_ID_CONFLICT"
    fault = 1010


class QueueFull(RequestError):
    code = "QUEUE_FULL"
    fault = 1011
    retryable = True


class Unavailable(RequestError):
    """The database is away; nothing was stored, unless the message says that this is not known."""

    code = "UNAVAILABLE"
    fault = 1012
    retryable = True
    default_scope = Scope.SERVICE


class NotNow(Unavailable):
    """The database answers, but does not do this now: it took too long, or others hold what it needs, or it only reads.

    Others of a batch it may do, and a smaller one. Nothing was stored.
    """


class RequestTooLarge(RequestError):
    code = "REQUEST_TOO_LARGE"
    fault = 1013


# At the start -------------------------------------------------------------------------------------------------


class ConfigError(DataMoverError):
    """The configuration cannot be used; the message names file, key, value and what was expected."""

    code = "INVALID_CONFIG"
    default_scope = Scope.SERVICE


class StartError(DataMoverError):
    """Something the service stands on is not as it must be; the message says what to do."""

    code = "CANNOT_START"
    default_scope = Scope.SERVICE


def missing(side: Scope, message: str) -> DataMoverError:
    """Return the error for a name that does not exist, on ``side``."""
    return SourceNotFound(message) if side is Scope.SOURCE else DestinationInvalid(message)


def forbidden(side: Scope, message: str) -> DataMoverError:
    """Return the error for a name that may not be read (source) or written (destination)."""
    return SourceForbidden(message) if side is Scope.SOURCE else DestinationForbidden(message)
