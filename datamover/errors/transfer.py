"""Errors of a transfer: kept with its job, and deciding whether it is tried again."""

from typing import Any

from datamover.errors.base import DataMoverError, Scope

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


# By side ----------------------------------------------------------------------------------------------------------


def missing(side: Scope, message: str) -> DataMoverError:
    """Return the error for a name that does not exist, on ``side``."""
    return SourceNotFound(message) if side is Scope.SOURCE else DestinationInvalid(message)


def forbidden(side: Scope, message: str) -> DataMoverError:
    """Return the error for a name that may not be read (source) or written (destination)."""
    return SourceForbidden(message) if side is Scope.SOURCE else DestinationForbidden(message)
