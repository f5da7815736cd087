"""Odd requests, and connections that end in odd places: each is answered or ends, and others are served afterwards."""

import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs

from datamover.api.http.pace import ConnectionTimeouts
from datamover.config.schema import Limits, Tls
from tests.servers.certificates import Authority
from tests.servers.door import WAIT, Door, config_of, told
from tests.waiting import until

LIST = b"<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"
HEAD = b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n"
CALL = HEAD + b"Content-Length: %d\r\n\r\n" % len(LIST) + LIST
QUICK = ConnectionTimeouts(idle=0.5, head=0.4, silence=0.4, window=0.8, stranger=0.8, slowest=10_000, linger=0.3)
CONNECTIONS = 20


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """An interface with short time limits."""
    door = Door(config_of(tmp_path, limits=Limits(connections_per_address=CONNECTIONS)))
    door.site.pace = QUICK
    yield door
    await door.close()


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"Host: localhost", b"Connection: close", *headers, b"", b""]) + body


XML = b"Content-Type: text/xml"
LENGTH = b"Content-Length: %d" % len(LIST)
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
ROWS: dict[str, tuple[bytes, int]] = {
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS, 400),
    "an upgrade to HTTP/2": (
        request(b"POST /RPC2 HTTP/1.1", XML, LENGTH, b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", body=LIST),
        200,
    ),
    "an upgrade to WebSocket": (
        request(b"GET /RPC2 HTTP/1.1", b"Upgrade: websocket", b"Sec-WebSocket-Key: eA==", b"Sec-WebSocket-Version: 13"),
        405,
    ),
    "HTTP/0.9": (b"GET /RPC2\r\n\r\n", 400),
    "HTTP/1.10": (request(b"POST /RPC2 HTTP/1.10", XML, LENGTH, body=LIST), 400),
    "a tunnel": (request(b"CONNECT localhost:22 HTTP/1.1"), 405),
    "OPTIONS": (request(b"OPTIONS * HTTP/1.1"), 200),
    "TRACE": (request(b"TRACE /RPC2 HTTP/1.1", b"Cookie: secret=1"), 405),
    "a method of no letters": (request(b"\xff\xfe /RPC2 HTTP/1.1"), 400),
    "an absolute URI": (request(b"POST http://localhost/RPC2 HTTP/1.1", XML, LENGTH, body=LIST), 200),
    "an absolute URI of no path": (request(b"GET http://localhost HTTP/1.1", b"Accept: text/html"), 200),
    "an absolute URI of another path": (request(b"POST http://localhost/x/RPC2 HTTP/1.1", XML, LENGTH, body=LIST), 404),
    "an escaped path": (request(b"POST /%52PC2 HTTP/1.1", XML, LENGTH, body=LIST), 200),
    "an escape that is none": (request(b"POST /%zz%00 HTTP/1.1", XML, LENGTH, body=LIST), 404),
    "a query": (request(b"POST /RPC2?a=%ff&a=1&;;&=%00 HTTP/1.1", XML, LENGTH, body=LIST), 200),
    "a fragment": (request(b"POST /RPC2#x HTTP/1.1", XML, LENGTH, body=LIST), 404),
    "a range": (request(b"GET / HTTP/1.1", b"Range: bytes=0-0,1-1,2-2", b"Accept: text/html"), 200),
    "a condition": (request(b"GET / HTTP/1.1", b'If-None-Match: *, W/"', b"If-Modified-Since: \xff"), 405),
    "cookies": (request(b"POST /RPC2 HTTP/1.1", XML, LENGTH, b"Cookie: " + b"a=b;" * 3000, body=LIST), 200),
    "a form": (
        request(b"POST /RPC2 HTTP/1.1", b"Content-Type: multipart/form-data; boundary=x", LENGTH, body=LIST),
        415,
    ),
    "a body that is compressed": (
        request(b"POST /RPC2 HTTP/1.1", XML, LENGTH, b"Content-Encoding: gzip", body=LIST),
        415,
    ),
    "two logins": (
        request(b"POST /RPC2 HTTP/1.1", XML, LENGTH, b"Authorization: Basic eA==", b"Authorization: x", body=LIST),
        200,
    ),
    "a trailer": (
        request(
            b"POST /RPC2 HTTP/1.1",
            XML,
            b"Transfer-Encoding: chunked",
            body=b"%x\r\n%b\r\n0\r\nHost: evil.example.org\r\nX: y\r\n\r\n" % (len(LIST), LIST),
        ),
        200,
    ),
}


@pytest.mark.parametrize("row", list(ROWS))
@pytest_twisted.ensureDeferred
async def test_odd_requests(door: Door, row: str) -> None:
    """There is one answer, which repeats nothing of the request, and the connection ends."""
    sent, status = ROWS[row]
    answer = await door.raw(sent)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert told(answer)[0] == status
    assert b"secret" not in answer
    assert told(await door.raw(door.post(LIST)))[0] == 200


@pytest.mark.parametrize("body", [b"", LIST[:10]], ids=["none", "a part"])
@pytest_twisted.ensureDeferred
async def test_a_body_that_is_announced(door: Door, body: bytes) -> None:
    """Who is told to go on, and does not, has as much time as any body has."""

    def ask() -> bytes:
        with door.socket() as connection:
            connection.sendall(HEAD + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n\r\n" + body)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    first, _, rest = (await deferToThread(ask)).partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 100 Continue"
    assert told(rest)[0] == 408


def reset(door: Door, sent: bytes) -> None:
    """Send bytes, then reset the connection."""
    with socket.create_connection(("127.0.0.1", door.port), WAIT) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(sent)


@pytest_twisted.ensureDeferred
async def test_connections_that_are_reset(door: Door) -> None:
    """Wherever in two requests that is, nothing is left, and nothing is an error that nobody handled."""
    places = [*range(0, len(CALL), 7), len(CALL), len(CALL) + 20, 2 * len(CALL)]
    with capturedLogs() as log:
        for place in places:
            await deferToThread(reset, door, (CALL * 2)[:place])
        await until(lambda: door.site._connections.all == 0)
    assert [event for event in log if event["log_level"] >= LogLevel.warn] == []
    assert told(await door.raw(door.post(LIST)))[0] == 200


@pytest_twisted.ensureDeferred
async def test_connections_that_are_half_closed(door: Door) -> None:
    """A client that has closed its half has the answers to whole requests; a part of one is no request."""
    answers = await gatherResults([door.raw((CALL * 2)[:place], ending=True) for place in range(0, len(CALL) * 2, 41)])
    for place, answer in zip(range(0, len(CALL) * 2, 41), answers, strict=True):
        assert answer.count(b"HTTP/1.1 200") == place // len(CALL)
    await until(lambda: door.site._connections.all == 0)


@pytest_twisted.ensureDeferred
async def test_handshakes_that_trickle(tmp_path: Path) -> None:
    """Over TLS a byte now and then keeps no connection either, in the handshake or behind it."""
    certificate, key = Authority(tmp_path).issue()
    door = Door(config_of(tmp_path, tls=Tls(certificate_file=certificate, key_file=key)))
    door.site.pace = QUICK
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    hello = outgoing.read()

    def trickle(before: bytes) -> bool:
        """Tell whether the connection ended before all was sent."""
        with door.socket() as connection:
            connection.settimeout(0.02)
            deadline = time.monotonic() + WAIT
            connection.sendall(before)
            for position in range(len(hello)):
                assert time.monotonic() < deadline
                try:
                    connection.sendall(hello[position : position + 1])
                    if not connection.recv(65536):
                        return True
                except TimeoutError:
                    continue
                except ConnectionError:
                    return True
        return False

    try:
        assert await gatherResults([deferToThread(trickle, before) for before in (b"", b"\x16\x03\x01\x40\x00")])
        await until(lambda: door.site._connections.all == 0)
    finally:
        await door.close()
