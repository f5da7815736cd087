"""Answers read as a whole, from treq's own agent for tests: no socket, and not this service's agent."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import Request

from datamover.datasets.gbif.client import GbifClient, Patience
from datamover.errors import DatasetInvalid, RateLimited
from datamover.protocols.http.answers import retry_after
from datamover.protocols.http.content import beginning, whole

Result = TypeVar("Result")


class Answers(Resource):
    """Gives these answers one after the other: status, headers, body; and keeps what was asked."""

    isLeaf = True  # noqa: N815

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[bytes] = []
        self._answers = list(answers)

    def render_GET(self, request: Request) -> bytes:  # noqa: N802
        self.asked.append(request.uri)
        status, headers, body = self._answers.pop(0)
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name, value)  # type: ignore[no-untyped-call]
        return body


def client(answers: Answers) -> HTTPClient:
    return HTTPClient(RequestTraversalAgent(answers))  # type: ignore[no-untyped-call]


def done(work: Coroutine[Any, Any, Result]) -> Result:
    """Return what has come of it: it waits for nothing."""
    results: list[Result] = []
    Deferred.fromCoroutine(work).addCallback(results.append)
    return results[0]


async def got(answers: Answers, limit: int) -> tuple[int, bytes]:
    head, body = await whole(await client(answers).get("http://a.example/b?c"), limit)
    assert head.url.text == "http://a.example/b?c"
    return head.status, body


def test_a_whole_answer() -> None:
    """Head and body are those of the answer, whatever its status."""
    assert done(got(Answers((404, {}, b"none")), 4)) == (404, b"none")


def test_a_header() -> None:
    """Headers are found by their names, whatever the case."""

    async def asked() -> float | None:
        response = await client(Answers((503, {"RETRY-AFTER": "7"}, b"later"))).get("http://a.example/")
        head, body = await beginning(response, 2)
        assert body == b"la"
        return retry_after(head)

    assert done(asked()) == 7.0


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5"}])
def test_an_answer_that_is_too_large(headers: dict[str, str]) -> None:
    """More than the bound is an error, announced or not."""

    async def asked() -> str:
        with pytest.raises(DatasetInvalid) as raised:
            await got(Answers((200, headers, b"12345")), 4)
        return raised.value.message

    assert done(asked()) == "http://a.example/b?*** answered with more than 4 bytes"


def test_gbif_is_asked_again() -> None:
    """A request that GBIF puts off is sent again after the pause that it asks for, and no earlier."""
    answers = Answers((429, {"Retry-After": "3"}, b""), (200, {}, b'{"count": 1}'))
    clock = Clock()
    questions = GbifClient("http://gbif.example/v1/", client(answers), clock)
    asking = Deferred.fromCoroutine(questions.ask("/species", {"q": "a b"}, owner="a", about="it"))
    assert answers.asked == [b"/v1/species?q=a+b"]
    clock.advance(2.9)
    assert len(answers.asked) == 1
    clock.advance(0.1)
    answered: list[bytes] = []
    asking.addCallback(lambda answer: answered.append(answer[1]))
    assert (answered, len(answers.asked)) == ([b'{"count": 1}'], 2)


def test_gbif_is_given_up() -> None:
    """What GBIF puts off for longer than one is patient is an error, which says for how long."""
    answers = Answers((503, {"Retry-After": "100"}, b'{"message": "tomorrow"}'))
    questions = GbifClient("http://gbif.example/v1", client(answers), Clock(), Patience(longest_pause=60))

    async def asked() -> RateLimited:
        with pytest.raises(RateLimited, match='come again in 100 s: "tomorrow"') as raised:
            await questions.ask("/species", owner="a", about="it")
        return raised.value

    assert done(asked()).retry_after == 100


def test_owners_take_turns_at_gbif() -> None:
    """Who asks GBIF much does not keep another waiting until all of it is answered."""
    answers, clock = Answers((429, {"Retry-After": "3"}, b""), *[(200, {}, b"{}")] * 6), Clock()
    questions = GbifClient("http://gbif.example", client(answers), clock)
    asked = [*[("greedy", f"/{number}") for number in range(5)], ("other", "/other")]
    for owner, path in asked:
        Deferred.fromCoroutine(questions.ask(path, owner=owner, about="it"))
    assert answers.asked == [b"/0"]
    clock.advance(3)
    assert sorted(answers.asked) == sorted([b"/0", *(path.encode() for _, path in asked)])
    assert answers.asked.index(b"/other") < answers.asked.index(b"/4")
