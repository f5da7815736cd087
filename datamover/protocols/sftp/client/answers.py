"""Parse the answers of an SFTP server from a stream of pieces; file data goes straight into the reader's buffer."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datamover.bounds.servers import LARGEST_SFTP_ANSWER
from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.ssh.wire import MalformedMessage, MessageReader

_HEADER = struct.Struct(">LBL")
_HEAD = _HEADER.size
_DATA_HEAD = _HEAD + 4

_READERS: dict[int, Callable[[MessageReader], Any]] = {
    messages.STATUS: messages.read_status,
    messages.NAME: messages.read_names,
    messages.ATTRS: messages.read_attributes,
    messages.HANDLE: MessageReader.string,
}


@dataclass(slots=True)
class _Body:
    """The body of an answer that is arriving in ``whole``; ``left`` is the part of it that is still missing."""

    kind: int
    key: int
    whole: memoryview
    left: memoryview


class Answers:
    """Calls ``deliver`` with the kind, the key and the value of each answer; for DATA the value is its byte count.

    ``room`` is called with a key and a size, and returns the buffer for that data, or None to discard it.
    """

    def __init__(self, room: Callable[[int, int], memoryview | None], deliver: Callable[[int, int, Any], None]) -> None:
        self._room = room
        self._deliver = deliver
        self._head = bytearray()
        """The first bytes of an answer, up to those that tell where its body goes."""
        self._body: _Body | None = None

    def take(self, data: memoryview) -> memoryview:
        """Take bytes up to the end of a head or of an answer; return the rest. Raises MalformedMessage."""
        return self._take_head(data) if self._body is None else self._take_body(data, self._body)

    def _take_head(self, data: memoryview) -> memoryview:
        """Take length, kind and key of an answer, and of DATA its second length."""
        head = self._head
        wanted = (_DATA_HEAD if len(head) >= _HEAD and head[4] == messages.DATA else _HEAD) - len(head)
        head += data[:wanted]
        if (len(head) == _HEAD and head[4] != messages.DATA) or len(head) == _DATA_HEAD:
            self._head = bytearray()
            self._begin_body(head)
        return data[wanted:]

    def _begin_body(self, head: bytearray) -> None:
        length, kind, key = _HEADER.unpack_from(head)
        size = length - (len(head) - 4)
        if size < 0 or length > LARGEST_SFTP_ANSWER:
            raise MalformedMessage(f"an answer of {length} bytes")
        if kind == messages.ANSWER_VERSION:
            # This answer has no key: these bytes are the version.
            whole = memoryview(head[5:] + bytes(size))
            body = _Body(kind, 0, whole, whole[4:])
        else:
            if kind == messages.DATA and int.from_bytes(head[_HEAD:], "big") != size:
                raise MalformedMessage("data whose two lengths disagree")
            room = self._room(key, size) if kind == messages.DATA else None
            whole = memoryview(bytearray(size)) if room is None else room
            body = _Body(kind, key, whole, whole)
        self._body = body
        if not size:
            self._end_body(body)

    def _take_body(self, data: memoryview, body: _Body) -> memoryview:
        size = min(len(data), len(body.left))
        body.left[:size] = data[:size]
        body.left = body.left[size:]
        if not body.left:
            self._end_body(body)
        return data[size:]

    def _end_body(self, body: _Body) -> None:
        self._body = None
        self._deliver(body.kind, body.key, _value(body.kind, body.whole))


def _value(kind: int, whole: memoryview) -> Any:
    if kind == messages.DATA:
        return len(whole)
    if kind == messages.ANSWER_VERSION:
        reader = MessageReader(bytes(whole))
        if reader.number() != messages.VERSION:
            raise MalformedMessage("it is not SFTP version 3")
        return messages.read_extensions(reader)
    return _READERS[kind](MessageReader(bytes(whole))) if kind in _READERS else bytes(whole)
