"""The bytes of a request. Pure.

Headers that would change the framing, such as a line break in a value, are refused.
"""

import re
from collections.abc import Mapping

from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer

from datamover import __version__
from datamover.errors import InvalidRequest

_USUAL = {
    "user-agent": b"User-Agent: datamover/%b\r\n" % __version__.encode("ascii"),
    "accept": b"Accept: */*\r\n",
    # A compressed body would have another size and digest than the file, and could not be resumed.
    "accept-encoding": b"Accept-Encoding: identity\r\n",
}
_USUAL_LINES = b"".join(_USUAL.values())
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_TARGET = re.compile(rb"[\x21-\x7e]+")
CHUNKED = b"Transfer-Encoding: chunked\r\n"
_WITH_BODY = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods that send a Content-Length even without a body (RFC 9110 8.6)."""
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection"})


def request_of(
    method: bytes, target: str, authority: str, headers: Mapping[str, str], body: bytes | IBodyProducer | None
) -> bytes:
    """Return a request, without the body if that is a producer's; ``headers`` override the usual ones.

    Raises InvalidRequest for a header that cannot be sent; the message holds no value.
    """
    where = target.encode("ascii")
    assert _TARGET.fullmatch(where)
    lines = [b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, where, authority.encode("ascii"))]
    if headers:
        given = {name.lower(): _line(name, value) for name, value in headers.items()}
        lines += ({**_USUAL, **given}).values()
    else:
        lines.append(_USUAL_LINES)
    if isinstance(body, bytes) or (body is None and method in _WITH_BODY):
        lines.append(b"Content-Length: %d\r\n" % len(body or b""))
    elif body is not None:
        length = body.length
        lines.append(CHUNKED if length == UNKNOWN_LENGTH else b"Content-Length: %d\r\n" % length)
    lines.append(b"\r\n")
    if isinstance(body, bytes):
        lines.append(body)
    return b"".join(lines)


def _line(name: str, value: str) -> bytes:
    raw = value.encode("utf-8", "surrogateescape")
    if _NAME.fullmatch(name) is None or name.lower() in _OURS or _VALUE.fullmatch(raw) is None:
        raise InvalidRequest(f"the header {name[:80]!r} cannot be sent: expected a name and one line of text")
    return b"%b: %b\r\n" % (name.encode("ascii"), raw)
