"""Where a redirect leads: the bytes of a Location header as a URL reference. Pure.

They are read as curl, wget and browsers read them: bytes that have no place in a URL are percent-encoded one by one,
whatever they may mean, since only the server knows.
"""

import re
from urllib.parse import quote_from_bytes

from datamover.protocols.http.answers import Head
from datamover.web.file_names import text_of

_IGNORED = bytes(range(0x21))
"""What is dropped around a reference: control characters and spaces."""
# A backslash is a slash where a host or the root begins, as in browsers. Elsewhere it is a byte of the path, which
# servers on Windows take for a slash as well.
_START = re.compile(rb"((?:[A-Za-z][A-Za-z0-9+.-]*:)?)(?:[/\\]{2,}([^/\\?]*))?([/\\]?)", re.DOTALL)
_KEPT = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("\\"))


def location_of(head: Head) -> bytes | None:
    """Return the Location that an answer tells, the first one that is not empty; None where there is none."""
    for value in head.fields.get(b"location", ()):
        if value.strip(_IGNORED):
            return value
    return None


def reference_of(location: bytes) -> str:
    """Return a Location as the text of a URL reference, without its fragment."""
    reference = location.strip(_IGNORED).partition(b"#")[0]
    start = _START.match(reference)
    assert start is not None
    scheme, authority, root = start.groups()
    beginning = scheme.decode("ascii")
    if authority is not None:
        beginning += f"//{text_of(authority)}"
    rest = quote_from_bytes(reference[start.end() :], safe=_KEPT)
    return f"{beginning}{'/' if root else ''}{rest}"
