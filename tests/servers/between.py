"""A go-between that speaks HTTP with its clients and a real service, whose answers a test may change or keep back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

from twisted.internet.threads import deferToThread

from tests.servers.exchange import Exchange, Request
from tests.servers.web import Web


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str, value: str) -> "Answer":
        """Return the same with another value of a header."""
        kept = [each for each in self.headers if each[0].lower() != name.lower()]
        return Answer(self.status, [*kept, (name, value)], self.body)


Handler = Callable[[Exchange, Callable[[], Awaitable[Answer]]], Awaitable[Answer | None]]
"""Gets a request, and what passes it on; returns the answer, None where it gave one itself."""


async def passed_on(exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
    """Change nothing."""
    return await ask()


class Between:
    """Passes requests on to a port of 127.0.0.1 as they came, signatures included."""

    def __init__(self, reactor: Any, port: int) -> None:
        self.web = Web(reactor)
        self.web.otherwise = self._serve
        self.handler: Handler = passed_on
        self._port = port

    async def _serve(self, exchange: Exchange) -> None:
        async def ask() -> Answer:
            return await deferToThread(self._ask, exchange.request)

        answer = await self.handler(exchange, ask)
        if answer is None:
            return
        if exchange.request.method == "HEAD":  # Its length is that of the body which it has not.
            exchange.write(exchange.head(answer.status, answer.headers))
        else:
            kept = [each for each in answer.headers if each[0].lower() not in ("content-length", "transfer-encoding")]
            exchange.answer(answer.status, kept, answer.body)

    def _ask(self, request: Request) -> Answer:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                if name != "connection":
                    connection.putheader(name, value)
            connection.endheaders(request.body)
            answer = connection.getresponse()
            headers = [each for each in answer.getheaders() if each[0].lower() not in ("connection", "date")]
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()
