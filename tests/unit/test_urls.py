"""URLs are read once and the same way by everyone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.errors import InvalidRequest, UnsupportedScheme
from datamover.web.url import WebUrl, canonical_host, shown, without_dots


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("http://example.org", "http://example.org/"),
        (" HTTPS://Example.ORG.:443/a ", "https://example.org/a"),
        ("http://example.org:80/", "http://example.org/"),
        ("http://example.org:8080/", "http://example.org:8080/"),
        ("http://example.org:/", "http://example.org/"),
        ("http://example.org?x=1", "http://example.org/?x=1"),
        ("http://example.org/a#part", "http://example.org/a"),
        ("http://example.org/a b", "http://example.org/a%20b"),
        ("http://example.org/a%20b%2Fc", "http://example.org/a%20b%2Fc"),
        ("http://example.org/100%", "http://example.org/100%25"),
        ("http://example.org/é?ü=ö", "http://example.org/%C3%A9?%C3%BC=%C3%B6"),
        ("http://example.org/a\\b", "http://example.org/a%5Cb"),
        ("http://example.org//a", "http://example.org//a"),
        ("http://example.org/a/./b/../c", "http://example.org/a/c"),
        ("http://example.org/a/%2e%2E/b", "http://example.org/b"),
        ("http://example.org/../../a/..", "http://example.org/"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://ＥＸＡＭＰＬＥ.org/", "http://example.org/"),
        ("http://a_b.example.org/", "http://a_b.example.org/"),
        ("http://2130706433/", "http://127.0.0.1/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://0177.0.0.1/", "http://127.0.0.1/"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1./", "http://127.0.0.1/"),
        ("http://①②⑦.0.0.1/", "http://127.0.0.1/"),
        ("http://[0:0::1]:8080/", "http://[::1]:8080/"),
        ("http://[::FFFF:10.0.0.1]/", "http://[::ffff:a00:1]/"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    """Every spelling of a URL comes out as one, which comes out as itself."""
    assert WebUrl.parse(text).text == canonical
    assert WebUrl.parse(canonical).text == canonical


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", InvalidRequest, "not an absolute URL"),
        ("/a/b", InvalidRequest, "not an absolute URL"),
        ("example.org/a", InvalidRequest, "not an absolute URL"),
        ("ftp://example.org/a", UnsupportedScheme, "'ftp' URLs: expected http or https"),
        ("file:///etc/passwd", UnsupportedScheme, "'file'"),
        ("http:///a", InvalidRequest, "names no host"),
        ("http:a", InvalidRequest, "names no host"),
        ("http://user:s3cr3t@example.org/", InvalidRequest, "user name or password"),
        ("http://s3cr3t@example.org/", InvalidRequest, "user name or password"),
        ("http://example.org\\@evil.org/", InvalidRequest, "user name or password"),
        ("http://example.org\\evil.org/", InvalidRequest, "cannot be read"),
        ("http://exa mple.org/", InvalidRequest, "cannot be read"),
        ("http://-a.org/", InvalidRequest, "cannot be read"),
        ("http://a..org/", InvalidRequest, "cannot be read"),
        ("http://999.0.0.1/", InvalidRequest, "cannot be read"),
        ("http://[::1/", InvalidRequest, "cannot be read"),
        ("http://[fe80::1%25eth0]/", InvalidRequest, "cannot be read"),
        ("http://example.org:0/", InvalidRequest, "expected 1 to 65535"),
        ("http://example.org:65536/", InvalidRequest, "expected 1 to 65535"),
        ("http://example.org:http/", InvalidRequest, "cannot be read"),
        ("http://example.org/a\r\nX: y", InvalidRequest, "control characters"),
        ("http://example.org/\0", InvalidRequest, "control characters"),
        ("http://example.org/\udc80", InvalidRequest, "control characters"),
        ("http://exa mple.org/?key=s3cr3t", InvalidRequest, r"key=\*\*\*"),
    ],
)
def test_what_is_not_a_url(text: str, error: type[Exception], words: str) -> None:
    """What cannot be read is refused with what was expected, and its secrets are not repeated."""
    with pytest.raises(error, match=words) as raised:
        WebUrl.parse(text)
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://example.org/a?b=c&d&e=f=g", "https://example.org/a?b=***&***&e=***"),
        ("https://example.org/a#part", "https://example.org/a"),
        ("https://user:s3cr3t@example.org/a", "https://example.org/a"),
        ("sftp://user:s3cr3t@example.org:22/a", "sftp://example.org:22/a"),
        ("https://s3cr3t@x@example.org/a", "https://…"),
        ("https://s3cr3t\\@example.org/a", "https://…"),
        ("https://example.org:s3cr3t/a", "a URL that cannot be read"),
        ("https://[s3cr3t/a", "a URL that cannot be read"),
        ("https://example.org/a\nb", "https://example.org/a%0Ab"),
        ("https://example.org/\udc80", "a URL that cannot be read"),
        ("a/b?c=d", "a/b?c=***"),
        ("", ""),
    ],
)
def test_what_is_told_of_a_url(url: str, told: str) -> None:
    """What is shown of a URL has no login and no value of its query, whatever was given."""
    assert shown(url) == told


@given(st.text("ab/.?&=#@:%[]é\\ ", max_size=12))
def test_a_url_tells_of_itself_what_is_told_of_its_text(rest: str) -> None:
    """What was read of a URL need not be read again to be shown."""
    try:
        url = WebUrl.parse(f"https://example.org{rest}")
    except InvalidRequest:
        return
    assert url.shown == shown(url.text)
    assert WebUrl.parse(url.text) == url


def test_a_query_is_not_in_the_repr() -> None:
    """The repr of a URL, as tracebacks and logs show it, has no query."""
    assert "s3cr3t" not in repr(WebUrl.parse("https://example.org/?signature=s3cr3t"))


@pytest.mark.parametrize(
    ("reference", "joined"),
    [
        ("c", "https://example.org/a/c"),
        ("../c?x=1", "https://example.org/c?x=1"),
        ("/c", "https://example.org/c"),
        ("//other.org/c", "https://other.org/c"),
        ("http://other.org", "http://other.org/"),
        ("?x=2", "https://example.org/a/b?x=2"),
        ("", "https://example.org/a/b?x=1"),
        (" /c d ", "https://example.org/c%20d"),
    ],
)
def test_references(reference: str, joined: str) -> None:
    """A redirect's target is read from where it was found."""
    assert WebUrl.parse("https://example.org/a/b?x=1").join(reference).text == joined


@pytest.mark.parametrize("reference", ["http://[/", "http://user:s3cr3t@other.org/", "http://exa mple.org/"])
def test_references_that_are_none(reference: str) -> None:
    """A reference that is no URL is refused without its secrets."""
    with pytest.raises(InvalidRequest) as raised:
        WebUrl.parse("https://example.org/").join(reference)
    assert "s3cr3t" not in raised.value.message


@pytest.mark.parametrize("host", ["", ".", "a" * 64 + ".org", ".".join(["a" * 60] * 5), "1.2.3.4.5", "0x", "[::g]"])
def test_hosts_that_are_none(host: str) -> None:
    """What is neither a name nor an address is refused."""
    with pytest.raises(ValueError, match=r".*"):
        canonical_host(host)


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/", "/"),
        ("/.", "/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/../..//c", "//c"),
        ("/...", "/..."),
        ("/..a", "/..a"),
    ],
)
def test_dot_segments(path: str, plain: str) -> None:
    """Dot segments are taken out as RFC 3986 says, and nothing else is."""
    assert without_dots(path) == plain
