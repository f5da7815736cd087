"""Encode and decode SSH's data types (RFC 4251, section 5): big-endian numbers, length-prefixed strings."""

import struct

_LENGTH = struct.Struct(">L")
_LONG = struct.Struct(">Q")
_WORDS = 200


class MalformedMessage(Exception):
    """A message does not have the fields of its type."""


def number(value: int) -> bytes:
    """Encode a uint32."""
    return _LENGTH.pack(value)


def string(data: bytes) -> bytes:
    """Encode a string."""
    return _LENGTH.pack(len(data)) + data


def names(*values: bytes) -> bytes:
    """Encode a name-list."""
    return string(b",".join(values))


def words(text: bytes) -> str:
    """Return a server's text, shortened and printable, for a message."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_WORDS].decode("utf-8", "replace"))


class MessageReader:
    """Reads one value after another from a message; raises MalformedMessage at its end."""

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self._offset = offset

    def __bool__(self) -> bool:
        return self._offset < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._offset + count
        if end > len(self._data):
            raise MalformedMessage("a message ends too early")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def rest(self) -> bytes:
        """Return all that was not read yet."""
        return self.take(len(self._data) - self._offset)

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        value: int = _LENGTH.unpack(self.take(4))[0]
        return value

    def long(self) -> int:
        value: int = _LONG.unpack(self.take(8))[0]
        return value

    def string(self) -> bytes:
        return self.take(self.number())

    def names(self) -> list[bytes]:
        listed = self.string()
        return listed.split(b",") if listed else []
