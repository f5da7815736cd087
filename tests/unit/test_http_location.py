"""What the bytes of a Location header refer to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamover.errors import InvalidRequest, UnsupportedScheme
from datamover.protocols.http.answers import Head
from datamover.protocols.http.location import location_of, reference_of
from datamover.web.url import WebUrl

BASE = WebUrl.parse("http://example.org:81/a//b/c?x=1")


@pytest.mark.parametrize(
    ("location", "joined"),
    [
        (b"/caf\xe9.csv", "http://example.org:81/caf%E9.csv"),
        (b"/caf\xc3\xa9.csv", "http://example.org:81/caf%C3%A9.csv"),
        (b"/caf%e9.csv", "http://example.org:81/caf%e9.csv"),
        (b"/\x93\xfa\x96{.csv?q=\xff\xfe", "http://example.org:81/%93%FA%96%7B.csv?q=%FF%FE"),
        (b"/my file (1) [a].csv", "http://example.org:81/my%20file%20(1)%20%5Ba%5D.csv"),
        (b"/a?f[]=1 2&g=\xe9", "http://example.org:81/a?f%5B%5D=1%202&g=%E9"),
        (b'/a"<>^`{|}b', "http://example.org:81/a%22%3C%3E%5E%60%7B%7C%7Db"),
        (b"/100%/a%zz", "http://example.org:81/100%25/a%25zz"),
        (b"  /a\t", "http://example.org:81/a"),
        (b"/a\tb", "http://example.org:81/a%09b"),
        (b"/a#part", "http://example.org:81/a"),
        (b"/a?b#c?d", "http://example.org:81/a?b"),
        (b"#part", "http://example.org:81/a//b/c?x=1"),
        (b"d", "http://example.org:81/a//b/d"),
        (b"d\xe9", "http://example.org:81/a//b/d%E9"),
        (b"./d", "http://example.org:81/a//b/d"),
        (b"../../d", "http://example.org:81/a/d"),
        (b"../../../../../d", "http://example.org:81/d"),
        (b"?y=2", "http://example.org:81/a//b/c?y=2"),
        (b"/d//e/../f", "http://example.org:81/d//f"),
        (b"/a 12:30.csv", "http://example.org:81/a%2012:30.csv"),
        (b"//other.org/d", "http://other.org/d"),
        (b"//other.org", "http://other.org/"),
        (b"https://other.org?q", "https://other.org/?q"),
        (b"HTTPS://Other.ORG:443/d", "https://other.org/d"),
        (b"http:d", "http://example.org:81/a//b/d"),
        (b"http:/d", "http://example.org:81/d"),
        (b"http:///other.org/d", "http://other.org/d"),
        (b"////other.org/d", "http://other.org/d"),
        (b"http://b\xc3\xbccher.example/caf\xe9", "http://xn--bcher-kva.example/caf%E9"),
        (b"\\d\\e", "http://example.org:81/d%5Ce"),
        (b"d\\e", "http://example.org:81/a//b/d%5Ce"),
        (b"http:\\\\other.org\\d", "http://other.org/d"),
        (b"\\\\other.org\\d", "http://other.org/d"),
        (b"/d?a\\b", "http://example.org:81/d?a%5Cb"),
    ],
)
def test_where_a_location_leads(location: bytes, joined: str) -> None:
    """Each byte that has no place in a URL is percent-encoded by itself, and the rest is read as browsers read it."""
    assert BASE.join(reference_of(location)).text == joined


@pytest.mark.parametrize(
    ("location", "error"),
    [
        (b"ftp://example.org/f", UnsupportedScheme),
        (b"javascript:alert(1)", UnsupportedScheme),
        (b"a:b.csv", UnsupportedScheme),
        (b"http://", InvalidRequest),
        (b"http://[/d", InvalidRequest),
        (b"http://other.org:99999/d", InvalidRequest),
        (b"http://user:s3cr3t@other.org/d", InvalidRequest),
        (b"http://other.org\\@example.org/", None),
    ],
)
def test_locations_that_lead_nowhere(location: bytes, error: type[Exception] | None) -> None:
    """What is no http URL is refused; of two readings of a host the one that is connected to is judged."""
    if error is None:
        assert BASE.join(reference_of(location)).host == "other.org"
        return
    with pytest.raises(error) as raised:
        BASE.join(reference_of(location))
    assert "s3cr3t" not in str(raised.value)


@given(st.binary(max_size=60))
def test_any_location(location: bytes) -> None:
    """Whatever a server sends becomes a URL that can be sent, or is refused."""
    try:
        url = BASE.join(reference_of(location))
    except (InvalidRequest, UnsupportedScheme):
        return
    assert all(0x21 <= ord(char) < 0x7F for char in url.text)
    assert WebUrl.parse(url.text) == url


@pytest.mark.parametrize(
    ("values", "found"),
    [([], None), ([b""], None), ([b" \t"], None), ([b"", b"/a"], b"/a"), ([b"/a", b"/b"], b"/a")],
)
def test_which_location(values: list[bytes], found: bytes | None) -> None:
    """Of several the first that says something counts; an empty one is none."""
    assert location_of(Head(302, {b"location": values}, 0, BASE, BASE)) == found
