"""Errors of a transfer. They are stored with its job and decide whether another attempt is made."""

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
    """The transfer met a redirect or an address that ``[sources]`` does not allow."""

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
    """The data service does not know the dataset that was asked for."""

    code = "DATASET_NOT_FOUND"
    default_scope = Scope.SOURCE


class DatasetEmpty(DataMoverError):
    """No usable record is left of what the data service sent."""

    code = "DATASET_EMPTY"
    default_scope = Scope.SOURCE


class DatasetInvalid(DataMoverError):
    """What the data service sent has the wrong form, and another attempt would bring the same."""

    code = "DATASET_INVALID"
    default_scope = Scope.SOURCE


# On either side -----------------------------------------------------------------------------------------------


class PathNotAllowedHere(DataMoverError):
    """The transfer met a path that leads out of the destination's root, over a symbolic link."""

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


# Of the transfer itself ---------------------------------------------------------------------------------------


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
    """A bug of datamover. The log has its traceback; clients see only this sentence."""

    code = "INTERNAL"
    retryable = True
    bounded = True
    default_scope = Scope.SERVICE

    def __init__(self, message: str = "an error of the service itself; its log has more", **more: Any) -> None:
        super().__init__(message, **more)


# By side ----------------------------------------------------------------------------------------------------------


def missing(side: Scope, message: str) -> DataMoverError:
    """Return the error for a name that does not exist on ``side``."""
    return SourceNotFound(message) if side is Scope.SOURCE else DestinationInvalid(message)


def forbidden(side: Scope, message: str) -> DataMoverError:
    """Return the error for a name that may not be read (source) or written (destination)."""
    return SourceForbidden(message) if side is Scope.SOURCE else DestinationForbidden(message)
