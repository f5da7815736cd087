"""Where the body of an answer ends, by its header fields (RFC 9112, section 6). Pure.

Read as curl reads it: chunked overrides a length, equal lengths count as one, different ones are refused. After an
ambiguous answer the connection is not used again.
"""

import re
from dataclasses import dataclass

from datamover.bounds.servers import IMPOSSIBLE_COUNT
from datamover.protocols.http.client.codings import CHUNKED, IDLE, known_coding
from datamover.protocols.http.client.fields import Excessive, Fields, MalformedHttp, tokens, told

_PLAIN = re.compile(rb"[0-9]{1,40}")
# What curl and wget accept as a length: with a sign before it, or words after it.
_LENGTH = re.compile(rb"\+?0*([0-9]{1,40})(?:\.0*)?(?:[ \t]*[;A-Za-z].*)?")


@dataclass(frozen=True, slots=True)
class Framing:
    """How a body is delimited."""

    length: int | None
    """Bytes, None if the server does not say."""
    chunked: bool
    plain: bool
    """It is unambiguous."""


def framing_of(fields: Fields) -> Framing:
    """Return how a body with these fields is delimited; raises MalformedHttp, which names the field."""
    lengths, codings = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if codings is None:
        return Framing(None if lengths is None else _length(lengths), chunked=False, plain=True)
    named = tokens(fields, b"transfer-encoding")
    for coding in named:
        if coding != CHUNKED and not IDLE.fullmatch(coding) and not known_coding(coding):
            shown = told(b", ".join(codings))
            raise MalformedHttp(f"the answer's header 'Transfer-Encoding' is {shown}, which is not known")
    chunked = CHUNKED in named
    plain = lengths is None and [coding.lower() for coding in codings] == [CHUNKED.encode("ascii")]
    # RFC 9112, section 6.3: chunks override a length.
    length = None if chunked or lengths is None else _length(lengths)
    return Framing(length, chunked, plain=plain)


def _length(values: list[bytes]) -> int:
    if len(values) == 1 and _PLAIN.fullmatch(values[0]) and int(values[0]) < IMPOSSIBLE_COUNT:
        return int(values[0])
    matches = [_LENGTH.fullmatch(part.strip()) for part in b",".join(values).split(b",") if part.strip()]
    found = [int(match[1]) for match in matches if match]
    if not found or len(found) < len(matches):
        raise MalformedHttp(f"the answer's header 'Content-Length' is {told(b', '.join(values))}, no number of bytes")
    if max(found) >= IMPOSSIBLE_COUNT:
        raise Excessive(f"the answer's header 'Content-Length' is {told(b', '.join(values))}, no number of bytes")
    different = list(dict.fromkeys(found))
    if len(different) > 1:
        times = "twice" if len(found) == 2 else f"{len(found)} times"
        listed = " and ".join(map(str, different[:2])) if len(different) == 2 else f"{different[0]}, {different[1]}, …"
        raise MalformedHttp(f"the answer's header 'Content-Length' comes {times} with different values, {listed}")
    return found[0]
