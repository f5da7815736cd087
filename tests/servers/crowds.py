"""Clients that use more than their share, in a separate process.

    python -m tests.servers.crowds KIND PORT CONNECTIONS ADDRESS [LOGIN [JOB]]

runs until its standard input ends. Each connection sends without end, as fast as possible (``slowly``: a thousand
bytes, twenty times a second), discards the answers, and is opened again when it is closed.
"""

import errno
import selectors
import socket
import struct
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from types import TracebackType
from xmlrpc.client import dumps

BODY = 64 * 2**20
CALL = b"<methodCall><methodName>system.listMethods</methodName></methodCall>"
PAUSE = 0.05
PIECE = 1000
BLOCK = b" " * 2**18


def packet(payload: bytes) -> bytes:
    """Return a packet of SSH before keys are exchanged (RFC 4253, section 6)."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


def name(text: bytes) -> bytes:
    """Return a string of SSH."""
    return struct.pack(">I", len(text)) + text


_CHOICES = (b"curve25519-sha256", b"ssh-ed25519", b"aes128-ctr", b"aes128-ctr", b"hmac-sha2-256", b"hmac-sha2-256")
KEXINIT = b"\x14" + bytes(16) + b"".join(map(name, (*_CHOICES, b"none", b"none", b"", b""))) + bytes(5)
"""The offer of algorithms of a client of SSH."""


def post(login: str, *headers: str) -> bytes:
    """Return a request's head, with a login if one is given."""
    basic = [f"Authorization: Basic {b64encode(login.encode()).decode()}"] if login else []
    lines = ["POST /RPC2 HTTP/1.1", "Host: localhost", "Content-Type: text/xml", *basic, *headers, "", ""]
    return "\r\n".join(lines).encode()


def call(login: str, body: bytes) -> bytes:
    """Return a whole request."""
    return post(login, f"Content-Length: {len(body)}") + body


def health(login: str, number: int, job: int) -> Iterator[bytes]:
    """Pipelined calls: none waits for the answer to the one before."""
    while True:
        yield b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100


def bodies(login: str, number: int, job: int) -> Iterator[bytes]:
    """Bodies of the largest size allowed."""
    while True:
        yield post(login, f"Content-Length: {BODY}") + CALL
        for _ in range(-(-(BODY - len(CALL)) // len(BLOCK))):
            yield BLOCK


def chunks(login: str, number: int, job: int) -> Iterator[bytes]:
    """Bodies in chunks of one byte."""
    while True:
        yield post(login, "Transfer-Encoding: chunked")
        for _ in range(100):
            yield b"1\r\n \r\n" * 10_000
        yield b"0\r\n\r\n"


def waits(login: str, number: int, job: int) -> Iterator[bytes]:
    """Calls that wait for a job's end, and as many that wait for any event."""
    happens: dict[str, float | str] = {"timeout": 60.0, "after": str(2**40)}
    body = dumps((job, 60), "jobs.wait") if number % 2 else dumps((happens,), "jobs.events")
    while True:
        yield call(login, body.encode())


def guesses(login: str, number: int, job: int) -> Iterator[bytes]:
    """One wrong password after the other."""
    for guess in count():
        yield call(f"{login.partition(':')[0]}:{number} {guess}", CALL)


def telnet(login: str, number: int, job: int) -> Iterator[bytes]:
    """Commands of telnet, and names, of strangers at the console."""
    while True:
        yield (b"\xff\xfd\x01\xff\xfb\x1f\xff\xfa\x18x\xff\xf0" * 20 + b"x\r\n") * 10


def ssh(login: str, number: int, job: int) -> Iterator[bytes]:
    """Strangers at the console that exchange keys, and then say nothings."""
    yield b"SSH-2.0-crowd\r\n" + packet(KEXINIT) + packet(b"\x1e" + name(b"\x09" + bytes(31)))
    while True:
        yield packet(b"\x02" + name(b"")) * 1000


KINDS: dict[str, Callable[[str, int, int], Iterator[bytes]]] = {
    each.__name__: each for each in (health, bodies, chunks, waits, guesses, telnet, ssh)
}


class Member:
    """One connection."""

    def __init__(self, port: int, address: str, sending: Callable[[], Iterator[bytes]], *, slowly: bool) -> None:
        self._target = (("127.0.0.1", port), address)
        self._sending = sending
        self._slowly = slowly
        self.socket: socket.socket | None = None

    def connect(self) -> socket.socket:
        target, address = self._target
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((address, 0))
        if (code := self.socket.connect_ex(target)) not in (0, errno.EINPROGRESS):
            raise OSError(code, "not connected")
        self._pieces, self._left = self._sending(), b""
        return self.socket

    def move(self, *, readable: bool, writable: bool) -> bool:
        """Send and receive as much as possible without blocking; tell whether the connection is open."""
        assert self.socket is not None
        with suppress(BlockingIOError):
            if readable and not self.socket.recv(2**18):
                return False
        with suppress(BlockingIOError):
            if writable:
                self._left = self._left or next(self._pieces)
                sent = self.socket.send(self._left[:PIECE] if self._slowly else self._left)
                self._left = self._left[sent:]
        return True


def run(members: list[Member], slowly: bool) -> None:
    """Run until standard input ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        waiting = list(members)
        while True:
            for member in waiting:
                selector.register(member.connect(), selectors.EVENT_READ | selectors.EVENT_WRITE, member)
            waiting = []
            for key, events in selector.select(0.05):
                member = key.data
                if member is None:
                    return
                readable, writable = bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)
                try:
                    lives = member.move(readable=readable, writable=writable)
                except OSError:
                    lives = False
                if not lives:
                    selector.unregister(member.socket)
                    member.socket.close()
                    waiting.append(member)
            if slowly or waiting:
                time.sleep(PAUSE)


@contextmanager
def crowd(kind: str, port: int, connections: int, *, login: str = "", job: int = 0) -> Iterator[None]:
    """Run a crowd against a port while a block runs; a ``kind`` may end in "-slowly"."""
    arguments = [kind, str(port), str(connections), "127.0.0.1", login, str(job)]
    with Ended(subprocess.Popen([sys.executable, "-m", "tests.servers.crowds", *arguments], stdin=subprocess.PIPE)):
        yield


class Ended:
    """Run a process, which ends with its standard input, while a block runs."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        ended = self._process.poll()
        self._process.stdin.close()
        self._process.wait(20)
        assert ended is None, "the crowd went home by itself"


def main(kind: str, port: str, connections: str, address: str, login: str = "", job: str = "0") -> None:
    """Run a crowd from the command line."""
    kind, _, pace = kind.partition("-")
    members = [
        Member(int(port), address, partial(KINDS[kind], login, number, int(job)), slowly=bool(pace))
        for number in range(int(connections))
    ]
    run(members, bool(pace))


if __name__ == "__main__":
    main(*sys.argv[1:])
