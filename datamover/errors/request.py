"""Refusals of a call. Each becomes an XML-RPC Fault with a code of its own."""

from typing import ClassVar

from datamover.errors.base import DataMoverError, Scope


class RequestError(DataMoverError):
    """A refused call; ``fault`` is the XML-RPC fault code."""

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
    """The job existed and was the caller's; its history has been removed."""

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
    """The service cannot answer now. Nothing was stored, unless the message says that this is not known."""

    code = "UNAVAILABLE"
    fault = 1012
    retryable = True
    default_scope = Scope.SERVICE


class DatabaseAway(Unavailable):
    """No host of the database can be reached, or the connection was lost before anything was stored.

    The same call may be made again. ``message`` says only that the database is away, ``full`` where it is and why.
    """


class NotNow(Unavailable):
    """The database answers but cannot do this now: a timeout, a conflict, a lock, or a server that only reads.

    It may do others of the same batch, or a smaller batch. Nothing was stored.
    """


class RequestTooLarge(RequestError):
    code = "REQUEST_TOO_LARGE"
    fault = 1013
