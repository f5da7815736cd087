"""The name that a Content-Disposition header gives a file (RFC 6266), as browsers read it. Pure.

Servers write it in many ways: percent-encoded (RFC 8187), in encoded words as in mail (RFC 2047), in pieces (RFC 2231),
in raw bytes of UTF-8 or ISO 8859-1, with a quote that is not closed, without the disposition type.
"""

import binascii
import re
from collections.abc import Mapping
from itertools import count
from urllib.parse import unquote_to_bytes

from datamover.bounds.servers import LONGEST_DISPOSITION
from datamover.web.file_names import safe_name, text_of

_CHAR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TYPE = re.compile(rf"\s*{_CHAR}+(?!{_CHAR}|\s*=)\s*[;,]?")
_NAME = re.compile(rf";?\s*({_CHAR}+)\s*=\s*")
_NEXT = re.compile(rf";\s*{_CHAR}+\s*=")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
# Not in the standard; curl and Chromium accept these as quotes, too.
_SINGLE_QUOTED = re.compile(r"'([^']+)'(?=\s*(?:;|\Z))")
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_WINDOWS_PATH = re.compile(r"[A-Za-z]:\\|\\\\")
_EXTENDED = re.compile(r"([^']+)'[^']*'(.*)", re.DOTALL)
_WORD = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

# The labels of charsets that browsers know (Encoding Standard) -> Python's codecs; ISO 8859-1 means windows-1252 there.
_CHARSETS = {
    re.sub("[^a-z0-9]", "", label): codec
    for codec, labels in {
        "utf-8": "utf-8 unicode-1-1-utf-8",
        "cp1252": "iso-8859-1 latin1 us-ascii ascii windows-1252 cp1252",
        **{f"iso8859-{part}": f"iso-8859-{part}" for part in (*range(2, 11), 13, 14, 15, 16)},
        **{f"cp{page}": f"windows-{page} cp{page} x-cp{page}" for page in (1250, 1251, *range(1253, 1259))},
        "koi8-r": "koi8-r",
        "koi8-u": "koi8-u",
        "cp866": "ibm866 cp866",
        "gb18030": "gb18030 gbk gb2312 x-gbk",
        "big5hkscs": "big5 big5-hkscs",
        "euc_jp": "euc-jp x-euc-jp",
        "iso2022_jp": "iso-2022-jp",
        "cp932": "shift_jis x-sjis sjis windows-31j cp932",
        "cp949": "euc-kr ks_c_5601-1987 windows-949 cp949",
        "cp874": "tis-620 windows-874",
    }.items()
    for label in labels.split()
}


def disposition_name(header: bytes) -> str:
    """Return the name in a Content-Disposition header as a safe name; "" if there is none.

    ``filename*`` goes before ``filename`` (RFC 6266, section 4.3).
    """
    found = _parameters(text_of(header[:LONGEST_DISPOSITION]))
    for name in (_extended(found.get("filename*", "")), _continued(found), _decoded(found.get("filename", ""))):
        if safe := safe_name(name):
            return safe
    return ""


def _parameters(text: str) -> dict[str, str]:
    """Return the parameters by lower-case name; the first of duplicates."""
    found: dict[str, str] = {}
    start = _TYPE.match(text)
    place = start.end() if start else 0
    while place < len(text):
        if match := _NAME.match(text, place):
            value, place = _value(text, match.end())
            found.setdefault(match[1].lower(), value)
        else:
            place = text.find(";", place) + 1 or len(text)
    return found


def _value(text: str, start: int) -> tuple[str, int]:
    """Return the value at ``start``, and the position after it."""
    if quoted := _QUOTED.match(text, start):
        inside: str = quoted[1]
        return inside if _WINDOWS_PATH.match(inside) else _QUOTED_PAIR.sub(r"\1", inside), quoted.end()
    if single := _SINGLE_QUOTED.match(text, start):
        return single[1], single.end()
    if text.startswith('"', start):  # The quote is not closed: the value ends at the next parameter.
        following = _NEXT.search(text, start)
        end = following.start() if following else len(text)
    else:
        end = text.find(";", start)
        end = len(text) if end < 0 else end
    return text[start:end].strip(' \t"'), end


def _charset(label: str) -> str | None:
    return _CHARSETS.get(re.sub("[^a-z0-9]", "", label.lower()))


def _text(raw: bytes, charset: str | None) -> str:
    """Decode bytes; "" if they do not fit the charset, or it is unknown."""
    try:
        return raw.decode(charset) if charset else ""
    except UnicodeDecodeError:
        return ""


def _extended(value: str) -> str:
    """Return the name in ``filename*``; "" if its charset is missing, unknown or does not fit."""
    match = _EXTENDED.fullmatch(value)
    return _text(unquote_to_bytes(match[2]), _charset(match[1])) if match else ""


def _continued(found: Mapping[str, str]) -> str:
    """Return the name given in pieces: ``filename*0``, ``filename*1*`` and so on (RFC 2231, section 4.1)."""
    pieces: list[bytes] = []
    charset: str | None = None
    for number in count():
        plain, encoded = found.get(f"filename*{number}"), found.get(f"filename*{number}*")
        if encoded is not None:
            match = _EXTENDED.fullmatch(encoded) if number == 0 else None
            if match is not None:
                charset, encoded = _charset(match[1]), match[2]
            pieces.append(unquote_to_bytes(encoded))
        elif plain is not None:
            pieces.append(plain.encode("utf-8", "replace"))
        else:
            break
    raw = b"".join(pieces)
    return _text(raw, charset) or text_of(raw)


def _decoded(value: str) -> str:
    """Return the name in ``filename``: encoded words, percent-encoded or plain."""
    if _WORD.search(value):
        return _WORD.sub(lambda word: _word(word) or word[0], _BETWEEN_WORDS.sub("", value))
    return text_of(unquote_to_bytes(value)) if _ESCAPE.search(value) else value


def _word(word: re.Match[str]) -> str:
    """Return the text of an encoded word, "" if it is malformed."""
    text = word[3].encode("ascii", "ignore")
    try:
        raw = binascii.a2b_base64(text + b"==") if word[2] in "bB" else binascii.a2b_qp(text, header=True)
    except binascii.Error:
        return ""
    return _text(raw, _charset(word[1]))
