"""Which cookies of which answers go along with which requests of a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from datamover.bounds.servers import LARGEST_COOKIE, LARGEST_COOKIE_HEADER, MOST_COOKIES, MOST_COOKIES_READ
from datamover.protocols.http.answers import Head
from datamover.protocols.http.client.request import request_of
from datamover.protocols.http.cookies import Jar
from datamover.web.url import WebUrl

DATE = b"Tue, 14 Nov 2023 22:13:20 GMT"


def jar(*cookies: bytes, url: str = "http://example.org/a/b", clock: Clock | None = None) -> Jar:
    made = Jar(clock or Clock())
    set_by(made, url, *cookies)
    return made


def set_by(made: Jar, url: str, *cookies: bytes) -> None:
    asked = WebUrl.parse(url)
    made.take(Head(302, {b"set-cookie": list(cookies), b"date": [DATE]}, 0, asked, asked))


@pytest.mark.parametrize(
    ("cookie", "sent"),
    [
        (b"a=1", "a=1"),
        (b" a = 1 ; Path=/", "a=1"),
        (b'a="x y,z"; HttpOnly; SameSite=Strict', 'a="x y,z"'),
        (b"a=b=c", "a=b=c"),
        (b"a=", "a="),
        (b"=1", "1"),
        (b"a", "a"),
        (b"", ""),
        (b"=", ""),
        (b"; Path=/", ""),
        (b"a=1; path=/a", "a=1"),
        (b"a=1; PATH=/a/", "a=1"),
        (b"a=1; Path=/a/b", "a=1"),
        (b"a=1; Path=a", "a=1"),
        (b"a=1; Path=", "a=1"),
        (b"a=1; Path=/a/b/c", ""),
        (b"a=1; Path=/x", ""),
        (b"a=1; Path=/x; Path=/a", "a=1"),
        (b"a=1; Domain=example.org", "a=1"),
        (b"a=1; Domain=.Example.ORG", "a=1"),
        (b"a=1; Domain=org", "a=1"),
        (b"a=1; Domain=", "a=1"),
        (b"a=1; Domain=other.org", ""),
        (b"a=1; Domain=sub.example.org", ""),
        (b"a=1; Domain=ample.org", ""),
        (b"a=1; Secure", ""),
        (b"__Secure-a=1", ""),
        (b"__Host-a=1; Path=/", ""),
        (b"a=1; Max-Age=60", "a=1"),
        (b"a=1; Max-Age=0", ""),
        (b"a=1; Max-Age=-1", ""),
        (b"a=1; Max-Age=soon", "a=1"),
        (b"a=1; Max-Age=999999999999999999", "a=1"),
        (b"a=1; Expires=Tue, 14 Nov 2023 22:13:21 GMT", "a=1"),
        (b"a=1; Expires=Tue, 14-Nov-2023 22:13:20 GMT", ""),
        (b"a=1; Expires=Thu, 01-Jan-70 00:00:00 GMT", ""),
        (b"a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", "a=1"),
        (b"a=1; Expires=0", "a=1"),
        (b"a=1\x002", ""),
    ],
)
def test_what_is_kept(cookie: bytes, sent: str) -> None:
    """A cookie is kept, and sent where it was set, as browsers do (RFC 6265)."""
    assert jar(cookie).header(WebUrl.parse("http://example.org/a/b?q")) == sent


@pytest.mark.parametrize(
    ("cookie", "sent"),
    [
        (b"a=1; Secure", "a=1"),
        (b"__Secure-a=1; Secure", "__Secure-a=1"),
        (b"__Secure-a=1", ""),
        (b"__Host-a=1; Secure; Path=/", "__Host-a=1"),
        (b"__Host-a=1; Secure; Path=/a", ""),
        (b"__Host-a=1; Secure; Path=/; Domain=example.org", ""),
    ],
)
def test_what_is_kept_by_tls(cookie: bytes, sent: str) -> None:
    """What is to be secure is so by TLS alone."""
    assert jar(cookie, url="https://example.org/a/b").header(WebUrl.parse("https://example.org/a/b")) == sent


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://example.org/a/b", "a=1; b=2"),
        ("http://example.org/a/", "a=1; b=2"),
        ("http://example.org/a", "b=2"),
        ("http://example.org/ab", "b=2"),
        ("http://example.org/", "b=2"),
        ("https://example.org/a/b", ""),
        ("http://example.org:81/a/b", ""),
        ("http://sub.example.org/a/b", ""),
        ("http://example.com/a/b", ""),
    ],
)
def test_where_cookies_go(url: str, sent: str) -> None:
    """A cookie goes to the scheme, host and port that set it, and below its path; the longer path goes first."""
    kept = jar(b"b=2; Path=/; Domain=example.org", b"a=1; Path=/a/")
    assert kept.header(WebUrl.parse(url)) == sent


def test_an_address() -> None:
    """An address is its own domain, and a part of it is none."""
    kept = jar(b"a=1; Domain=127.0.0.1", b"b=1; Domain=0.0.1", url="http://127.0.0.1/")
    assert kept.header(WebUrl.parse("http://127.0.0.1/")) == "a=1"


def test_a_cookie_that_changes() -> None:
    """A cookie of the same name and path is the same one: it takes another value, in its place, or is taken back."""
    kept = jar(b"a=1", b"b=2", b"a=3", b"a=4; Path=/")
    url = WebUrl.parse("http://example.org/a/b")
    assert kept.header(url) == "a=3; b=2; a=4"
    set_by(kept, "http://example.org/a/c", b"a=; Max-Age=0", b"c=; Max-Age=0")
    assert kept.header(url) == "b=2; a=4"
    set_by(kept, "http://example.org:81/a/c", b"b=; Max-Age=0")
    assert kept.header(url) == "b=2; a=4"


def test_a_cookie_that_ends() -> None:
    """A cookie is not sent after its time, which is the server's by its own Date."""
    clock = Clock()
    kept = jar(b"a=1; Max-Age=10", b"b=2; Expires=Tue, 14 Nov 2023 22:13:25 GMT", b"c=3", clock=clock)
    url = WebUrl.parse("http://example.org/a/b")
    for seconds, sent in ((0, "a=1; b=2; c=3"), (6, "a=1; c=3"), (5, "c=3")):
        clock.advance(seconds)
        assert kept.header(url) == sent


def test_how_many_are_kept() -> None:
    """Number and size have a bound: the oldest goes, what is too large is not kept, and what does not fit not sent."""
    url = WebUrl.parse("http://example.org/a/b")
    kept = jar(*(b"%d=x" % number for number in range(MOST_COOKIES + 5)), b"big=" + b"x" * LARGEST_COOKIE)
    names = [pair.partition("=")[0] for pair in kept.header(url).split("; ")]
    assert names == [str(number) for number in range(5, MOST_COOKIES + 5)]
    for number in range(5):
        set_by(kept, "http://example.org/a/b", b"%d=" % number + b"x" * (LARGEST_COOKIE - 10))
    assert len(kept.header(url)) <= LARGEST_COOKIE_HEADER
    kept = jar(b"first=x", *(b"same=%d" % number for number in range(MOST_COOKIES_READ)))
    assert kept.header(url) == f"same={MOST_COOKIES_READ - 1}"


@given(
    st.binary(max_size=60), st.sampled_from([b"", b"a=1; Path=", b"a=1; Max-Age=", b"a=1; Domain=", b"a=1; Expires="])
)
def test_any_cookie(raw: bytes, start: bytes) -> None:
    """Whatever a server sets can be sent, byte for byte, or is not kept; no request breaks of it."""
    sent = jar(start + raw).header(WebUrl.parse("http://example.org/a/b"))
    if sent:
        assert b"\r\nCookie: " in request_of(b"GET", "/", "h", {"Cookie": sent}, None)


def test_bytes_of_a_cookie() -> None:
    """A value that is no UTF-8 is sent back as it came."""
    sent = jar(b"a=caf\xe9\xc3\xa9").header(WebUrl.parse("http://example.org/a/b"))
    assert b"\r\nCookie: a=caf\xe9\xc3\xa9\r\n" in request_of(b"GET", "/", "h", {"Cookie": sent}, None)


def test_what_is_not_sent() -> None:
    """A cookie that is sent does not count as withheld, however long its name is."""
    url = WebUrl.parse("http://example.org/a/b")
    made = jar(b"n" * 50 + b"=1", "ü=2".encode())
    assert made.withheld(url) == ""
    assert f"'{'n' * 40}' of example.org" in made.withheld(WebUrl.parse("http://example.net/"))
