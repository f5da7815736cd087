"""Small requests whose answers are read whole, and the services that the configuration trusts."""

import gzip
import json
from ipaddress import ip_address
from typing import Any

import pytest
import pytest_twisted
from twisted.web.http_headers import Headers

from datamover.bounds.servers import LARGEST_ANSWER
from datamover.config import schema
from datamover.errors import (
    DataMoverError,
    DatasetInvalid,
    ServerError,
    SourceForbidden,
    SourceNotAllowedHere,
    TimedOut,
)
from datamover.protocols.http import HttpClient, steady
from datamover.protocols.http.answers import Head, retry_after
from datamover.protocols.http.client import response
from datamover.protocols.http.content import whole
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl
from tests.protocols.reading import reading, rest_of, serving, soon
from tests.servers.web import Exchange, File, redirect, status, trickle


def echo(exchange: Exchange) -> None:
    request = exchange.request
    told = {"method": request.method, "body": request.body.decode(), "type": request.headers.get("content-type")}
    exchange.answer(200, [("X-Told", "yes")], json.dumps(told).encode())


async def got(client: HttpClient, url: str, limit: int = LARGEST_ANSWER, **options: Any) -> bytes:
    """Return the body of the answer to a GET."""
    return (await whole(await client.treq().get(url, **options), limit))[1]


@pytest_twisted.ensureDeferred
async def test_a_call_brings_the_whole_answer() -> None:
    """Method, headers and body are sent; status, headers, body and URL are returned."""
    async with serving() as web, reading() as client:
        web.route("/echo", echo)
        body = "ü" * 100_000
        for _ in range(2):
            head, told = await whole(
                await client.treq().post(
                    f"{web.url}/echo", headers=Headers({"Content-Type": ["text/x"]}), data=body.encode()
                )
            )
            assert json.loads(told) == {"method": "POST", "body": body, "type": "text/x"}
        assert (head.status, head.header("x-TOLD"), head.header("x-none")) == (200, "yes", None)
        assert head.url.text == f"{web.url}/echo"


@pytest_twisted.ensureDeferred
async def test_an_answer_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that trickles for longer than ``ANSWER_SECONDS`` fails, and its connection is closed."""
    monkeypatch.setattr(response, "ANSWER_SECONDS", 0.3)
    async with serving() as web, reading(idle_timeout=10) as client:
        web.route("/slow", trickle(b"x" * 10_000, seconds=0.02, piece=1))
        with pytest.raises(TimedOut, match="/slow did not come to the end of its answer in time, after"):
            await got(client, f"{web.url}/slow")
        assert await soon(lambda: web.open_connections == 0)
        # A file may be as slow.
        web.route("/slow", trickle(b"x" * 40, seconds=0.02, piece=1))
        assert await rest_of(await client.origin(f"{web.url}/slow").open()) == b"x" * 40


@pytest_twisted.ensureDeferred
async def test_a_status_is_an_answer() -> None:
    """Any status is returned with its body and with Retry-After."""
    async with serving() as web, reading() as client:
        web.route("/busy", status(429, [("Retry-After", "7")], b"slow down"))
        head, body = await whole(await client.treq().get(f"{web.url}/busy"))
        assert (head.status, body, retry_after(head)) == (429, b"slow down", 7.0)


@pytest_twisted.ensureDeferred
async def test_redirects_of_a_get_alone_are_followed() -> None:
    """A GET follows a redirect; the redirect of a POST is returned."""
    async with serving() as web, reading() as client:
        web.route("/old", redirect("/new"))
        web.route("/new", File(b"here"))
        head, body = await whole(await client.treq().get(f"{web.url}/old"))
        assert (body, head.url.path) == (b"here", "/new")
        assert (await client.treq().post(f"{web.url}/old", data=b"x")).code == 302


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("chunked", [False, True])
async def test_an_answer_beyond_the_limit(chunked: bool) -> None:
    """An answer beyond the limit is an error, whether it announces its length or not."""
    async with serving() as web, reading() as client:
        web.route("/long", File(b"x" * 1001, chunked=chunked))
        web.route("/fits", File(b"x" * 1000, chunked=chunked))
        assert len(await got(client, f"{web.url}/fits", limit=1000)) == 1000
        with pytest.raises(DatasetInvalid, match="more than 1000 bytes"):
            await got(client, f"{web.url}/long", limit=1000)


@pytest_twisted.ensureDeferred
async def test_a_coded_answer() -> None:
    """An answer that is compressed unasked is decompressed up to the limit, or refused."""
    async with serving() as web, reading() as client:
        web.route("/a", File(b"x" * 1000, gzip=True))
        web.route("/b", status(200, [("Content-Encoding", "br")], b"x"))
        assert await got(client, f"{web.url}/a", limit=1000) == b"x" * 1000
        with pytest.raises(DatasetInvalid, match="more than 999 bytes"):
            await got(client, f"{web.url}/a", limit=999)
        with pytest.raises(ServerError, match="br-compressed"):
            await got(client, f"{web.url}/b")


@pytest_twisted.ensureDeferred
async def test_a_login_stays_with_its_origin() -> None:
    """An Authorization header is sent on a redirect within the origin, never to another."""
    async with serving() as web, serving() as other, reading() as client:
        web.route("/near", redirect("/file"))
        web.route("/far", redirect(f"{other.url}/file"))
        web.route("/file", File(b"near"))
        other.route("/file", File(b"far"))
        headers = {"Authorization": "Bearer s3cret"}
        assert await got(client, f"{web.url}/near", headers=headers) == b"near"
        assert await got(client, f"{web.url}/far", headers=headers) == b"far"
        source = await client.origin(f"{web.url}/far", headers=headers).open()
        assert await rest_of(source) == b"far"
        assert [request.headers.get("authorization") for request in web.requests] == ["Bearer s3cret"] * 4
        assert [request.headers.get("authorization") for request in other.requests] == [None, None]


@pytest_twisted.ensureDeferred
async def test_a_login_stays_with_its_origin_at_the_end_of_a_file() -> None:
    """The HEAD after a redirected file goes to the redirect's target, without the login of the URL."""
    async with serving() as web, serving() as other, reading() as client:
        web.route("/far", redirect(f"{other.url}/file"))
        other.route("/file", File(bytes(steady.LARGE), etag='"1"'))
        headers = {"Authorization": "Bearer s3cret", "cookie": "s3cret", "X-Told": "yes"}
        await rest_of(await client.origin(f"{web.url}/far", headers=headers).open())
        assert [request.method for request in other.requests] == ["GET", "HEAD"]
        for request in other.requests:
            assert "s3cret" not in str(request.headers)
            assert request.headers["x-told"] == "yes"


@pytest_twisted.ensureDeferred
async def test_the_words_of_a_refusal() -> None:
    """The caller of ``origin`` may make the error for a refusal from its head and body."""

    def refused(head: Head, body: bytes) -> DataMoverError:
        return DatasetInvalid(f"{head.status}: {body.decode()}")

    async with serving() as web, reading() as client:
        web.route("/no", status(403, body=b"not you"))
        web.route("/zipped", status(403, [("Content-Encoding", "gzip")], gzip.compress(b"not you")))
        with pytest.raises(DatasetInvalid, match="403: not you"):
            await client.origin(f"{web.url}/no", refused=refused).open()
        with pytest.raises(DatasetInvalid, match="403: not you"):
            await client.origin(f"{web.url}/zipped", refused=refused).open()
        with pytest.raises(SourceForbidden):
            await client.origin(f"{web.url}/no").open()


@pytest_twisted.ensureDeferred
async def test_the_rules_hold_for_calls() -> None:
    """A request goes only where [sources] allows, also by redirects."""
    async with serving() as web, serving() as other:
        web.route("/far", redirect(f"{other.url}/file"))
        other.route("/file", File(b"far"))
        async with reading(allow=(f"{web.url}/",)) as client:
            for url in (f"{other.url}/file", f"{web.url}/far"):
                with pytest.raises(SourceNotAllowedHere):
                    await client.treq().get(url)
        assert other.requests == []


def test_trusted_origins() -> None:
    """A trusted URL allows its scheme, host and port at any address; the other rules stay the same."""
    before = SourcePolicy.from_config(schema.Sources(allow=("https://data.example.org/",)))
    policy = before.trusting(["http://ala.local:8080/ws", "https://10.1.2.3"])
    inside = ip_address("10.1.2.3")
    for text in ("http://ala.local:8080/else", "https://10.1.2.3/x"):
        url = WebUrl.parse(text)
        assert policy.allows(url)
        assert policy.allows_address(url, inside)
        assert not before.allows(url)
    for text in ("https://ala.local:8080/ws", "http://ala.local/ws", "http://ala.local:8081/ws", "http://10.1.2.3/x"):
        assert not policy.allows(WebUrl.parse(text))
        assert not policy.allows_address(WebUrl.parse(text), inside)
    assert policy.allows(WebUrl.parse("https://data.example.org/file"))


def test_an_unruled_policy_trusts_no_more_than_it_is_told() -> None:
    """Without rules all public hosts stay allowed, and of the private ones only those that are trusted."""
    policy = SourcePolicy.from_config(schema.Sources()).trusting(["http://127.0.0.1:8080/ws"])
    assert policy.allows(WebUrl.parse("http://127.0.0.1:8080/"))
    assert not policy.allows(WebUrl.parse("http://127.0.0.1:8081/"))
    https = WebUrl.parse("https://public.example.org/")
    assert policy.allows_hop(https, WebUrl.parse("http://127.0.0.1:8080/"))
    assert not policy.allows_hop(https, WebUrl.parse("http://other.example.org/"))
