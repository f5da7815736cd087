"""How to connect for a URL: directly or through an HTTP proxy, with TLS for https.

A proxy resolves host names itself, so that only an address in the URL can be checked here.
"""

from collections.abc import Hashable
from typing import Any

from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from datamover.errors import ConfigError, InvalidRequest, UnsupportedScheme
from datamover.protocols.http.client.endpoints import NamedEndpoint, TunnelEndpoint
from datamover.protocols.tls.verified import VerifiedTLS
from datamover.web.policy import SourcePolicy
from datamover.web.url import WebUrl


class Routes:
    """Endpoints for URLs, pinned to addresses that the policy allows."""

    def __init__(
        self,
        reactor: Any,
        policy: SourcePolicy,
        *,
        connect_timeout: float,
        tls: VerifiedTLS,
        proxy: str | None = None,
        file: str = "datamover.toml",
    ) -> None:
        """Prepare; ``connect_timeout`` is in seconds.

        Raises ConfigError, naming ``file``, for an unusable ``proxy``.
        """
        self._reactor = reactor
        self._policy = policy
        self._connect_timeout = connect_timeout
        self._tls = tls
        self._proxy = None if proxy is None else self._proxy_endpoint(proxy, file)

    def key(self, url: WebUrl) -> Hashable:
        """Return the pool's key for a URL: its origin, or None for the proxy."""
        return None if self._proxied(url) else url.origin

    def target(self, url: WebUrl) -> str:
        """Return the request target (RFC 9112, section 3.2): path and query, or the whole URL for a proxy."""
        if self._proxied(url):
            return url.text
        return url.path if url.query is None else f"{url.path}?{url.query}"

    def endpoint(self, url: WebUrl) -> IStreamClientEndpoint:
        """Return the endpoint of a URL's host, or of the proxy."""
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
        """Tell whether the request is sent to the proxy itself: not directly, nor through a tunnel."""
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
