"""The rules of [sources]: which URLs may be named, and which addresses are connected to for them."""

from ipaddress import ip_address

import pytest

from datamover.config import schema
from datamover.errors import ConfigError, InvalidRequest, SourceNotAllowed, UnsupportedScheme
from datamover.web.policy import Prefix, SourcePolicy, embedded, is_public
from datamover.web.url import WebUrl


def policy(*allow: str, addresses: tuple[str, ...] = ()) -> SourcePolicy:
    return SourcePolicy.from_config(schema.Sources(allow=allow or None, allow_addresses=addresses))


@pytest.mark.parametrize(
    ("rule", "url", "matches"),
    [
        ("https://example.org/", "https://example.org/a", True),
        ("https://example.org", "https://example.org/a", True),
        ("https://EXAMPLE.org./", "https://example.org/a", True),
        ("https://example.org/", "http://example.org/a", False),
        ("https://example.org/", "https://example.org:8443/a", False),
        ("https://example.org:8443/", "https://example.org:8443/a", True),
        ("https://example.org:*/", "https://example.org:8443/a", True),
        ("https://example.org/", "https://www.example.org/a", False),
        ("https://example.org/", "https://example.org.evil.net/a", False),
        ("https://*.example.org/", "https://www.example.org/a", True),
        ("https://*.example.org/", "https://a.b.example.org/a", True),
        ("https://*.example.org/", "https://example.org/a", False),
        ("https://*.example.org/", "https://evilexample.org/a", False),
        ("https://bücher.example/", "https://xn--bcher-kva.example/a", True),
        ("http://10.1.2.3:*/", "http://0x0a010203:81/a", True),
        ("http://[::1]/", "http://[0:0::1]/a", True),
        ("https://example.org/open", "https://example.org/open", True),
        ("https://example.org/open", "https://example.org/open/a", True),
        ("https://example.org/open/", "https://example.org/open/a", True),
        ("https://example.org/open/", "https://example.org/open/", True),
        ("https://example.org/open", "https://example.org/opened", False),
        ("https://example.org/open", "https://example.org/Open", False),
        ("https://example.org/open", "https://example.org/", False),
        ("https://example.org/open", "https://example.org/%6fpen/a", True),
        ("https://example.org/a%20b", "https://example.org/a b/c", True),
        ("https://example.org/open", "https://example.org/open/../shut", False),
        ("https://example.org/open", "https://example.org/open/%2e%2e/shut", False),
        ("https://example.org/open", "https://example.org/open/..%2fshut", False),
        ("https://example.org/open", "https://example.org/open/%252e%252e%252fshut", False),
        ("https://example.org/open", "https://example.org/open/..%5cshut", False),
        ("https://example.org/open", "https://example.org/open/..\\shut", False),
    ],
)
def test_rules(rule: str, url: str, matches: bool) -> None:
    """A rule is scheme, host, port and a path in whole segments, however a server might read the URL."""
    assert Prefix.parse(rule).matches(WebUrl.parse(url)) is matches


@pytest.mark.parametrize(
    "rule",
    [
        *("", "example.org", "ftp://example.org/", "https:///a", "https://*/", "https://*.*.org/", "https://a.*.org/"),
        *("https://*.10.0.0.1/", "https://user@example.org/", "https://example.org/?x", "https://example.org/#x"),
        *("https://example.org:0/", "https://example.org:65536/", "https://example.org:x/", "https://exa mple.org/"),
        "https://[::1/",
    ],
)
def test_rules_that_are_none(rule: str) -> None:
    """A rule that cannot be read is told by file, key, value and what was expected."""
    with pytest.raises(ConfigError, match=r"datamover\.toml: sources\.allow\.1 = .*: expected a (rule|port)"):
        policy("https://example.org/", rule)


@pytest.mark.parametrize("network", ["10.20.0.5/16", "example.org", "10.0.0.0/33", ""])
def test_networks_that_are_none(network: str) -> None:
    """An address or a network that cannot be read is told by file, key, value and what was expected."""
    with pytest.raises(ConfigError, match=r"datamover\.toml: sources\.allow_addresses\.0 = .*: expected an address"):
        policy(addresses=(network,))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        *((address, False) for address in ("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1")),
        *((address, False) for address in ("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200")),
        *((address, False) for address in ("192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1")),
        *(
            (address, False)
            for address in ("203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16")
        ),
        *(
            (address, False)
            for address in ("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1")
        ),
        *((address, False) for address in ("2001::1", "3fff::1", "64:ff9b:1::1", "5f00::1", "100::1")),
        *((address, False) for address in ("::ffff:127.0.0.1", "::127.0.0.1", "2002:7f00:1::", "64:ff9b::10.0.0.1")),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::93.184.216.34", True),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    """Loopback, private, link-local, test, multicast and reserved addresses, however embedded, are not public."""
    assert is_public(ip_address(address)) is public


def test_embedded_addresses() -> None:
    """The IPv4 address in an IPv6 one is found; one that holds none gives none."""
    assert [str(embedded(ip_address(text))) for text in ("::ffff:1.2.3.4", "2002:102:304::", "64:ff9b::1.2.3.4")] == [
        "1.2.3.4"
    ] * 3
    assert [embedded(ip_address(text)) for text in ("::1", "2606::1", "1.2.3.4")] == [None] * 3


@pytest.mark.parametrize(
    ("allow", "addresses", "url", "refused"),
    [
        ((), (), "https://example.org/a", False),
        ((), (), "http://93.184.216.34/a", False),
        ((), (), "http://127.0.0.1/a", True),
        ((), (), "http://2130706433/a", True),
        ((), ("127.0.0.0/8",), "http://2130706433/a", False),
        ((), ("10.20.0.0/16",), "http://10.20.3.4/a", False),
        ((), ("10.20.0.0/16",), "http://[::ffff:10.20.3.4]/a", False),
        ((), ("10.20.0.0/16",), "http://10.21.3.4/a", True),
        (("https://example.org/",), (), "https://other.org/a", True),
        (("https://example.org/",), ("10.0.0.0/8",), "http://10.0.0.1/a", True),
        (("http://10.0.0.1:*/",), (), "http://10.0.0.1:81/a", False),
        (("http://10.0.0.1/open/",), (), "http://10.0.0.1/shut", True),
    ],
)
def test_which_urls_may_be_named(allow: tuple[str, ...], addresses: tuple[str, ...], url: str, refused: bool) -> None:
    """Without rules any public address may be named; an inside one only by its own rule or network."""
    rules = policy(*allow, addresses=addresses)
    if refused:
        with pytest.raises(SourceNotAllowed, match="is not an allowed source"):
            rules.check_url(url)
    else:
        rules.check_url(url)
    assert rules.allows(WebUrl.parse(url)) is not refused


def test_refusals_tell_no_secret() -> None:
    """A refusal names the URL without the values of its query, and what is no URL is refused as such."""
    with pytest.raises(SourceNotAllowed, match=r"http://10\.0\.0\.1/a\?key=\*\*\* is not") as raised:
        policy().check_url("http://10.0.0.1/a?key=s3cr3t")
    assert "s3cr3t" not in raised.value.message
    with pytest.raises(UnsupportedScheme):
        policy().check_url("sftp://example.org/a")
    with pytest.raises(InvalidRequest):
        policy().check_url("https://me:s3cr3t@example.org/a")


@pytest.mark.parametrize(
    ("allow", "start", "target", "allowed"),
    [
        ((), "https://example.org/", "https://other.org/", True),
        ((), "http://example.org/", "https://other.org/", True),
        ((), "http://example.org/", "http://other.org/", True),
        ((), "https://example.org/", "http://example.org/", False),
        ((), "https://example.org/", "https://127.0.0.1/", False),
        (("https://example.org/", "http://other.org/"), "https://example.org/", "http://other.org/", True),
        (("https://example.org/",), "https://example.org/", "http://example.org/", False),
        (("https://example.org/",), "https://example.org/", "https://other.org/", False),
    ],
)
def test_redirects(allow: tuple[str, ...], start: str, target: str, allowed: bool) -> None:
    """A redirect is judged as its target is, and one out of https needs a rule that names it."""
    assert policy(*allow).allows_hop(WebUrl.parse(start), WebUrl.parse(target)) is allowed


@pytest.mark.parametrize(
    ("allow", "addresses", "url", "address", "allowed"),
    [
        ((), (), "https://example.org/", "93.184.216.34", True),
        ((), (), "https://example.org/", "10.0.0.1", False),
        ((), ("10.0.0.0/8",), "https://example.org/", "10.0.0.1", True),
        (("https://example.org/",), (), "https://example.org/", "10.0.0.1", False),
        (("https://example.org/", "http://10.0.0.1/"), (), "https://example.org/", "10.0.0.1", False),
        (("http://10.0.0.1/",), (), "http://10.0.0.1/", "10.0.0.1", True),
    ],
)
def test_addresses(allow: tuple[str, ...], addresses: tuple[str, ...], url: str, address: str, allowed: bool) -> None:
    """A name that leads to an inside address needs that address in allow_addresses, whatever rules name."""
    assert policy(*allow, addresses=addresses).allows_address(WebUrl.parse(url), ip_address(address)) is allowed
