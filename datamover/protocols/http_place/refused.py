"""Answers that are no success, as exceptions without a side."""

import re

from datamover.protocols.http.answers import Head, retry_after
from datamover.text.printable import one_line
from datamover.text.quoting import cut

_SHOWN = 200
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HEADER_UNKNOWN = frozenset({400, 501})


class Unreadable(Exception):
    """An answer does not hold the expected document."""


class Refused(Exception):
    """A server refuses a request. A protocol may derive its own, with more details."""

    def __init__(self, head: Head, code: str = "", message: str = "") -> None:
        code = code if _CODE.fullmatch(code) else ""
        super().__init__(f"{head.status} {code}")
        self.head = head
        self.status = head.status
        self.code = code
        """The protocol's own, "" where the answer has none."""
        self.said = ": ".join(each for each in (code, _shown(message)) if each)
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


def _shown(message: str) -> str:
    """Return a server's words on one line, cut, with what does not print escaped."""
    return cut(one_line(" ".join(message[: 4 * _SHOWN].split())), _SHOWN)
