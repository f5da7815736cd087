"""Web and SSH servers that keep their clients busy without end, in a separate process.

    with hostile(directory) as servers:
        f"{servers.web}/chunks" …, servers.destination("hung", "login") …

``python -m tests.servers.hostile DIRECTORY`` prints where it listens, as JSON, and runs until its standard input ends.
A path's first segment names the kind of answer: pieces that are sent as fast as they are read, and pauses.
"""

import gzip
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.python.failure import Failure

from tests.servers.conch import PASSWORD
from tests.servers.crowds import Ended
from tests.servers.hanging_ssh import HangingServer

MIB = 2**20
OK = b"HTTP/1.1 200 OK\r\n"
ONE_BYTE = b"Content-Length: 1\r\n\r\nx"
LISTED = 8 * MIB
"""Bytes of a listing."""
REDIRECTS = 19
"""Redirects before the file: as many as are followed."""
PAUSE = 1.0
"""Seconds between two bytes of an answer that trickles."""
STAGES = ("login", "channel", "sftp")
"""Where SSH servers hang."""
FLOOD = "keys"
"""Where one hangs that sends messages without end meanwhile."""

Piece = bytes | float
Kind = Callable[[str], Iterator[Piece]]


def slowly(data: bytes) -> Iterator[Piece]:
    return chain.from_iterable((data[at : at + 1], PAUSE) for at in range(len(data)))


def whole(answer: bytes) -> Kind:
    """Return the kind that answers the same each time."""
    return lambda path: iter([answer])


def trickling(head: bytes, rest: bytes) -> Kind:
    return lambda path: chain([head], slowly(rest))


def redirects(path: str) -> Iterator[Piece]:
    """Answer /redirects, /redirects/1 and so on by the next one, and the last one by a file."""
    number = int(path.partition("/redirects/")[2].partition("?")[0] or 0)
    where = b"HTTP/1.1 302 Found\r\nLocation: /redirects/%d\r\nContent-Length: 0\r\n\r\n" % (number + 1)
    return iter([where if number < REDIRECTS else OK + ONE_BYTE])


def document(body: bytes, status: bytes = OK, kind: bytes = b"application/json") -> bytes:
    return status + b"Content-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, len(body)) + body


def values(piece: bytes, size: int = MIB) -> bytes:
    """Return JSON of many values, a little smaller than ``size``."""
    return b'{"key": 2440012, "scientificName": "Macropus rufus", "x": [' + piece * (size // len(piece) - 100) + b"0]}"


def multistatus(size: int) -> bytes:
    """Return a listing over WebDAV."""
    one = (
        b"<d:response><d:href>/listing/%07d</d:href><d:propstat><d:prop><d:resourcetype/><d:getcontentlength>1"
        b"</d:getcontentlength></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )
    number = size // len(one % 0)
    members = b"".join(one % each for each in range(number))
    return b'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">' + members + b"</d:multistatus>"


VALUES: tuple[Kind, ...] = (
    whole(document(values(b"0,"))),
    whole(document(values(b"[],"))),
    whole(document(values(b'{"":0},'))),
    trickling(document(values(b"0,"))[:200], b"0," * 1000),
)
"""What a service of datasets answers."""


def dataset(path: str) -> Iterator[Piece]:
    """Answer by one of ``VALUES``: the taxon's number tells which."""
    numbers = re.findall(r"\d+", path)
    return VALUES[int(numbers[-1] if numbers else 0) % len(VALUES)](path)


def endless(head: bytes, piece: bytes) -> Kind:
    """Return the kind that answers without end, some 64 KiB at a time."""
    return lambda path: chain([head], repeat(piece * (64 * 1024 // len(piece))))


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
KINDS: dict[str, Kind] = {
    "informational": endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "chunks": endless(CHUNKED, b"1\r\nx\r\n"),
    "extensions": endless(CHUNKED, b"1;a=b\r\nx\r\n"),
    "members": endless(OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"x")),
    "empty-members": endless(OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")),
    "long-head": whole(OK + b"X: " + b"x" * (MIB - 200) + b"\r\n" + ONE_BYTE),
    "digest": whole(OK + (b"Digest: " + b"a" * 16_000 + b"\r\n") * 60 + ONE_BYTE),
    "lines": whole(OK + b"X: y\r\n" * 4_900 + ONE_BYTE),
    "trickling-head": trickling(OK, b"X: y\r\n" * 1000),
    "trickling-body": trickling(OK + b"Content-Length: 1000\r\n\r\n", b"x" * 1000),
    "trickling-error": trickling(b"HTTP/1.1 500 No\r\nContent-Length: 1000\r\n\r\n", b"x" * 1000),
    "redirects": redirects,
    "dataset": dataset,
    "listing": whole(document(multistatus(LISTED), b"HTTP/1.1 207 Multi-Status\r\n", b"application/xml")),
    "trickling-listing": trickling(
        b"HTTP/1.1 207 Multi-Status\r\nContent-Type: application/xml\r\n\r\n", multistatus(100_000)
    ),
}


class Pouring(Protocol):
    """Answers one request after the other."""

    transport: Any

    def __init__(self, reactor: Any, served: Counter[str]) -> None:
        self._reactor = reactor
        self._served = served
        self._received = b""
        self._pieces: Iterator[Piece] | None = None
        self._full = False
        self._pause: Any = None

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's
        self.transport.registerProducer(self, True)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self._received += data
        if self._pieces is None:
            self._begin()

    def _begin(self) -> None:
        """Answer the next request, if it is whole."""
        head, found, rest = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(length[1]) if length else 0
        if not found or len(rest) < size:
            return
        self._received = rest[size:]
        method, path, _ = head.split(b" ", 2)
        self._pieces = self._answer(method, path.decode())
        self._pour()

    def _answer(self, method: bytes, path: str) -> Iterator[Piece]:
        kind, _, named = path[1:].partition("?")[0].partition("/")
        if kind == "served":
            return iter([document(b"%d" % self._served[named])])
        self._served[kind] += 1
        if method == b"HEAD":
            return iter([b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"])
        return KINDS[kind](path)

    def _pour(self) -> None:
        while self._pieces is not None and not self._full and self._pause is None:
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
                self._begin()
            elif isinstance(piece, float):
                self._pause = self._reactor.callLater(piece, self._go_on)
            else:
                self.transport.write(piece)

    def _go_on(self) -> None:
        self._pause = None
        self._pour()

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's
        self._full = True

    def resumeProducing(self) -> None:  # noqa: N802 - Twisted's
        self._full = False
        self._pour()

    def stopProducing(self) -> None:  # noqa: N802 - Twisted's
        """Do nothing: the connection has ended."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's
        self._pieces = None
        if self._pause is not None:
            self._pause.cancel()


@dataclass(frozen=True)
class Hostile:
    """Where the servers are."""

    web: str
    """The URL of the web server, without a "/" at its end."""
    ssh: dict[str, str]
    """By stage: the URL of the SSH server's directory."""
    directory: Path

    def sftp(self, stage: str) -> str:
        """Return the keys of a destination on the server that hangs at a stage."""
        return (
            f'url = "{self.ssh[stage]}"\npassword_file = "{self.directory}/password"\n'
            f'known_hosts_file = "{self.directory}/{stage}/known_hosts_conch"\n'
        )

    def dav(self, kind: str) -> str:
        """Return the keys of a destination that answers everything by a kind of answer."""
        return (
            f'url = "{self.web.replace("http", "dav")}/{kind}"\nusername = "x"\n'
            f'password_file = "{self.directory}/password"\n'
        )


@contextmanager
def hostile(directory: Path) -> Iterator[Hostile]:
    """Run the servers while a block runs; their files are in ``directory``."""
    command = [sys.executable, "-m", "tests.servers.hostile", str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with Ended(process):
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield Hostile(told["web"], told["ssh"], directory)
    process.stdout.close()


class _Input(Protocol):
    """Stops when the standard input ends."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802 - Twisted's
        self._stop()


def main(directory: Path) -> None:
    """Run the servers."""
    from twisted.internet import reactor

    here: Any = reactor
    (directory / "password").write_text(PASSWORD)
    (directory / "password").chmod(0o600)
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (directory / "host_key").write_bytes(key)
    ssh = {}
    for stage in (*STAGES, FLOOD):
        (directory / stage).mkdir()
        server = HangingServer(here, directory / stage, directory / "host_key", stage=stage, pause=0.02)
        server.floods = stage == FLOOD
        ssh[stage] = server.url
    served: Counter[str] = Counter()
    factory = Factory.forProtocol(lambda: Pouring(here, served))
    factory.noisy = False
    port = here.listenTCP(0, factory, interface="127.0.0.1").getHost().port
    print(json.dumps({"web": f"http://127.0.0.1:{port}", "ssh": ssh}), flush=True)
    StandardIO(_Input(here.stop))  # type: ignore[no-untyped-call]
    here.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
