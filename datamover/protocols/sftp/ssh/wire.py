"""Bytes as SSH writes them: big-endian numbers and strings with their length before them."""

import struct

_LENGTH = struct.Struct(">L")
_LONG = struct.Struct(">Q")
_WORDS = 200


class MalformedMessage(Exception):
    """What came is not what its kind of message must hold."""


def number(value: int) -> bytes:
    """Return 32 bits."""
    return _LENGTH.pack(value)


def string(data: bytes) -> bytes:
    """Return ``data`` with its length before it."""
    return _LENGTH.pack(len(data)) + data


def names(*values: bytes) -> bytes:
    """Return a name-list."""
    return string(b",".join(values))


def words(text: bytes) -> str:
    """Return what a server says, fit for a message."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_WORDS].decode("utf-8", "replace"))


class MessageReader:
    """Takes one value after another out of a message."""

    def __init__(self, data: bytes, offset: int = 0) -> None:
        self._data = data
        self._offset = offset

    def __bool__(self) -> bool:
        return self._offset < len(self._data)

    def take(self, count: int) -> bytes:
        end = self._offset + count
        if end > len(self._data):
            raise MalformedMessage("a message ended too early")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

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
