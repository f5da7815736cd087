"""Answers that are no success, as exceptions without a side."""

from datamover.protocols.http.answers import Head, retry_after

_SHOWN = 200
_HEADER_UNKNOWN = frozenset({400, 501})


class Unreadable(Exception):
    """An answer does not hold the expected document."""


class Refused(Exception):
    """A server refuses a request. A protocol may derive its own, with more details."""

    def __init__(self, head: Head, code: str = "", message: str = "") -> None:
        super().__init__(f"{head.status} {code}")
        self.head = head
        self.status = head.status
        self.code = code
        """The protocol's own, "" where the answer has none."""
        self.said = ": ".join(each for each in (code, message[:_SHOWN]) if each)
        """The server's own words, for administrators."""
        self.date = head.header("Date")
        self.retry_after = retry_after(head)
        """Seconds."""

    @property
    def missing(self) -> bool:
        """Whether it means that the file does not exist."""
        return self.status == 404

    @property
    def upload_gone(self) -> bool:
        """Whether it means that the upload does not exist."""
        return False

    @property
    def header_unknown(self) -> bool:
        """Whether the reason may be a header that the server does not support."""
        return self.status in _HEADER_UNKNOWN
