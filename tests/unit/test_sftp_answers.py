"""Answers of an SFTP server, however the stream is cut into pieces."""

from typing import Any

import pytest

from datamover.protocols.sftp.client import messages
from datamover.protocols.sftp.client.answers import Answers
from datamover.protocols.sftp.ssh.wire import MalformedMessage, number, string


def answer(kind: int, body: bytes) -> bytes:
    return string(bytes((kind,)) + body)


VERSION = answer(messages.ANSWER_VERSION, number(3) + string(b"fsync@openssh.com") + string(b"1"))
BARE_VERSION = answer(messages.ANSWER_VERSION, number(3))
STREAM = b"".join(
    (
        answer(messages.STATUS, number(7) + number(messages.OK)),
        answer(messages.DATA, number(8) + string(b"0123456789")),
        answer(messages.HANDLE, number(9) + string(b"handle")),
        answer(messages.DATA, number(8) + string(b"abc")),
        answer(messages.DATA, number(8) + string(b"")),
    )
)


def taken(stream: bytes, step: int, room: bytearray) -> list[tuple[int, int, Any]]:
    """Return what is delivered of a stream that comes in pieces of ``step`` bytes; data goes into ``room``."""
    delivered: list[tuple[int, int, Any]] = []
    answers = Answers(lambda _, size: memoryview(room)[:size], lambda *each: delivered.append(each))
    for start in range(0, len(stream), step):
        data = memoryview(stream[start : start + step])
        while data:
            data = answers.take(data)
    return delivered


@pytest.mark.parametrize("step", [*range(1, 16), 1000])
def test_pieces(step: int) -> None:
    """Each answer is delivered once, whole, wherever the stream is cut; data lies where it belongs."""
    room = bytearray(20)
    first, second, third, *data = taken(STREAM, step, room)
    assert (first[1], first[2]) == (7, None)
    assert second == (messages.DATA, 8, 10)
    assert third == (messages.HANDLE, 9, b"handle")
    assert data == [(messages.DATA, 8, 3), (messages.DATA, 8, 0)]
    assert room[:10] == b"abc3456789"
    assert taken(VERSION, step, room) == [(messages.ANSWER_VERSION, 0, {b"fsync@openssh.com": b"1"})]
    assert taken(BARE_VERSION, step, room) == [(messages.ANSWER_VERSION, 0, {})]


@pytest.mark.parametrize(
    "stream",
    [
        answer(messages.DATA, number(1) + number(5) + b"four"),
        number(2**31) + bytes(20),
        number(2**19) + bytes(20),
        number(3) + bytes(20),
        number(5) + bytes((messages.DATA,)) + bytes(20),
        answer(messages.ANSWER_VERSION, number(4)),
        answer(messages.HANDLE, number(1) + number(100)),
    ],
)
def test_malformed(stream: bytes) -> None:
    """Lengths that contradict each other, or that are out of bounds, are not believed."""
    with pytest.raises(MalformedMessage):
        taken(stream, 1000, bytearray(20))
