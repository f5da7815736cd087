"""What a server's answer says that is no success."""

from datamover.protocols.http.answers import Head, retry_after

_SHOWN = 200
_HEADER_UNKNOWN = frozenset({400, 501})


class Unreadable(Exception):
    """An answer is not the document that was expected."""


class Refused(Exception):
    """A server refuses a request. A protocol whose server tells more derives its own."""

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
        """Whether the file is not there, and the server is otherwise well."""
        return self.status == 404

    @property
    def upload_gone(self) -> bool:
        """Whether the upload that the request was about is not there, or not any more."""
        return False

    @property
    def header_unknown(self) -> bool:
        """Whether this may be because the server does not know a header of the request."""
        return self.status in _HEADER_UNKNOWN
