"""Spellings that are to lead a fetch inside, a row each: every one is refused, and none is connected to."""

from ipaddress import ip_address

import pytest

from datamover.config import schema
from datamover.errors import DataMoverError, InvalidRequest, SourceNotAllowed, UnsupportedScheme
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl

LOOPBACK = [
    *("127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "0", "0.0.0.0", "2130706433", "017700000001"),
    *(
        "0177.0.0.1",
        "0177.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "0x7f.0x0.0x0.0x1",
        "127.0.0.1.",
        "127.000.000.001",
    ),
    *(
        "00000000000000000000000000000177.0.0.1",
        "①②⑦.⓪.⓪.①",
        "１２７.０.０.１",
        "127。0。0。1",
        "127．0．0．1",
        "127｡0｡0｡1",
    ),
    *("[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]"),
    *("[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:0001::1]", "[2001:0:7f00:1::]", "[fe80::5efe:127.0.0.1]"),
]
INSIDE = [
    *("10.0.0.1", "167772161", "0xa.1", "012.0.0.1", "172.16.0.1", "192.168.1.1", "0xc0a80101", "100.64.0.1"),
    *(
        "[::ffff:10.0.0.1]",
        "[2002:a00:1::]",
        "[64:ff9b::10.0.0.1]",
        "[fc00::1]",
        "[fd12:3456::1]",
        "[fe80::1]",
        "[fec0::1]",
    ),
]
METADATA = [
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "0251.0376.0251.0376", "169.254.43518"),
    *("169.16689662", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[64:ff9b::a9fe:a9fe]"),
    *("169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "[fd00:ec2::254]", "[fd20:ce::254]"),
]
NO_HOST = [
    *("[::1%25lo]", "[fe80::1%eth0]", "[::1", "::1", "256.0.0.1", "1.2.3.4.5", "0x", "127.0.0.1:0", "127.0.0.1:99999"),
    *(
        "127.0.0.1:８０",
        "[v1.x]",
        "a..b",
        ".",
        "%31%32%37.0.0.1",
        "127.0.0.1%00.example.org",
        "example.org\\@127.0.0.1",
    ),
    *("example.org@127.0.0.1", "127.0.0.1@example.org", "example.org:80@127.0.0.1", ":@127.0.0.1", "@127.0.0.1"),
    *("exa mple.org", "example.org\t", "\r\nHost: x", "127.0.0.1\n"),
]


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
@pytest.mark.parametrize("host", LOOPBACK + INSIDE + METADATA)
def test_inside_addresses(host: str, scheme: str) -> None:
    """However an inside address is spelt, it is one, with rules and without, and a redirect to it is not followed."""
    text = f"{scheme}://{host}/latest/meta-data"
    start = WebUrl.parse("https://example.org/")
    for allow in (None, ("https://*.example.org/", "https://example.org/", "http://127.0.0.53:*/")):
        policy = SourcePolicy.from_config(schema.Sources(allow=allow))
        with pytest.raises(SourceNotAllowed):
            policy.check_url(text)
        assert not policy.allows_hop(start, WebUrl.parse(text))
        address = WebUrl.parse(text).address
        assert address is not None
        # A name of a stranger's may lead there too.
        assert not policy.allows_address(start, address)


@pytest.mark.parametrize("host", NO_HOST)
def test_hosts_that_are_none(host: str) -> None:
    """What programs read in different ways is not read at all."""
    with pytest.raises(InvalidRequest):
        WebUrl.parse(f"http://{host}/a")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_x",
            "dict://127.0.0.1/",
            "ftp://127.0.0.1/",
            "jar:http://x/!/",
        ),
        *("unix:/run/x", "data:,x", "//127.0.0.1/", "/etc/passwd", "127.0.0.1", "http:127.0.0.1", "http:/127.0.0.1/"),
        *(
            "http:///127.0.0.1/",
            "http:\\\\127.0.0.1\\",
            "ht\ntp://example.org/",
            "view-source:http://x/",
            "",
            "http://",
        ),
    ],
)
def test_urls_that_are_none(url: str) -> None:
    """Only http and https, with a host, are fetched."""
    with pytest.raises((InvalidRequest, UnsupportedScheme)) as refusal:
        SourcePolicy.from_config(schema.Sources()).check_url(url)
    assert isinstance(refusal.value, DataMoverError)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.org#@127.0.0.1/", "example.org"),
        ("http://example.org?@127.0.0.1/", "example.org"),
        ("http://example.org/@127.0.0.1/", "example.org"),
        ("http://example.org/\\@127.0.0.1/", "example.org"),
        ("http://127.0.0.1.example.org/", "127.0.0.1.example.org"),
        ("http://127.0.0.1.example.com/", "127.0.0.1.example.com"),
        ("http://EXAMPLE.org./", "example.org"),
        ("http://ⓔxample.org/", "example.org"),
        ("http://localhost./", "localhost"),
    ],
)
def test_the_host_that_is_meant(url: str, host: str) -> None:
    """What is checked is the host that is connected to, and nothing else in the URL; names are looked up first."""
    assert WebUrl.parse(url).host == host


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::93.184.216.34"])
def test_outside_addresses(address: str) -> None:
    """What is public may be reached, in another spelling too."""
    policy = SourcePolicy.from_config(schema.Sources())
    assert policy.allows_address(WebUrl.parse("https://example.org/"), ip_address(address))
