"""Content and transfer codings: which of them change the bytes, and how gzip and deflate are undone. Pure.

datamover sends ``Accept-Encoding: identity``. Servers declare codings all the same:

- Most change nothing ("utf-8", "binary", "aws-chunked", "none"): the bytes are the file. Unknown names count as such,
  as in curl, wget and browsers.
- gzip and deflate are undone. If the file itself is compressed in that way, by its name or media type ("data.tar.gz",
  application/gzip), the coding is ignored, as browsers and Apache do: it was not coded twice.
- Other codings that change the bytes are refused.
"""

import re
import zlib
from collections.abc import Iterable

from datamover.bounds.servers import GZIP_MEMBERS_IN_TURN
from datamover.protocols.http.client.fields import Fields, tokens

CHUNKED = "chunked"
IDLE = re.compile(
    "identity|none|null|undefined|false|off|no|default|raw|plain|text|binary|[78]-?bit|aws-chunked|"
    "(?:us-)?ascii|utf-?(?:8|16|32)(?:[bl]e)?|iso-?8859-?[0-9]+|latin-?[0-9]+|(?:windows-?|cp)[0-9]+"
)
"""Names that servers give and that change nothing: charsets and mail encodings among them."""
UNDONE = frozenset({"gzip", "deflate"})

# The compressed files that are what the coding makes: how their names end, and their media types.
_FILES: dict[str, tuple[tuple[str, ...], frozenset[str]]] = {
    "gzip": (
        (".gz", ".tgz", ".taz", ".svgz", ".gzip"),
        frozenset({"application/gzip", "application/x-gzip", "application/x-tgz", "application/x-compressed-tar"}),
    ),
    "compress": ((".z", ".taz"), frozenset({"application/x-compress"})),
    "bzip2": ((".bz2", ".tbz", ".tbz2"), frozenset({"application/x-bzip2", "application/x-bzip"})),
    "br": ((".br",), frozenset({"application/x-brotli"})),
    "zstd": ((".zst", ".tzst"), frozenset({"application/zstd"})),
    "xz": ((".xz", ".txz"), frozenset({"application/x-xz"})),
    "lzma": ((".lzma",), frozenset({"application/x-lzma"})),
    "lz4": ((".lz4",), frozenset({"application/x-lz4"})),
    "deflate": ((".zz",), frozenset()),
}
_OTHERS = frozenset({"aes128gcm", "dcb", "dcz", "exi", "pack200-gzip", "sdch", "snappy", "snappy-framed"})
_ALIASES = {"brotli": "br", "bz2": "bzip2", "zst": "zstd", "zlib": "deflate"}


class Undecodable(Exception):
    """The bytes do not fit their coding; ``args[0]`` says why."""


def known_coding(token: str) -> str | None:
    """Return the usual name of a coding that changes the bytes, None for any other token; given in lower case."""
    name = token.removeprefix("x-")
    name = _ALIASES.get(name, name)
    return name if name in _FILES or name in _OTHERS else None


def codings_of(fields: Fields, name: str) -> tuple[str, ...]:
    """Return the codings to undo of a body to get the file ``name``, the one applied last at the end.

    () if the body is the file.
    """
    content = _known(tokens(fields, b"content-encoding"))
    if len(content) == 1 and _is_compressed_so(content[0], name, tokens(fields, b"content-type")):
        content = []
    return (*content, *_known(tokens(fields, b"transfer-encoding")))


def _known(named: Iterable[str]) -> list[str]:
    return [coding for token in named if (coding := known_coding(token))]


def _is_compressed_so(coding: str, name: str, types: list[str]) -> bool:
    """Tell whether a file of this name and media type is itself compressed by the coding."""
    endings, media = _FILES.get(coding, ((), frozenset()))
    return name.lower().endswith(endings) or not media.isdisjoint(types[:1])


class Inflater:
    """Decompresses gzip or deflate, a bounded number of bytes at a time.

    gzip may come in several members (RFC 1952, section 2.2); deflate comes in zlib's wrapping (RFC 9110, section
    8.4.1.2) or, from some servers, without.
    """

    def __init__(self, coding: str) -> None:
        """Undo ``coding``, one of ``UNDONE``."""
        self._coding = coding
        self._inflater: zlib._Decompress | None = None
        self._held = b""
        self._begun = False
        self._full = False
        """More output may come without further input."""
        self._members = 0
        """Members that were begun since the last turn."""

    @property
    def tired(self) -> bool:
        """Whether so many members were begun that ``read`` returns no more until ``rested``."""
        return self._members >= GZIP_MEMBERS_IN_TURN

    def rested(self) -> None:
        self._members = 0

    def feed(self, data: bytes) -> None:
        """Add input; call it when ``read`` returned b"" and it is not ``tired``."""
        self._held += data
        self._full = True

    def read(self, most: int) -> bytes:
        """Return at most ``most`` bytes, as many as there are; b"" if it needs more input, or is ``tired``.

        Raises Undecodable.
        """
        read = b""
        while self._full and not self.tired and (wanted := most - len(read)):
            if self._inflater is None:
                self._inflater = self._next_member()
                self._members += 1
            if self._inflater is None:
                self._full = False
                break
            try:
                data = self._inflater.decompress(self._held, wanted)
            except zlib.error as error:
                raise Undecodable(str(error).rpartition(": ")[2]) from None
            self._held = self._inflater.unconsumed_tail
            if self._inflater.eof:
                self._held, self._inflater = self._inflater.unused_data, None
            self._full = bool(self._held) or len(data) == wanted
            read += data
        return read

    def end(self) -> None:
        """Mark the end of the input; raises Undecodable if it is incomplete."""
        if self._held and self._begun and self._inflater is None:
            raise Undecodable("more comes after its end")
        if self._held or self._inflater is not None:
            raise Undecodable("it ends too early")

    def _next_member(self) -> "zlib._Decompress | None":
        """Return the decompressor for the member that begins here, None if too few bytes are here to choose it."""
        if len(self._held) < 2:
            return None
        if self._begun and self._coding != "gzip":
            raise Undecodable("more comes after its end")
        self._begun = True
        if self._coding == "gzip":
            return zlib.decompressobj(16 + zlib.MAX_WBITS)
        wrapped = self._held[0] & 0x0F == zlib.DEFLATED and int.from_bytes(self._held[:2], "big") % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
