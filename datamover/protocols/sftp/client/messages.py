"""The messages of SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, as bytes and as values."""

import stat
import struct
from dataclasses import dataclass

from datamover.bounds.servers import MOST_SFTP_NAMES
from datamover.protocols.base import Ability, Inspection, Lack
from datamover.protocols.sftp.ssh.wire import MalformedMessage, MessageReader, number, string, words
from datamover.text.redaction import safe_words

VERSION = 3

# Requests
INIT, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, FSETSTAT, OPENDIR, READDIR = 1, 3, 4, 5, 6, 7, 8, 10, 11, 12
SETSTAT, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, EXTENDED = 9, 13, 14, 15, 16, 17, 18, 200

# Answers
ANSWER_VERSION, STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 2, 101, 102, 103, 104, 105, 201

# Flags of OPEN
FOR_READING, FOR_WRITING, CREATE, EMPTIED, EXCLUSIVELY = 0x1, 0x2, 0x8, 0x10, 0x20

# Status codes
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE = 0, 1, 2, 3, 4, 5
UNSUPPORTED, WRITE_PROTECT, NO_SPACE, QUOTA = 8, 12, 14, 15

FULL = (NO_SPACE, QUOTA)
"""The codes that mean that there is no space, whatever the request."""

POSIX_RENAME = b"posix-rename@openssh.com"
HARD_LINK = b"hardlink@openssh.com"
FSYNC = b"fsync@openssh.com"
LIMITS = b"limits@openssh.com"
STATVFS = b"statvfs@openssh.com"
FSTATVFS = b"fstatvfs@openssh.com"

_SIZE, _OWNER, _PERMISSIONS, _TIMES, _EXTENDED = 0x1, 0x2, 0x4, 0x8, 0x80000000
_AMBIGUOUS = 2**31
_TIME_UNTOLD = Lack(Ability.SET_MODIFIED, "the source's time is before 1970 or after 2037, and SFTP does not say which")
_U32 = struct.Struct(">L")
_U64 = struct.Struct(">Q")


class SftpError(Exception):
    """The server refused a request: the status code and the server's message."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{safe_words(words) or 'without a message'} (status {code})")
        self.code = code
        self.words = words


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a file that a server returns, or that are set; None is "not given"."""

    size: int | None = None
    mode: int | None = None
    modified: int | None = None
    """POSIX seconds, 32 bits of them."""

    @property
    def directory(self) -> bool:
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def link(self) -> bool:
        return self.mode is not None and stat.S_ISLNK(self.mode)

    @property
    def regular(self) -> bool:
        """True also if the server does not tell: then it has no other kinds."""
        return self.mode is None or stat.S_IFMT(self.mode) in (0, stat.S_IFREG)

    @property
    def identity(self) -> str | None:
        """Return a value that changes when the file does, None if the server tells too little."""
        if not self.regular or self.modified is None or self.size is None:
            return None
        return f"{self.modified}-{self.size}"

    def inspection(self, name: str, *, size_is_told: bool = True) -> Inspection:
        """Return the Inspection of a file called ``name``.

        A time from 2038 on may also be one before 1970, since servers cut 64 bits to 32. It is left out.
        """
        certain = self.modified is None or self.modified < _AMBIGUOUS
        return Inspection(
            name,
            self.size if size_is_told else None,
            self.identity if size_is_told else None,
            self.modified if certain else None,
            lacks=() if certain else (_TIME_UNTOLD,),
        )

    def packed(self) -> bytes:
        flags, values = 0, b""
        if self.size is not None:
            flags, values = flags | _SIZE, values + _U64.pack(self.size)
        if self.mode is not None:
            flags, values = flags | _PERMISSIONS, values + number(self.mode)
        if self.modified is not None:
            flags, values = flags | _TIMES, values + number(self.modified) * 2
        return number(flags) + values


NOTHING = Attributes()


def read_attributes(reader: MessageReader) -> Attributes:
    flags = reader.number()
    size = reader.long() if flags & _SIZE else None
    if flags & _OWNER:
        reader.take(8)
    mode = reader.number() if flags & _PERMISSIONS else None
    modified = None
    if flags & _TIMES:
        reader.number()
        modified = reader.number()
    if flags & _EXTENDED:
        for _ in range(reader.number()):
            reader.string()
            reader.string()
    return Attributes(size, mode, modified)


def read_status(reader: MessageReader) -> SftpError | None:
    """Return the error of a STATUS answer, None for "OK"."""
    code = reader.number()
    if code == OK:
        return None
    said = reader.string() if reader else b""
    return SftpError(code, words(said))


def read_names(reader: MessageReader) -> list[bytes]:
    """Return the names of a NAME answer, without their attributes. Raises MalformedMessage."""
    told = reader.number()
    if told > MOST_SFTP_NAMES:
        raise MalformedMessage(f"{told} names in one answer, more than {MOST_SFTP_NAMES}")
    found, data, at = [], reader.rest(), 0
    try:
        for _ in range(told):
            end = at + 4 + _U32.unpack_from(data, at)[0]
            found.append(data[at + 4 : end])
            # A line as of "ls -l", and the attributes.
            at = end + 4 + _U32.unpack_from(data, end)[0]
            flags = _U32.unpack_from(data, at)[0]
            at += 4 + 8 * (flags & _SIZE > 0) + 8 * (flags & _OWNER > 0)
            at += 4 * (flags & _PERMISSIONS > 0) + 8 * (flags & _TIMES > 0)
            if flags & _EXTENDED:
                extensions, at = _U32.unpack_from(data, at)[0], at + 4
                for _ in range(2 * min(extensions, len(data))):
                    at += 4 + _U32.unpack_from(data, at)[0]
    except struct.error:
        raise MalformedMessage("a message ends too early") from None
    if at > len(data):
        raise MalformedMessage("a message ends too early")
    return found


def read_extensions(reader: MessageReader) -> dict[bytes, bytes]:
    """Return what a VERSION answer announces after its number."""
    found = {}
    while reader:
        name = reader.string()
        found[name] = reader.string()
    return found


def extended(name: bytes, *strings: bytes) -> bytes:
    """Return the body of an EXTENDED request."""
    return b"".join(map(string, (name, *strings)))


def encode(path: str) -> bytes:
    """Return a path's bytes; text holds bytes that are not UTF-8 as lone surrogates."""
    return path.encode("utf-8", "surrogateescape")


def decode(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
