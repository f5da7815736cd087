"""Which URLs a client may name, and which addresses datamover connects to for them: the ``[sources]`` rules.

Pure: nothing is resolved or fetched here. A URL is checked when a client names it (``check_url``), each redirect when
it is followed (``allows_hop``), and each address before it is connected to (``allows_address``). So neither a redirect
nor a name that resolves to an internal address bypasses the rules.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

from datamover.config import schema
from datamover.errors import ConfigError, Problems, SourceNotAllowed
from datamover.web.url import DEFAULT_PORTS, WebUrl, canonical_host, shown, without_dots

__all__ = ["Prefix", "SourcePolicy", "is_public", "shown"]

Address = IPv4Address | IPv6Address

_PREFIX = re.compile(r"(https?)://(\*\.)?(\[[0-9A-Fa-f:.]+\]|[^/:?#@\[\]*\\]+)(?::(\*|[0-9]{1,5}))?(/[^?#]*)?")
_EXPECTED = (
    'expected a rule such as "https://*.example.org/", "http://data.example.org:8080/open/" or "http://10.1.2.3:*/"'
)

# What ipaddress of this Python calls global though it is not for us to reach: all of 192.0.0.0/24 (Oracle's metadata
# is in it), the 6to4 relays, the address of Azure's metadata.
_NOT_PUBLIC_4 = tuple(IPv4Network(text) for text in ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32"))
_UNICAST_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_TRANSLATED = IPv6Network("64:ff9b::/96")
_COMPATIBLE = IPv6Network("::/96")
_MOST_DECODINGS = 5
_ADDRESSES = 1024
"""Addresses whose kind is cached."""
_PATHS = 64
"""Paths whose readings are cached: one is compared with many rules."""


def embedded(address: Address) -> IPv4Address | None:
    """Return the IPv4 address embedded in an IPv6 one (mapped, compatible, 6to4 or NAT64, RFC 6052), else None."""
    if not isinstance(address, IPv6Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address in _TRANSLATED or (address in _COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


@lru_cache(_ADDRESSES)
def is_public(address: Address) -> bool:
    """Tell whether an address is reachable on the internet: neither private nor of special use."""
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    if isinstance(address, IPv6Address):
        return address in _UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC_4)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A scheme, a host, a port and the beginning of a path, in whole segments."""

    scheme: str
    host: str
    subdomains: bool
    """It matches subdomains of the host, not the host itself."""
    port: int | None
    """None: any."""
    path: str
    """Decoded."""

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """Read ``scheme://host[:port][/path]``; raises ValueError with what was expected."""
        match = _PREFIX.fullmatch(text)
        if match is None:
            raise ValueError(_EXPECTED)
        scheme, wildcard, host, port, path = match.groups()
        try:
            host = canonical_host(host)
        except ValueError:
            raise ValueError(_EXPECTED) from None
        if wildcard and _literal(host):
            raise ValueError(_EXPECTED)
        if port is None:
            number: int | None = DEFAULT_PORTS[scheme]
        elif port == "*":
            number = None
        elif 0 < int(port) < 65536:
            number = int(port)
        else:
            raise ValueError("expected a port from 1 to 65535, or * for any")
        return cls(scheme, host, bool(wildcard), number, without_dots(unquote(path or "/")))

    def matches(self, url: WebUrl) -> bool:
        """Tell whether ``url`` is under this prefix, however a server decodes its path."""
        if url.scheme != self.scheme or (self.port is not None and url.port != self.port):
            return False
        if not (url.host.endswith(f".{self.host}") if self.subdomains else url.host == self.host):
            return False
        if self.path == "/":
            return True
        start = self.path if self.path.endswith("/") else f"{self.path}/"
        return all(path == self.path or path.startswith(start) for path in _readings(url.path))

    def names(self, address: Address) -> bool:
        """Tell whether the host is this address literally."""
        return not self.subdomains and _literal(self.host) == address


def prefixes(rules: Iterable[str], here: str) -> tuple[Prefix, ...]:
    """Parse a client's own ``sources``. Raises ConfigError, whose messages begin with ``here``."""
    found, problems = [], Problems()
    for rule in rules:
        with problems.collect():
            found.append(_prefix(rule, here))
    problems.check()
    return tuple(found)


def _prefix(rule: str, here: str) -> Prefix:
    try:
        return Prefix.parse(rule)
    except ValueError as error:
        raise ConfigError(f"{here} = {rule!r}: {error}, or a dataset's scheme such as 'ala://'") from None


@lru_cache(_ADDRESSES)
def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


@lru_cache(_PATHS)
def _readings(path: str) -> tuple[str, ...]:
    """Return the paths that a server, or one behind it, may make of an encoded one."""
    if "%" not in path and "\\" not in path:
        return (without_dots(path),)
    found: list[str] = []
    for _ in range(_MOST_DECODINGS):
        decoded = unquote(path)
        found += without_dots(decoded), without_dots(decoded.replace("\\", "/"))
        if decoded == path:
            break
        path = decoded
    return tuple(found)


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """What ``[sources]`` says: rules for URLs, and networks that may be reached though they are not public.

    A rule's ``*.`` stands for one or more labels. A host that is an inside address needs a rule that names that very
    address, or a place in ``allow_addresses``; a host name that leads to one needs the latter.
    """

    rules: tuple[Prefix, ...] | None = None
    """None: any host."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    trusted: frozenset[tuple[str, str, int]] = frozenset()
    """Origins (scheme, host, port) of configured services: any address of theirs is allowed."""

    @classmethod
    def from_config(cls, sources: schema.Sources, *, file: str = "datamover.toml") -> "SourcePolicy":
        """Read the rules; raises ConfigError naming file, key, value and what was expected."""
        rules, networks, problems = [], [], Problems()
        for index, text in enumerate(sources.allow or ()):
            try:
                rules.append(Prefix.parse(text))
            except ValueError as error:
                problems.found.append(f"{file}: sources.allow.{index} = {shown(text)!r}: {error}")
        for index, text in enumerate(sources.allow_addresses):
            try:
                networks.append(ip_network(text))
            except ValueError:
                problems.found.append(
                    f"{file}: sources.allow_addresses.{index} = {text!r}: "
                    'expected an address or a network, such as "10.20.0.5" or "10.20.0.0/16"'
                )
        problems.check()
        return cls(None if sources.allow is None else tuple(rules), tuple(networks))

    def trusting(self, urls: Iterable[str]) -> "SourcePolicy":
        """Return a policy that also allows the origins of these URLs, whatever their addresses.

        For services that the operator configured, never for URLs of clients. Raises InvalidRequest or
        UnsupportedScheme for anything but an http or https URL.
        """
        return replace(self, trusted=self.trusted | {WebUrl.parse(url).origin for url in urls})

    def check_url(self, url: str) -> None:
        """Raise if a client may not name a URL.

        Raises UnsupportedScheme, InvalidRequest (not a URL, or a login in it) and SourceNotAllowed.
        """
        target = WebUrl.parse(url)
        if not self._ruled(target):
            reason = "no rule in [sources] allow names it"
        elif not self.allows(target):
            reason = (
                f"{target.host} is not a public address, and neither a rule in [sources] allow nor allow_addresses "
                "names it"
            )
        else:
            return
        refusal = f"{target.told} is not an allowed source: {reason}"
        raise SourceNotAllowed(f"{refusal}; ask the administrator", full=f"{refusal}; {self._to_allow(target)}")

    def _to_allow(self, url: WebUrl) -> str:
        """Return what an administrator writes into the configuration to allow a URL."""
        host = f"[{url.host}]" if ":" in url.host else url.host
        rule = f'"{url.scheme}://{host}:*/"'
        if self.rules is not None:
            return f"to allow it, add {rule} to [sources] allow, and reload"
        return (
            f"to allow it, write [sources] allow = [{rule}], and reload: then nothing is allowed that no rule names; "
            f'allow_addresses = ["{url.address or url.host}"] instead also leaves every public address allowed'
        )

    def allows(self, url: WebUrl) -> bool:
        """Tell whether a URL may be requested. A host name's addresses are checked by ``allows_address``."""
        address = url.address
        return self._ruled(url) and (address is None or self.allows_address(url, address))

    def allows_hop(self, url: WebUrl, target: WebUrl) -> bool:
        """Tell whether a redirect may be followed. From https to http, a rule must allow the target."""
        downgrade = url.scheme == "https" and target.scheme == "http"
        return self.allows(target) and not (downgrade and self.rules is None and target.origin not in self.trusted)

    def allows_address(self, url: WebUrl, address: Address) -> bool:
        """Tell whether a request for ``url`` may connect to ``address``."""
        if is_public(address):
            return True
        for rule in self.rules or ():
            if rule.names(address) and rule.matches(url):
                return True
        if url.origin in self.trusted:
            return True
        forms = [form for form in (address, embedded(address)) if form is not None] if self.networks else []
        return any(form in network for form in forms for network in self.networks)

    def _ruled(self, url: WebUrl) -> bool:
        for rule in self.rules or ():
            if rule.matches(url):
                return True
        return self.rules is None or url.origin in self.trusted
