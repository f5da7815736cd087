"""The Location header of a redirect as a URL reference. Pure.

It is read as curl, wget and browsers read it: bytes that a URL cannot hold are percent-encoded one by one, without
guessing their charset.
"""

import re
from urllib.parse import quote_from_bytes

from datamover.protocols.http.answers import Head
from datamover.web.file_names import text_of

_IGNORED = bytes(range(0x21))
"""Control characters and spaces, which are stripped from both ends."""
# A backslash is a slash where a host or the root begins, as in browsers. Elsewhere it is a byte of the path, which
# servers on Windows take for a slash as well.
_START = re.compile(rb"((?:[A-Za-z][A-Za-z0-9+.-]*:)?)(?:[/\\]{2,}([^/\\?]*))?([/\\]?)", re.DOTALL)
_KEPT = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("\\"))


def location_of(head: Head) -> bytes | None:
    """Return the first Location of an answer that is not empty, None if there is none."""
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
