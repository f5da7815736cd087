"""Detect the encoding of a body and recode it to UTF-8 for the parser. Pure.

RFC 7303, section 3: a byte order mark decides, else Content-Type's charset, else the XML declaration, else it is UTF-8.
UTF-16 is recognised by the first two bytes alone, since some clients declare it and send UTF-8. US-ASCII is read as
UTF-8, which contains it.
"""

import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Callable
from email.message import Message
from encodings.aliases import aliases
from functools import lru_cache

from datamover.bounds.door import LONGEST_XML_DECLARATION
from datamover.errors import InvalidRequest

_DECLARED = re.compile(rb"""<\?xml\s(?:[^>]*?\s)?encoding\s*=\s*["']([^"'<>]*)["']""")
_CONTENT_TYPES = 64
"""Content-Type values that are cached: clients of one kind send the same."""
_UTF_8 = "utf_8"
_READ_AS_UTF_8 = {"ascii", "utf_16", "utf_16_be", "utf_16_le"}
_NO_TEXT = {
    *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec"),
    *("mbcs", "utf_7", "utf_32", "utf_32_be", "utf_32_le"),
}
_BY_LABEL = {
    label: _UTF_8 if codec in _READ_AS_UTF_8 else codec
    for label, codec in [*aliases.items(), *((codec, codec) for codec in aliases.values())]
    if codec not in _NO_TEXT
} | {"unicode_1_1_utf_8": _UTF_8, "utf_8_sig": _UTF_8, "utf8mb4": _UTF_8}
"""Python's codecs by label: in lower case, with "_" for every other character than a letter or digit."""


@lru_cache(_CONTENT_TYPES)
def charset_of(content_type: str) -> str | None:
    """Return the charset that a Content-Type names, None where it names none."""
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_charset() or None


def recoder(head: bytes, charset: str | None) -> Callable[[bytes], bytes] | None:
    """Return a function that recodes a body to UTF-8, piece by piece; None if the body is UTF-8 already.

    ``head`` is the beginning of the body, ``charset`` what Content-Type says. Call the function with b"" after the last
    piece; it raises UnicodeDecodeError for bytes that are not in the encoding. Raises InvalidRequest for an unknown
    encoding.
    """
    codec = _codec(head, charset)
    if codec == _UTF_8:
        return None
    decoder = getincrementaldecoder(codec)()
    return lambda data: decoder.decode(data, final=not data).encode()


def _codec(head: bytes, charset: str | None) -> str:
    if head.startswith((BOM_UTF16_BE, BOM_UTF16_LE)):
        return "utf_16"
    if 0 in head[:2]:
        return "utf_16_be" if head[0] == 0 else "utf_16_le"
    if head.startswith(BOM_UTF8):
        return _UTF_8
    label = charset or _declared(head)
    if label is None:
        return _UTF_8
    codec = _BY_LABEL.get(re.sub("[^a-z0-9]+", "_", label.lower()).strip("_"))
    if codec is None:
        said = "its Content-Type" if charset else "its XML declaration"
        raise InvalidRequest(f"the body is in {label[:40]!r}, says {said}, which is not known here: send it in UTF-8")
    return codec


def _declared(head: bytes) -> str | None:
    """Return the encoding that the XML declaration names, None where it names none."""
    declared = _DECLARED.match(head[:LONGEST_XML_DECLARATION])
    return declared[1].decode("latin-1") if declared else None
