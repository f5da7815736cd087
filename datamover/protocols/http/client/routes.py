"""The way a request goes out: to its host directly, or through an HTTP proxy; in TLS where the URL says so.

Through a proxy it is the proxy that resolves names, so that only a URL's own address can be judged here.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from datamover.errors import ConfigError, InvalidRequest, UnsupportedScheme
from datamover.protocols.http.client.endpoints import NamedEndpoint, TunnelEndpoint
from datamover.protocols.http.client.tls import VerifiedTLS
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl


class Routes:
    """The endpoints for URLs, pinned to addresses that the policy allows."""

    def __init__(
        self,
        reactor: Any,
        policy: SourcePolicy,
        *,
        connect_timeout: float,
        ca_file: Path | None = None,
        proxy: str | None = None,
        file: str = "datamover.toml",
    ) -> None:
        """Prepare; ``connect_timeout`` is in seconds.

        Raises ConfigError, naming ``file``, for a ``ca_file`` without certificates, or a ``proxy`` that is no URL of
        an HTTP proxy.
        """
        self._reactor = reactor
        self._policy = policy
        self._connect_timeout = connect_timeout
        self._tls = VerifiedTLS(ca_file, file=file)
        self._proxy = None if proxy is None else self._proxy_endpoint(proxy, file)

    def key(self, url: WebUrl) -> Hashable:
        """Return what the connections are kept by that serve a URL: its origin, or None for those to the proxy."""
        return None if self._proxied(url) else url.origin

    def target(self, url: WebUrl) -> str:
        """Return the request target for a URL (RFC 9112, section 3.2): its path and query, or all of it for a proxy."""
        if self._proxied(url):
            return url.text
        return url.path if url.query is None else f"{url.path}?{url.query}"

    def endpoint(self, url: WebUrl) -> IStreamClientEndpoint:
        """Return what connects to a URL's host, or to the proxy for it."""
        if self._proxy is not None:
            if url.scheme == "http":
                return self._proxy
            endpoint: IStreamClientEndpoint = TunnelEndpoint(self._proxy, url.host, url.port)
        else:
            endpoint = NamedEndpoint(
                self._reactor,
                url.host,
                url.port,
                admit=lambda address: self._policy.allows_address(url, address),
                timeout=self._connect_timeout,
            )
        if url.scheme == "https":
            endpoint = wrapClientTLS(self._tls.creator(url.host), endpoint)
        return endpoint

    def _proxied(self, url: WebUrl) -> bool:
        """Tell whether a request goes to the proxy itself, rather than through a tunnel or directly."""
        return self._proxy is not None and url.scheme == "http"

    def _proxy_endpoint(self, proxy: str, file: str) -> IStreamClientEndpoint:
        try:
            url: WebUrl | None = WebUrl.parse(proxy)
        except (InvalidRequest, UnsupportedScheme):
            url = None
        if url is None or url.scheme != "http" or url.path != "/" or url.query is not None:
            raise ConfigError(
                f"{file}: http.proxy: expected the address of an HTTP proxy, without a login, "
                'such as "http://proxy.example.org:3128"'
            )
        return NamedEndpoint(
            self._reactor,
            url.host,
            url.port,
            admit=lambda _: True,
            timeout=self._connect_timeout,
            role="the HTTP proxy ",
        )
