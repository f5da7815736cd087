"""treq over an agent of ours: what it cannot know of, told to it once, for every request."""

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
    """``treq.client.HTTPClient``, whose requests go out as they were asked for.

    Bodies come as they are read (``unbuffered``); redirects and cookies are the agent's business. A request fails with
    what the agent raises, and with InvalidRequest and UnsupportedScheme for what is no URL. Cancelling one drops its
    connection.
    """

    def __init__(self, agent: IAgent, reactor: Any) -> None:
        """Ask with ``agent``; the reactor keeps the time of ``timeout=``."""
        super().__init__(agent, cookiejar=_NoCookies(), data_to_body_producer=_body_of)
        self._reactor = reactor

    def request(self, method: str, url: str, **options: Any) -> "Deferred[Any]":  # type: ignore[override]
        """Send a request; see ``treq.client.HTTPClient.request``."""
        usual = {"reactor": self._reactor, "unbuffered": True, "allow_redirects": False}
        return super().request(method, _Uri.of(url), **{**usual, **options})


class _Uri(EncodedURL):
    """A URL that goes out as ``WebUrl`` has it.

    hyperlink refuses a literal IPv6 address and a host name with an underscore, and drops a "?" with nothing behind it.
    """

    @classmethod
    def of(cls, url: str) -> "_Uri":
        text = WebUrl.parse(url).text
        made = cast(_Uri, cls.from_text(text))
        made._text = text
        return made

    _text = ""
    """"" where ``params`` were added."""

    def to_uri(self) -> "_Uri":
        return self

    def to_text(self, with_password: bool = False) -> str:
        return self._text or super().to_text(with_password)


class _NoCookies(IndexableCookieJar):
    """Keeps nothing: cookies are kept by ``SessionAgent``, for one file or one request alone."""

    def add_cookie_header(self, request: Request) -> None:
        pass

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        pass

    def set_cookie(self, cookie: Cookie) -> None:
        raise ValueError("cookies are sent by a Cookie header: treq's own go along to every path of a host")


def _body_of(data: Any) -> IBodyProducer:
    return BytesBody(data) if isinstance(data, bytes) else IBodyProducer(data)
