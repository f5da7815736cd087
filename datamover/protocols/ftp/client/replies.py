"""Replies of an FTP server (RFC 959, section 4.2), read line by line and bounded. Pure."""

import re
from dataclasses import dataclass

from datamover.bounds.servers import LARGEST_REPLY, LONGEST_QUOTED_REPLY
from datamover.text.redaction import safe_words

TELLING = frozenset({"SIZE", "MDTM", "MLST", "EPSV", "PASV", "PWD", "RNFR", "REST", "NOOP"})
"""Commands that no server answers with the code of a transfer's end."""
_GOING_ON = frozenset({"USER", "PASS", "AUTH", "REST"})
"""Commands, besides RNFR, that may be answered by a code of 300 and more: another is to follow (RFC 959, 6)."""
_PORTS = frozenset({"EPSV", "PASV"})
_LINE = re.compile(rb"([1-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")


class MalformedReply(Exception):
    """What a server sent is no reply; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: its code, and the text of its lines."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def final(self) -> bool:
        return self.code >= 200

    @property
    def positive(self) -> bool:
        return self.code < 400

    @property
    def of_a_transfer(self) -> bool:
        """Whether it can only be the end of a transfer; some servers tell that twice, above all of one given up."""
        return self.code in (226, 426)

    def fits(self, command: str) -> bool:
        """Tell whether it may be the answer to a command: if not, the replies are out of step with the commands.

        Only what would be taken for a success matters. Many servers have codes of their own within a kind.
        """
        if not self.positive or not self.final:
            return True
        if command == "SIZE":
            return self.code == 213 or self.text.strip()[:1].isdigit()
        if command in _PORTS:
            return 220 <= self.code < 230
        if command == "NOOP":  # It is sent to find that out.
            return self.code == 200
        return self.code >= 300 if command == "RNFR" else self.code < 300 or command in _GOING_ON

    @property
    def text(self) -> str:
        """Return the last line's text, as it is."""
        return decode(self.lines[-1])

    @property
    def words(self) -> str:
        """Return the text for messages: on one line, bounded, without control characters."""
        joined = _CONTROL.sub(" ", " ".join(decode(line) for line in self.lines[:4]))
        shown = joined.encode("utf-8", "replace").decode("utf-8").strip()
        return shown if len(shown) <= LONGEST_QUOTED_REPLY else f"{shown[: LONGEST_QUOTED_REPLY - 1]}…"


class FtpRefusal(Exception):
    """A negative reply to a command other than PASS. As text it is for everybody; ``reply.words`` may hold a path."""

    def __init__(self, reply: Reply, command: str) -> None:
        super().__init__(f"{reply.code} {safe_words(reply.words)}".rstrip())
        self.reply = reply
        self.command = command

    @property
    def code(self) -> int:
        return self.reply.code

    @property
    def meaning(self) -> str:
        """Return the server's words in small letters, without the path that was asked for: it may have any words."""
        words = " ".join(decode(line) for line in self.reply.lines[:4])
        path = self.command[self.command.find("/") :] if "/" in self.command else ""
        if path:
            words = words.replace(path, "").removeprefix(f"{path.rpartition('/')[2]}:")
        return words.lower()

    @property
    def unsupported(self) -> bool:
        """Whether the server does not do the command, or not so (RFC 959: 500, 501, 502, 504; RFC 2389)."""
        return self.code in (500, 501, 502, 503, 504)


class ReplyReader:
    """Makes replies of lines."""

    def __init__(self) -> None:
        self._code = b""
        self._lines: list[bytes] = []
        self._size = 0

    def read(self, line: bytes) -> Reply | None:
        """Take the next line, without its end; return the reply that it completes. Raises MalformedReply."""
        self._size += len(line) + 1
        if self._size > LARGEST_REPLY:
            raise MalformedReply(f"a reply has more than {LARGEST_REPLY} bytes")
        found = _LINE.fullmatch(line)
        if not self._code:
            if not line.strip():
                return None  # Some servers end their replies with an empty line.
            if found is None:
                raise MalformedReply(f"it says {decode(line[:LONGEST_QUOTED_REPLY])!r}, which is not FTP")
            if found[2] == b"-":
                self._code, self._lines = found[1], [found[3]]
                return None
            self._size = 0
            return Reply(int(found[1]), (found[3] or b"",))
        if found is not None and found[1] == self._code and found[2] != b"-":
            reply = Reply(int(self._code), (*self._lines, found[3] or b""))
            self._code, self._lines, self._size = b"", [], 0
            return reply
        # RFC 959 lets lines within begin as they like; some servers begin each with the code.
        prefix = self._code + b"-"
        self._lines.append(line.removeprefix(prefix))
        return None


def decode(data: bytes) -> str:
    """Return a server's bytes as text, those that are not UTF-8 as lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def quoted_path(reply: Reply) -> str | None:
    """Return the path in a reply to PWD or MKD (RFC 959, appendix II), None where there is none."""
    text = reply.text
    start = text.find('"')
    if start < 0:
        return None
    found, at = [], start + 1
    while at < len(text):
        if text[at] != '"':
            found.append(text[at])
            at += 1
        elif text[at : at + 2] == '""':
            found.append('"')
            at += 2
        else:
            return "".join(found)
    return None


def extended_port(reply: Reply) -> int | None:
    """Return the port in a reply to EPSV (RFC 2428), None where there is none."""
    found = re.search(r"\((.)\1\1(\d{1,5})\1\)", reply.text)
    return _port(int(found[2])) if found else None


def passive_port(reply: Reply) -> int | None:
    """Return the port in a reply to PASV (RFC 959; the parentheses may be missing, RFC 1123 4.1.2.6), None for none.

    The address beside it is ignored: data goes where the control connection goes.
    """
    found = re.search(r"(?:\d{1,3},){4}(\d{1,3}),(\d{1,3})", reply.text.replace(" ", ""))
    return _port(int(found[1]) * 256 + int(found[2])) if found and int(found[1]) < 256 > int(found[2]) else None


def _port(number: int) -> int | None:
    return number if 0 < number < 65536 else None
