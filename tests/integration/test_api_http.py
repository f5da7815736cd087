"""Requests to the interface that no well-behaved client sends."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError, dumps, loads

import pytest
import pytest_twisted
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import LogEvent, globalLogPublisher
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from datamover.api.http import closed
from datamover.bounds.calls import LARGE_BODIES_AT_ONCE, SMALL_PARSED_BODY
from datamover.config.schema import Limits
from tests.servers.door import WAIT, Door, config_of, faulted, one, told

LIST = b"<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """An interface that takes 100 kB a request, and is also called datamover.example.org."""
    limits = Limits(request_size=100_000, files=1000)
    door = Door(config_of(tmp_path, limits=limits, hosts=("datamover.example.org",)))
    yield door
    await door.close()


def call(name: str, value: str = "") -> bytes:
    parameter = f"<param><value>{value}</value></param>" if value else ""
    return f"<methodCall><methodName>{name}</methodName><params>{parameter}</params></methodCall>".encode()


@pytest_twisted.ensureDeferred
async def test_both_paths_are_served_and_no_other(door: Door) -> None:
    """/data_mover is the original's path, /RPC2 the default of XML-RPC clients."""
    names = await door.ask(lambda s: s.system.listMethods())
    assert names == await door.ask(lambda s: s.system.listMethods(), path="/RPC2")
    for path in ("/other", "/other/RPC2", "/x/../data_mover"):
        with pytest.raises(ProtocolError) as caught:
            await door.ask(lambda s: s.system.listMethods(), path=path)
        assert caught.value.errcode == 404, path


@pytest_twisted.ensureDeferred
async def test_a_program_of_twisted_calls(door: Door) -> None:
    """Another HTTP client asks again and again over the connections that it keeps, several at a time."""
    pool: Any = HTTPConnectionPool(reactor)  # type: ignore[no-untyped-call]
    pool.maxPersistentPerHost = 3
    client = HTTPClient(Agent(reactor, pool=pool))  # type: ignore[no-untyped-call]

    async def ask() -> Any:
        answer = await client.post(door.url(), data=LIST, headers=Headers({"Content-Type": ["text/xml"]}))
        assert answer.code == 200
        return loads(await answer.content())[0][0]

    for _ in range(3):
        answers = await gatherResults([Deferred.fromCoroutine(ask()) for _ in range(5)])
        assert all("jobs.submit" in names for names in answers)
    await pool.closeCachedConnections()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:10700", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("datamover.example.org:80", 200),
        ("evil.example.org", 421),
        ("127.0.0.1.evil.example.org", 421),
        ("localhost:80@evil.example.org", 421),
        ("10.1.2.3", 421),
        ("[::1", 421),
    ],
)
@pytest_twisted.ensureDeferred
async def test_only_known_hosts_are_served(door: Door, host: str, status: int) -> None:
    """A name that a web page has made to resolve to this machine (DNS rebinding) is refused."""
    assert told(await door.raw(door.post(LIST, host=host)))[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (("Content-Type: text/xml; charset=utf-8",), 200),
        (("Content-Type: TEXT/XML",), 200),
        (("Content-Type: application/xml",), 415),
        (("Content-Type: text/plain",), 415),
        (("Content-Type: application/x-www-form-urlencoded",), 415),
        (("Content-Type: multipart/form-data; boundary=x",), 415),
        (("X-Nothing: x",), 415),
        (("Content-Type: text/xml", "Content-Type: text/plain"), 415),
        (("Content-Type: text/xml", "Content-Encoding: gzip"), 415),
        (("Content-Type: text/xml", "Origin: http://127.0.0.1"), 403),
        (("Content-Type: text/xml", "Origin: null"), 403),
        (("Content-Type: text/xml", "Host: localhost"), 421),
    ],
)
@pytest_twisted.ensureDeferred
async def test_no_web_page_drives_the_service(door: Door, headers: tuple[str, ...], status: int) -> None:
    """Only text/xml as it is, with one Host and no Origin, is read."""
    assert told(await door.raw(door.post(LIST, *headers)))[0] == status


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "HEAD", "DELETE"])
@pytest_twisted.ensureDeferred
async def test_only_post_is_served(door: Door, method: str) -> None:
    """Any other method is told what is expected."""
    answer = await door.raw(door.post(LIST).replace(b"POST", method.encode(), 1))
    assert told(answer)[0] == 405
    assert b"Allow: POST" in answer
    answer = await door.raw(f"{method} / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert told(answer)[0] == 405


DEEP = "<array><data><value>" * 40 + "</value></data></array>" * 40
MALFORMED = [
    b"",
    b"x",
    b"<methodCall>",
    b"<methodCall/>",
    b"<html/>",
    LIST[:-5],
    LIST.replace(b"<params/>", b"<params><param><value><int>five</int></value></param></params>"),
    LIST.replace(b"<params/>", b"<params><param><value><boolean>2</boolean></value></param></params>"),
    LIST.replace(b"<params/>", b"<params><param><value><base64>%</base64></value></param></params>"),
    LIST.replace(b"<params/>", b"</data></array>"),
    LIST.replace(b"<params/>", b"<params><param><value><struct><member></member></struct></value></param></params>"),
    LIST.replace(b"<params/>", b"<params><param><value>\xff</value></param></params>"),
    LIST + LIST,
    b"<methodResponse><params><param><value>x</value></param></params></methodResponse>",
    b'<?xml version="1.0" encoding="no-such"?>' + LIST,
    b'<!DOCTYPE x SYSTEM "http://example.org/x.dtd">' + LIST,
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>' + call("system.methodHelp", "&b;"),
    b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + call("system.methodHelp", "&a;"),
    call("system.methodHelp", DEEP),
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
@pytest_twisted.ensureDeferred
async def test_what_is_malformed_is_a_fault(door: Door, body: bytes) -> None:
    """A body that is no methodCall, or holds entities, is answered with 1001 and does no harm."""
    status, answer = told(await door.raw(door.post(body)))
    assert status == 200
    with pytest.raises(Fault) as caught:
        loads(answer)
    assert caught.value.faultCode == 1001
    assert b"root:" not in answer
    assert await door.ask(lambda s: s.system.listMethods())


@pytest.mark.parametrize("number", ["<i8>5000000000</i8>", "<int>5000000000</int>", "<double>5e9</double>"])
@pytest_twisted.ensureDeferred
async def test_long_integers_come_in(door: Door, number: str) -> None:
    """Byte counts may be sent as i8, int or a whole double."""
    members = "".join(f"<member><name>{key}</name><value>{value}</value></member>" for key, value in one().items())
    size = f"<member><name>size</name><value>{number}</value></member>"
    body = call("jobs.submit", f"<struct>{members}{size}</struct>")
    (answer,), _ = loads(told(await door.raw(door.post(body)))[1])
    assert answer == {"id": 1, "status": "PENDING", "created": True}
    assert door.store.jobs_asked[1].files[0].size == 5_000_000_000


@pytest_twisted.ensureDeferred
async def test_a_body_that_breaks_off_stores_nothing(door: Door) -> None:
    """Nothing is stored, even if what was received is a complete methodCall."""
    members = "".join(f"<member><name>{key}</name><value>{value}</value></member>" for key, value in one().items())
    whole = door.post(call("jobs.submit", f"<struct>{members}</struct>") + b" " * 100)
    assert await door.raw(whole[:-50], ending=True) == b""
    assert not door.store.jobs_asked
    assert told(await door.raw(whole))[0] == 200
    assert len(door.store.jobs_asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_a_body(door: Door) -> None:
    """Clients that do not know the length beforehand are served, and bounded, alike."""
    head = b"POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nConnection: close\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n"
    status, _ = told(await door.raw(head + chunk % (len(LIST), LIST) + b"0\r\n\r\n"))
    assert status == 200
    padding = b" " * 50_000
    _, answer = told(await door.raw(head + (chunk % (len(padding), padding)) * 3 + b"0\r\n\r\n"))
    with pytest.raises(Fault) as caught:
        loads(answer)
    assert caught.value.faultCode == 1013


@pytest_twisted.ensureDeferred
async def test_what_is_too_large_is_told_so(door: Door) -> None:
    """A client that sends more than is taken reads 1013, not a broken pipe, be it too many bytes or too many files."""
    requests: list[dict[str, Any]] = [one(label="x" * 150_000), {"files": [{}] * 1001}]
    for request in requests:
        with pytest.raises(Fault) as caught:
            await door.ask(lambda s, request=request: s.jobs.submit(request))  # type: ignore[misc]
        assert caught.value.faultCode == 1013
    assert not door.store.jobs_asked


@pytest_twisted.ensureDeferred
async def test_nobody_sends_without_end(door: Door) -> None:
    """What is twice over the bound is no longer drained: the connection ends."""
    endless = door.post(b"x" * 300_000)
    try:
        answer = await door.raw(endless)
    except OSError:
        answer = b""
    assert answer == b""


@pytest_twisted.ensureDeferred
async def test_large_requests_take_turns(tmp_path: Path) -> None:
    """Many at once are all answered, also after one whose client went away, and small ones pass them by."""
    door = Door(config_of(tmp_path))
    request = one(label="x" * 2 * SMALL_PARSED_BODY)
    try:
        await door.raw(door.post(b" " * 2 * SMALL_PARSED_BODY), ending=True)
        asking = [faulted(door.ask(lambda s: s.jobs.submit(request))) for _ in range(3 * LARGE_BODIES_AT_ONCE)]
        small = await door.ask(lambda s: s.jobs.submit(one()))
        codes = [(await fault).faultCode for fault in asking]
    finally:
        await door.close()
    assert small["id"] == 1
    assert codes == [1001] * 3 * LARGE_BODIES_AT_ONCE


@pytest_twisted.ensureDeferred
async def test_a_call_that_is_cancelled_within_is_answered(door: Door) -> None:
    """What the service gives up by itself, as when it stops, leaves no client without an answer."""

    async def given_up(*_: Any) -> Any:
        raise CancelledError

    store: Any = door.store
    store.job = given_up
    assert (await faulted(door.ask(lambda s: s.jobs.status(1)))).faultCode == 1012


@pytest_twisted.ensureDeferred
async def test_a_bug_of_ours_is_told_by_reference(door: Door) -> None:
    """The Fault 8002 names where the log tells more, and nothing of the exception; the next call is served."""
    events: list[LogEvent] = []
    observer: Any = events.append
    store: Any = door.store

    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("the password is s3cret")

    store.job = broken
    globalLogPublisher.addObserver(observer)
    try:
        with pytest.raises(Fault) as caught:
            await door.ask(lambda s: s.jobs.status(1))
    finally:
        globalLogPublisher.removeObserver(observer)
    assert caught.value.faultCode == 8002
    assert "s3cret" not in caught.value.faultString
    [event] = [event for event in events if "reference" in event]
    assert event["reference"] in caught.value.faultString
    assert event["log_failure"].check(ZeroDivisionError)
    assert await door.ask(lambda s: s.system.listMethods())


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("calls", [1, 3])
async def test_who_sends_nothing_more_is_answered(door: Door, calls: int) -> None:
    """A client may close its half of the connection behind its calls, as nc -N does; then it is closed at once."""
    keeping = door.post(LIST).replace(b"Connection: close\r\n", b"")
    answer = await door.raw(keeping * calls, ending=True)
    assert answer.count(b"HTTP/1.1 200") == calls
    assert told(answer)[0] == 200


@pytest_twisted.ensureDeferred
async def test_who_sends_nothing_more_is_waited_for_briefly(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that takes long ends soon after its client has closed its half: most of those have gone."""
    monkeypatch.setattr(closed, "CLOSED_CALL_SECONDS", 0.1)
    job = (await door.ask(lambda s: s.jobs.submit(one())))["id"]
    assert await door.raw(door.post(dumps((job, WAIT), "jobs.wait").encode()), ending=True) == b""


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sent", [b"", b"POST /RPC2 HTTP/1.1\r\nHo", 20])
async def test_half_a_call_is_not_waited_for(door: Door, sent: bytes | int) -> None:
    """An incomplete call ends with its connection, and is not answered."""
    assert await door.raw(sent if isinstance(sent, bytes) else door.post(LIST)[:-sent], ending=True) == b""


@pytest_twisted.ensureDeferred
async def test_a_call_that_waits_is_given_up_when_its_client_may_have_gone(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a client that sends nothing more still reads cannot be seen: its call is not waited for long."""
    monkeypatch.setattr(closed, "CLOSED_CALL_SECONDS", 0.2)
    job = (await door.ask(lambda s: s.jobs.submit(one())))["id"]
    assert await door.raw(door.post(call("jobs.wait", f"<int>{job}</int>")), ending=True) == b""
    assert not door.site._connections.all
