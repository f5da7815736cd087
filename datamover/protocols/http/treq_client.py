"""treq's client with the defaults of this service."""

from http.client import HTTPResponse
from http.cookiejar import Cookie
from typing import Any, cast
from urllib.request import Request

from hyperlink import EncodedURL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import Deferred
from twisted.web.iweb import IAgent, IBodyProducer

from datamover.protocols.http.request_body import BytesBody
from datamover.web.url import WebUrl


class TreqClient(HTTPClient):
    """``treq.client.HTTPClient`` over an agent that handles redirects and cookies itself.

    Bodies are not buffered (``unbuffered=True``). A request raises InvalidRequest or UnsupportedScheme for an unusable
    URL, and fails with what the agent raises. Cancelling it drops its connection.
    """

    def __init__(self, agent: IAgent, reactor: Any) -> None:
        """Send with ``agent``; ``reactor`` schedules ``timeout=``."""
        super().__init__(agent, cookiejar=_NoCookies(), data_to_body_producer=_body_of)
        self._reactor = reactor

    def request(self, method: str, url: str, **options: Any) -> "Deferred[Any]":  # type: ignore[override]
        """Send a request; fires when the head of the answer is here. See ``treq.client.HTTPClient.request``."""
        usual = {"reactor": self._reactor, "unbuffered": True, "allow_redirects": False}
        return super().request(method, _Uri.of(url), **{**usual, **options})


class _Uri(EncodedURL):
    """A URL that is sent exactly as ``WebUrl`` spells it.

    hyperlink's ``to_uri`` refuses literal IPv6 addresses and underscores in host names, and drops an empty query.
    """

    @classmethod
    def of(cls, url: str) -> "_Uri":
        text = WebUrl.parse(url).text
        made = cast(_Uri, cls.from_text(text))
        made._text = text
        return made

    _text = ""
    """The URL, "" if treq added ``params`` to it."""

    def to_uri(self) -> "_Uri":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text or super().to_text(with_password)


class _NoCookies(IndexableCookieJar):
    """Stores nothing: ``SessionAgent`` keeps the cookies of one file or one request."""

    def add_cookie_header(self, request: Request) -> None:
        pass

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        pass

    def set_cookie(self, cookie: Cookie) -> None:
        raise ValueError("send cookies in a Cookie header: this client keeps none")


def _body_of(data: Any) -> IBodyProducer:
    return BytesBody(data) if isinstance(data, bytes) else IBodyProducer(data)
