"""Refuse requests by their headers if they do not come from an XML-RPC client of this service. Pure.

A web page can make a browser send a POST to a local service. But it cannot set a content type other than a form's
without asking first, it cannot leave out Origin, and with DNS rebinding the Host header holds the page's own name.
Therefore the service accepts only ``text/xml``, no Origin, and only Host headers that it knows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from socket import gethostname

from datamover.bounds.door import LONGEST_CONTENT_TYPE
from datamover.config.endpoints import endpoint_interface
from datamover.config.schema import Config

Header = Callable[[str], list[str]]
"""Every value of a header, by its name."""

ALWAYS = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "127.0.0.1", "::1"})
_EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP status with a sentence, in place of an XML-RPC answer."""

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Decides by the headers whether a request is served."""

    names: frozenset[str]
    """The host names that are served, in lower case."""
    any_address: bool
    """Whether a listener binds every address: then any IP address is accepted, which no web page has as its name."""

    login: bool = False
    """Whether a login is required; the body of a request without one is not kept."""

    @classmethod
    def from_config(cls, config: Config) -> "RequestFilter":
        """Return a filter that accepts localhost, the listeners' interfaces and ``service.hosts``."""
        listeners = (*config.service.listen, *filter(None, [config.monitor.listen]))
        interfaces = {endpoint_interface(listener) for listener in listeners} - {None}
        every = bool(interfaces & _EVERY_ADDRESS)
        own: Iterable[str] = [gethostname()] if every else []
        names = {_plain(name) for name in (*config.service.hosts, *own, *(each for each in interfaces if each))}
        return cls(frozenset(ALWAYS | names), every, bool(config.clients))

    def refusal(self, method: str, header: Header) -> Refusal | None:
        """Return why a request is refused, None for one that may be an XML-RPC call."""
        stranger = self.stranger(header)
        if stranger is not None:
            return stranger
        if method != "POST":
            return Refusal(405, "This is datamover, an XML-RPC service: POST a methodCall to /data_mover.")
        types = header("content-type")
        kinds = [value.partition(";")[0].strip().lower() for value in types]
        if kinds != ["text/xml"] or len(types[0]) > LONGEST_CONTENT_TYPE:
            return Refusal(415, "Send the methodCall with Content-Type: text/xml.")
        encodings = header("content-encoding")
        if encodings and any(value.strip().lower() != "identity" for value in encodings):
            return Refusal(415, "Send the methodCall as it is, without a Content-Encoding.")
        return None

    def stranger(self, header: Header) -> Refusal | None:
        """Return why a request is refused whatever it asks for: an unknown Host, or an Origin; None if it is not."""
        hosts = header("host")
        if len(hosts) != 1 or not self.serves(hosts[0]):
            shown = repr(hosts[0][:100]) if len(hosts) == 1 else "none, or several,"
            return Refusal(
                421,
                f"Host {shown} is not served here: use the listener's address, or have it added to service.hosts.",
            )
        if header("origin"):
            return Refusal(403, "Requests from web pages (with an Origin header) are not served.")
        return None

    def serves(self, host: str) -> bool:
        """Return whether a Host header's value, with or without a port, names this service."""
        name = host.strip()
        if name.startswith("["):
            name, bracket, port = name[1:].partition("]")
            port = port.removeprefix(":") if port.startswith(":") else port
            if not bracket:
                return False
        else:
            name, _, port = name.partition(":")
        if port and not (port.isascii() and port.isdigit()):
            return False
        return _plain(name) in self.names or (self.any_address and _is_address(name))


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
