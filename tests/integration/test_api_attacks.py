"""Attacks on the interface, one in each row, and the expected answers. Afterwards other clients are still served."""

import socket
import ssl
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, dumps, loads

import pytest
import pytest_twisted
from argon2 import PasswordHasher
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs

from datamover.api.http.connections import CROWDED
from datamover.api.http.pace import ConnectionTimeouts
from datamover.bounds.calls import LONGEST_KEY
from datamover.bounds.door import LARGEST_REQUEST_HEAD, LONGEST_FIRST_LINE, MOST_HEADERS, RESERVED_CONNECTIONS
from datamover.config.schema import Client, Limits, Tls
from datamover.errors import Unavailable
from datamover.security.login_throttle import Failures
from datamover.security.passwords import Logins
from tests.fakes import MemoryJobStore, PlainLogins
from tests.servers import postgres
from tests.servers.certificates import Authority
from tests.servers.crowds import crowd
from tests.servers.door import WAIT, Door, config_of, faulted, one, told
from tests.servers.neighbours import MEMORY, ROUNDS, SOON, Polite, greedily, memory
from tests.servers.nginx import Nginx
from tests.servers.service import Service
from tests.waiting import wait_until

LIST = b"<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"
HEAD = b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n"
EACH = 20
"""Connections that one address may have."""
TOTAL = 50
GUESSES = 10_000
GUESSERS = 4


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """An interface with short time limits."""
    limits = Limits(request_size=200_000, connections=TOTAL, connections_per_address=EACH)
    door = Door(config_of(tmp_path, limits=limits))
    door.site.pace = ConnectionTimeouts(
        idle=0.5, head=0.4, silence=0.4, window=0.8, stranger=0.8, slowest=10_000, linger=0.3
    )
    yield door
    await door.close()


async def is_served(door: Door) -> bool:
    return told(await door.raw(door.post(LIST)))[0] == 200


def connections(door: Door) -> int:
    return door.site._connections.all


# What is slow ------------------------------------------------------------------------------------------------


def trickle(door: Door, pieces: Iterator[bytes], pause: float) -> tuple[float, bytes]:
    """Send pieces until the interface ends the connection; return the seconds and its answer. Runs in a thread."""
    began, answer = time.monotonic(), b""
    with door.socket() as connection:
        connection.settimeout(pause)
        try:
            for piece in pieces:
                if time.monotonic() - began > WAIT:
                    break
                connection.sendall(piece)
                try:
                    received = connection.recv(65536)
                except TimeoutError:
                    continue
                answer += received
                if not received:
                    break
        except OSError:
            pass
    return time.monotonic() - began, answer


BODY = HEAD + b"Content-Length: 100000\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "pause", "status"),
    [
        (repeat(b""), 0.05, None),
        (chain(b"POST".split(b" "), repeat(b"")), 0.05, 408),
        (chain([HEAD], repeat(b"X-Slow: x\r\n")), 0.05, 408),
        (chain([HEAD], repeat(b"x")), 0.05, 408),
        (chain([BODY], repeat(b"")), 0.05, 408),
        (chain([BODY], repeat(b"x")), 0.05, 408),
        (chain([CHUNKED], repeat(b"1\r\nx\r\n")), 0.05, 408),
        (chain([HEAD + b"Content-Length: %d\r\n\r\n" % len(LIST) + LIST], repeat(b"")), 0.05, 200),
        (chain([b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"], repeat(b"")), 0.05, 405),
    ],
    ids=["silent", "line", "headers", "header", "body", "bytes", "chunks", "idle", "idle after a refusal"],
)
@pytest_twisted.ensureDeferred
async def test_slow_clients_are_dropped(door: Door, pieces: Iterator[bytes], pause: float, status: int | None) -> None:
    """A client that sends a byte now and then is dropped: in the head, in the body, and between two requests."""
    seconds, answer = await deferToThread(trickle, door, pieces, pause)
    assert seconds < WAIT
    assert (told(answer)[0] if answer else None) == status
    assert await is_served(door)


@pytest_twisted.ensureDeferred
async def test_a_client_with_a_slow_line_is_served(door: Door) -> None:
    """A body that comes steadily is taken, though it takes longer than a pause may."""
    whole = door.post(LIST + b" " * 20_000)
    pieces = [whole[start : start + 2_000] for start in range(0, len(whole), 2_000)]
    seconds, answer = await deferToThread(trickle, door, iter(pieces), 0.08)
    assert told(answer)[0] == 200
    assert seconds > 0.8


# What is too large -------------------------------------------------------------------------------------------


def struct(name: str) -> bytes:
    return f"<struct><member><name>{name}</name><value>x</value></member></struct>".encode()


def call(value: bytes, name: bytes = b"system.methodHelp") -> bytes:
    return b"<methodCall><methodName>%s</methodName><params><param><value>%s</value></param></params></methodCall>" % (
        name,
        value,
    )


def nested(tag: bytes, depth: int) -> bytes:
    return (b"<%s><data><value>" % tag) * depth + (b"</value></data></%s>" % tag) * depth


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"POST /" + b"x" * LARGEST_REQUEST_HEAD + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414, b"first line is over"),
        (
            b"GET " + b"/" * LONGEST_FIRST_LINE + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            414,
            b"first line is over 2048",
        ),
        (
            b"GET /?" + b"a&" * LONGEST_FIRST_LINE + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
            414,
            b"first line is over 2048",
        ),
        (b"P" * 10 * LARGEST_REQUEST_HEAD, 414, b"first line is over"),
        (HEAD + b"X: " + b"x" * LARGEST_REQUEST_HEAD + b"\r\n\r\n", 431, b"headers are over"),
        (HEAD + b"X: " + b"x" * 10 * LARGEST_REQUEST_HEAD, 431, b"headers are over"),
        (HEAD + (b"X: " + b"x" * 1000 + b"\r\n") * 20 + b"\r\n", 431, b"headers are over"),
        (HEAD + b"X: x\r\n" * (MOST_HEADERS + 1) + b"\r\n", 431, b"more than 100 headers"),
        (HEAD + b"X: x\r\n" + b" x\r\n" * 200 + b"\r\n", 431, b"more than 100 headers"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n\r\n", 400, b"cannot be read"),
        (b"GET\r\n\r\n", 400, b"cannot be read"),
        (HEAD + b"no colon\r\n\r\n", 400, b"cannot be read"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, b"cannot be read"),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, b"cannot be read"),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", 400, b"cannot be read"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, b"cannot be read"),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n", 400, b"cannot be read"),
        (HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, b"cannot be read"),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400, b"cannot be read"),
        (CHUNKED + b"zz\r\n", 400, b"cannot be read"),
        (CHUNKED + b"1;" + b"x" * 100_000, 400, b"cannot be read"),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, b"cannot be read"),
        (HEAD[:-2] + b";" * 15_000 + b"\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 415, b"text/xml"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_request_is_refused_by_name(door: Door, request_: bytes, status: int, words: bytes) -> None:
    """The answer to an oversized or malformed head names the bound, and nothing after the head is read."""
    answer = await door.raw(request_)
    assert answer.count(b"HTTP/1.1") == 1
    assert told(answer)[0] == status
    assert words in answer
    assert await is_served(door)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (call(nested(b"array", 33)), 1001, "more than 32 deep"),
        (call(nested(b"x:array", 33)), 1001, "more than 32 deep"),
        (call(struct("x" * (LONGEST_KEY + 1))), 1001, "a name of more than 256"),
        (call(b"x", name=b"x" * (LONGEST_KEY + 1)), 1001, "a name of more than 256"),
        (call(b"<int>" + b"9" * 5000 + b"</int>"), 1001, "is not an XML-RPC methodCall"),
        (call(b"<int>" + b"9" * 4000 + b"</int>", b"jobs.status"), 1007, "there is no job"),
        (call(b"<int>" + b"9" * 4000 + b"</int>", b"checkMoveStatus"), None, "REJECTED"),
        (call(b"x" * 150_000), 8001, "there is no method"),
        (LIST + b" " * 250_000, 1013, "over 200000 bytes"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + LIST, 1001, "document type"),
        (
            b'<!DOCTYPE x [<!ENTITY a "ha">'
            + b"".join(b'<!ENTITY %c "&%c;&%c;&%c;">' % (b, b - 1, b - 1, b - 1) for b in range(ord("b"), ord("u")))
            + b"]>"
            + call(b"&t;"),
            1001,
            "document type",
        ),
        (b'<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd">%a;]>' + LIST, 1001, "document type"),
        (call(b"&#0;"), 1001, "is not an XML-RPC methodCall"),
        (call(b"&#xD800;"), 1001, "is not an XML-RPC methodCall"),
        (LIST.decode().encode("utf-16"), None, "jobs.submit"),
        (b"\x00" * 1000, 1001, "is not an XML-RPC methodCall"),
        (b"<" * 1000, 1001, "is not an XML-RPC methodCall"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_in_a_body_is_bounded(door: Door, body: bytes, code: int | None, words: str) -> None:
    """Bombs, depths, lengths and numbers beyond reason are Faults that name the bound, and cost next to nothing."""
    status, answer = told(await door.raw(door.post(body)))
    assert status == 200
    if code is None:
        assert words in str(loads(answer))
    else:
        with pytest.raises(Fault) as caught:
            loads(answer)
        assert caught.value.faultCode == code
        assert words in caught.value.faultString
    assert await is_served(door)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'<methodCall a="' + b"x" * 8_000_000, "a tag or a comment of more than"),
        (b"<!--" + b"x" * 8_000_000, "a tag or a comment of more than"),
        (b"<" + b"x" * 8_000_000, "a tag or a comment of more than"),
    ],
    ids=["attribute", "comment", "tag"],
)
@pytest_twisted.ensureDeferred
async def test_large_bodies_cost_no_more_than_others(tmp_path: Path, body: bytes, words: str) -> None:
    """What is within the size of a request and no request is found out in a moment, with others served meanwhile."""
    door = Door(config_of(tmp_path))
    try:
        asking = door.raw(door.post(body))
        assert await is_served(door)
        _, answer = told(await asking)
    finally:
        await door.close()
    with pytest.raises(Fault, match=words):
        loads(answer)


# Too many ----------------------------------------------------------------------------------------------------


def connected(door: Door, address: str) -> socket.socket:
    """Return a connection from one of this machine's addresses."""
    return socket.create_connection(("127.0.0.1", door.port), WAIT, source_address=(address, 0))


def answer(connection: socket.socket, request: bytes = b"") -> bytes:
    """Return everything that comes before the connection ends, or is reset."""
    received = b""
    try:
        connection.sendall(request)
        while piece := connection.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return received


@pytest_twisted.ensureDeferred
async def test_one_address_leaves_the_rest_to_others(door: Door) -> None:
    """Who opens connections without end is told that they are too many; others, and the first ones, are served."""
    door.site.pace = ConnectionTimeouts()

    def run() -> tuple[list[bytes], bytes, bytes]:
        with ExitStack() as stack:
            first = [stack.enter_context(connected(door, "127.0.0.2")) for _ in range(EACH)]
            more = [stack.enter_context(connected(door, "127.0.0.2")) for _ in range(5)]
            refused = [answer(connection, door.post(LIST)) for connection in more]
            with connected(door, "127.0.0.3") as other:
                served = answer(other, door.post(LIST))
            return refused, served, answer(first[0], door.post(LIST))

    refused, served, first = await deferToThread(run)
    assert {told(each) for each in refused} == {(503, f"{CROWDED}\n".encode())}
    assert told(served)[0] == 200
    assert told(first)[0] == 200
    assert await is_served(door)


@pytest_twisted.ensureDeferred
async def test_a_thousand_connections(door: Door) -> None:
    """The thousandth does not starve the first, nor another client; once they are gone, their address is served too."""
    door.site.pace = ConnectionTimeouts(linger=0.3)

    def run() -> list[bytes]:
        with ExitStack() as stack:
            many = [stack.enter_context(connected(door, "127.0.0.2")) for _ in range(1000)]
            with connected(door, "127.0.0.1") as other:
                return [answer(other, door.post(LIST)), answer(many[0], door.post(LIST))]

    assert [told(each)[0] for each in await deferToThread(run)] == [200, 200]

    def again() -> bytes:
        with connected(door, "127.0.0.2") as connection:
            return answer(connection, door.post(LIST))

    while not (answered := await deferToThread(again)) or told(answered)[0] != 200:
        await task.deferLater(reactor, 0.05, lambda: None)


@pytest_twisted.ensureDeferred
async def test_too_many_over_tls(tmp_path: Path) -> None:
    """Over TLS one too many is told so too, and who does not even begin the handshake is dropped.

    When many are told so already, the next one is closed at once.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    config = config_of(
        tmp_path, limits=Limits(connections_per_address=2), tls=Tls(certificate_file=certificate, key_file=key)
    )
    door = Door(config)
    door.site.pace = ConnectionTimeouts(head=1.0)

    def run() -> tuple[bytes, bytes, bytes]:
        context = ssl.create_default_context(cafile=str(authority.file))
        with connected(door, "127.0.0.1") as silent, connected(door, "127.0.0.1"):
            with context.wrap_socket(connected(door, "127.0.0.1"), server_hostname="localhost") as one_too_many:
                refused = answer(one_too_many)
            with ExitStack() as stack:
                for _ in range(2 + RESERVED_CONNECTIONS + RESERVED_CONNECTIONS):
                    last = stack.enter_context(connected(door, "127.0.0.1"))
                closed = answer(last)
            return refused, closed, answer(silent)

    try:
        with capturedLogs() as log:
            refused, closed, silent = await deferToThread(run)
    finally:
        await door.close()
    assert [event for event in log if event["log_level"] >= LogLevel.warn] == []
    assert closed == b""
    assert told(refused) == (503, f"{CROWDED}\n".encode())
    assert silent == b""


@pytest_twisted.ensureDeferred
async def test_ten_thousand_bad_logins(tmp_path: Path) -> None:
    """Guesses fail and do not delay clients that have logged in before; another client's first login is checked."""
    hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    clients = {name: Client(password_hash=hasher.hash(name)) for name in ("portal", "other")}
    logins = Logins(clients, reactor, Failures(reactor.seconds, first=0.0005, longest=0.001))
    door = Door(config_of(tmp_path, clients=clients), logins=logins)

    def credentials(name: str, password: str) -> str:
        return "Basic " + b64encode(f"{name}:{password}".encode()).decode()

    def login(name: str, password: str) -> bytes:
        return door.post(LIST, "Content-Type: text/xml", f"Authorization: {credentials(name, password)}")

    def guess(guesser: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        address = f"127.0.0.{10 + guesser % 2}"
        with closing(HTTPConnection("127.0.0.1", door.port, timeout=WAIT, source_address=(address, 0))) as connection:
            for number in range(GUESSES // GUESSERS):
                headers = {"Content-Type": "text/xml", "Authorization": credentials("portal", f"{guesser} {number}")}
                connection.request("POST", "/data_mover", LIST, headers)
                answered = connection.getresponse()
                # A machine that has no time for a guess within the time of a login refuses it unchecked.
                unchecked = str(Unavailable.fault).encode() in answered.read()
                outcomes["unchecked" if unchecked else str(answered.status)] += 1
        return outcomes

    try:
        assert told(await door.raw(login("portal", "portal")))[0] == 200
        guesses = gatherResults([deferToThread(guess, guesser) for guesser in range(GUESSERS)])
        for _ in range(20):
            assert told(await door.raw(login("portal", "portal")))[0] == 200
        assert told(await door.raw(login("other", "other")))[0] == 200
        outcomes = sum(await guesses, Counter())
        assert outcomes["401"] > 0
        assert outcomes["401"] + outcomes["unchecked"] == GUESSES
        assert told(await door.raw(login("portal", "portal")))[0] == 200
        assert not logins.waiting
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_bodies_share_their_room(tmp_path: Path) -> None:
    """Large bodies from one place are kept up to a bound; beyond it they are told to come again, and small ones go."""
    door = Door(config_of(tmp_path, limits=Limits(request_size=100_000)))
    part = HEAD + b"Connection: close\r\nContent-Length: 90000\r\n\r\n" + b" " * 80_000

    def run() -> tuple[bytes, bytes]:
        with ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(connected(door, "127.0.0.2")).sendall(part)
            time.sleep(0.2)
            with connected(door, "127.0.0.2") as third:
                refused = answer(third, part + b" " * 10_000)
            with connected(door, "127.0.0.3") as other:
                return refused, answer(other, door.post(LIST))

    try:
        refused, served = await deferToThread(run)
        with pytest.raises(Fault, match="too many large requests") as caught:
            loads(told(refused)[1])
        assert caught.value.faultCode == 1012
        assert told(served)[0] == 200
        assert await is_served(door)
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_a_body_waits_for_its_login(tmp_path: Path) -> None:
    """A body that is not small is not received before its login is known to be right."""
    seen: list[str] = []
    looking: Deferred[str | None] = Deferred()

    class Slow:
        async def check(self, username: str, password: str, address: str) -> str | None:
            seen.append(username)
            return await looking

    door = Door(config_of(tmp_path, clients={"portal": Client(password_hash="x")}), logins=Slow())
    login = f"Authorization: Basic {b64encode(b'portal:x').decode()}"
    size = 32 * 2**20

    def send(connection: socket.socket) -> int:
        """Return how many bytes can be sent until half a second passes in which none can."""
        connection.settimeout(0.5)
        connection.sendall(HEAD + f"{login}\r\nContent-Length: {size}\r\n\r\n".encode() + LIST)
        sent = len(LIST)
        try:
            while sent < size:
                sent += connection.send(b" " * min(2**16, size - sent))
        except TimeoutError:
            pass
        return sent

    def rest(connection: socket.socket, sent: int) -> bytes:
        connection.settimeout(WAIT)
        connection.sendall(b" " * (size - sent))
        return connection.recv(65536)

    try:
        with door.socket() as connection:
            sent = await deferToThread(send, connection)
            assert sent < size
            assert seen == ["portal"]
            looking.callback("portal")
            assert told(await deferToThread(rest, connection, sent))[0] == 200
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_many_waiting_calls(tmp_path: Path) -> None:
    """One caller may have half of the waiting calls. One more is refused, and another caller's call waits."""
    clients = {name: Client(password_hash="x") for name in ("portal", "other")}
    limits = Limits(waiting_calls=4)
    door = Door(config_of(tmp_path, clients=clients, limits=limits), logins=PlainLogins({"portal": "p", "other": "o"}))
    try:
        jobs = [(await door.ask(lambda s: s.jobs.submit(one()), login=who))["id"] for who in ("portal:p", "other:o")]
        waiting = [door.ask(lambda s: s.jobs.wait(jobs[0], 2), login="portal:p") for _ in range(2)]
        await task.deferLater(reactor, 0.5)
        fault = await faulted(door.ask(lambda s: s.jobs.wait(jobs[0], 2), login="portal:p"))
        assert (fault.faultCode, "waiting_calls" in fault.faultString) == (1012, True)
        assert (await door.ask(lambda s: s.jobs.wait(jobs[1], 0.1), login="other:o"))["id"] == jobs[1]
        assert {each["id"] for each in await gatherResults(waiting)} == {jobs[0]}
        assert (await door.ask(lambda s: s.jobs.wait(jobs[0], 0.1), login="portal:p"))["id"] == jobs[0]
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_reads_share_the_connections(tmp_path: Path) -> None:
    """One caller's reads that take long have a quarter of the database's connections; another's find the next."""
    until: Deferred[None] = Deferred()
    reading = []

    class Slow(MemoryJobStore):
        async def jobs(self, owner: str | None = None, **filters: Any) -> Any:
            reading.append(owner)
            if filters["destination"]:
                await until
            return []

    clients = {name: Client(password_hash="x") for name in ("portal", "other")}
    logins = PlainLogins({"portal": "p", "other": "o"})
    door = Door(config_of(tmp_path, clients=clients), logins=logins, store=Slow(reactor))
    try:
        costly = dumps(({"destination": "archive"},), "jobs.list").encode()
        login = f"Authorization: Basic {b64encode(b'portal:p').decode()}"
        asking = [door.raw(door.post(costly, "Content-Type: text/xml", login)) for _ in range(8)]
        while len(reading) < 2:
            await task.deferLater(reactor, 0.01)
        assert await door.ask(lambda s: s.jobs.list(), login="other:o") == []
        assert reading == ["portal", "portal", "other"]
        until.callback(None)
        assert {told(each)[0] for each in await gatherResults(asking)} == {200}
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_who_goes_away_behind_a_call_that_waits(door: Door) -> None:
    """A client that sent more than is received, and closed, holds neither its connection nor the call that waits."""
    job = (await door.ask(lambda s: s.jobs.submit(one())))["id"]

    body = dumps((job, 60), "jobs.wait").encode()
    calls = (HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body) * 300

    def come_and_go() -> None:
        with door.socket() as client:
            client.sendall(calls)
            time.sleep(0.5)

    await deferToThread(come_and_go)
    assert connections(door) == 1
    deadline = time.monotonic() + WAIT
    while connections(door):
        assert time.monotonic() < deadline
        await task.deferLater(reactor, 0.1)


# Those who want more than their share, and another client -----------------------------------------------------

TABLES = """
[limits]
connections = 3000
connections_per_address = 1500
waiting_calls = 2500
[clients.portal]
password_hash = "{portal}"
[clients.greedy]
password_hash = "{greedy}"
[database]
url = "{database}"
[destinations.archive]
url = "file://{directory}/archive"
[sources]
allow = ["http://127.0.0.1:*/"]
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with two clients, of whom one is greedy."""
    directory = tmp_path_factory.mktemp("service")
    (directory / "archive").mkdir()
    (directory / "archive" / "a.bin").write_bytes(b"x" * 100_000)
    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash
    database = postgres.shared().fresh()
    tables = TABLES.format(directory=directory, database=database, portal=cheap("portal"), greedy=cheap("greedy"))
    service = Service(directory, tables)
    service.start_behind_a_login()
    yield service
    service.stop()


@pytest.mark.parametrize(
    ("kind", "connections", "login"),
    [
        ("health", 100, ""),
        ("bodies", 10, "greedy:wrong"),
        ("bodies", 10, "greedy:greedy"),
        ("bodies-slowly", 10, "greedy:wrong"),
        ("bodies-slowly", 10, "greedy:greedy"),
        ("waits", 1000, "greedy:greedy"),
        ("chunks", 100, ""),
        ("chunks", 10, "greedy:greedy"),
        ("guesses", 20, "greedy"),
        ("guesses", 20, "nobody"),
    ],
)
def test_a_crowd_keeps_nobody_waiting(service: Service, kind: str, connections: int, login: str) -> None:
    """Whatever some want without end, another's calls are answered soon, its file moves, and memory has its bound."""
    request = {
        "source": "http://127.0.0.1:1/x",
        "destination": "archive",
        "path": "x",
        "overwrite": "always",
        "max_attempts": 100,
    }
    with closing(Polite(service)) as polite:
        unfinished = greedily(service, "jobs.submit", request)["id"]
        first = polite.call("system.listMethods")
        with crowd(kind, service.port, connections, login=login, job=unfinished):
            assert polite.call("system.listMethods") == first
            assert polite.move(f"{kind}-{connections}-{login.replace(':', '-')}.bin") == "COMPLETED"
            assert any(polite.slowest("jobs.list", {"limit": 1}) < SOON for _ in range(ROUNDS))
            assert memory(service.pid) < MEMORY
        greedily(service, "jobs.cancel", unfinished)


def test_answers_that_nobody_reads(service: Service) -> None:
    """The largest answers to one client have a bound together, whether they are made or wait until they are read."""
    long = {"source": f"http://127.0.0.1:1/{'x' * 8000}", "destination": "archive"}
    files = [{**long, "path": f"{'y' * 200}/{'y' * 200}/{number}"} for number in range(1000)]
    job = greedily(service, "jobs.submit", {"files": files})["id"]
    greedily(service, "jobs.cancel", job)
    one = {"methodName": "jobs.files", "params": [job, {"limit": 1000}]}
    body = dumps(([one] * 4,), "system.multicall").encode()
    login = f"Authorization: Basic {b64encode(b'greedy:greedy').decode()}\r\n"
    with ExitStack() as stack:
        waiting = [stack.enter_context(socket.socket()) for _ in range(12)]
        for connection in waiting:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(WAIT)
            connection.connect(("127.0.0.1", service.port))
            connection.sendall(HEAD + f"{login}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert all(connection.recv(1) for connection in waiting)
        assert memory(service.pid) < MEMORY
        with closing(Polite(service)) as polite:
            assert polite.move("unread.bin") == "COMPLETED"
    while len(greedily(service, "system.multicall", [one])[0]) != 1:
        pass


def test_files_that_hardly_move_keep_nobody_waiting(service: Service, tmp_path: Path) -> None:
    """One who moves file after file at a byte now and then does not have all of a destination, whoever comes later."""
    (tmp_path / "f").write_bytes(b"f" * 2**20)
    with Nginx(tmp_path, config="limit_rate 1k;") as web:
        files = [
            {"source": f"{web.url}/f", "destination": "archive", "path": f"hardly/{number}"} for number in range(20)
        ]
        job = greedily(service, "jobs.submit", {"files": files})["id"]

        def moving() -> int:
            return [file["status"] for file in greedily(service, "jobs.files", job)].count("IN_PROGRESS")

        wait_until(lambda: moving() == 6, "three quarters of the slots")
        with closing(Polite(service)) as polite:
            assert polite.move("beside-hardly.bin") == "COMPLETED"
        assert moving() == 6
        greedily(service, "jobs.cancel", job)


# Host names of others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.org",
        "localhost.evil.example.org",
        "localhost evil.example.org",
        "localhost,evil.example.org",
        "localhost#@evil.example.org",
        "localhost:80:80",
        "localhost:",
        "localhost\\evil.example.org",
        "//localhost",
        "http://localhost",
        "127.0.0.1.",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::ffff:127.0.0.1]",
        "[::1",
        "::1",
        "①27.0.0.1",
        "localhost:８０",
        "localhost%00",
        "",
    ],
)
@pytest_twisted.ensureDeferred
async def test_host_headers(door: Door, host: str) -> None:
    """Only the service's own names are served, in any equivalent spelling; any other gets 421."""
    same = {"localhost:", "127.0.0.1."}
    head = f"POST /RPC2 HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/xml\r\nConnection: close\r\n"
    body = f"Content-Length: {len(LIST)}\r\n\r\n".encode() + LIST
    assert told(await door.raw(head.encode() + body))[0] == (200 if host in same else 421)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /RPC2 HTTP/1.1\r\n", 421),
        (b"POST /RPC2 HTTP/1.0\r\n", 421),
        (b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.org\r\n", 421),
        (b"POST http://evil.example.org/RPC2 HTTP/1.1\r\nHost: evil.example.org\r\n", 421),
        (b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Host: evil.example.org\r\n", 200),
        (b"POST /RPC2 HTTP/1.1\r\nHost : localhost\r\n", 400),
        (b"POST /RPC2 HTTP/1.1\r\nHost: localhost\xff\x90\r\n", 421),
        (b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nOrigin: \xff\r\n", 403),
        (b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: \xff\r\n", 415),
    ],
)
@pytest_twisted.ensureDeferred
async def test_where_the_name_stands(door: Door, head: bytes, status: int) -> None:
    """The name of the service is read from one Host header, and from nothing else."""
    rest = b"Content-Type: text/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(LIST) + LIST
    assert told(await door.raw(head + rest))[0] == status
