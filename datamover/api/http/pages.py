"""Pages for monitoring beside the interface: GET only, behind the same request filter and logins."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from datamover.api.http.request_filter import Refusal, RequestFilter

log = Logger()

READING = (b"GET", b"HEAD")


@dataclass(frozen=True, slots=True)
class WebPage:
    """One page."""

    answer: Callable[[], Awaitable[tuple[int, str, bytes]]]
    """Returns status, content type and body."""
    open: Callable[[], bool]
    """Returns whether the page is public."""


class PageResource(Resource):
    """Serves one page. For a page that is not public, ``admitted`` returns a refusal, or None to serve it."""

    isLeaf = True  # noqa: N815 - Twisted's

    def __init__(
        self,
        page: WebPage,
        request_filter: Callable[[], RequestFilter],
        admitted: Callable[[Any], Awaitable[Refusal | None]],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._page = page
        self._request_filter = request_filter
        self._admitted = admitted

    def render(self, request: Any) -> int:
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(answer_failure, request)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> None:
        refusal = self._request_filter().stranger(request.header)
        if refusal is None and request.postpath:
            refusal = Refusal(404, "There is no such page.")
        if refusal is None and request.method not in READING:
            refusal = Refusal(405, "This page is only read: send a GET.")
            request.setHeader(b"Allow", b"GET, HEAD")
        if refusal is None and not self._page.open():
            refusal = await self._admitted(request)
        if refusal is not None:
            if refusal.status == 503:
                request.setHeader(b"Retry-After", b"5")
            refuse_plainly(request, refusal)
            return
        finish(request, *await self._page.answer())


class NoPage(Resource):
    """Answers 404 on the paths above and beside a page."""

    def __init__(self, request_filter: Callable[[], RequestFilter]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._request_filter = request_filter

    def getChild(self, path: bytes, request: Any) -> Resource:  # noqa: N802 - Twisted's
        return NoPage(self._request_filter)

    def render(self, request: Any) -> int:
        refuse_plainly(
            request, self._request_filter().stranger(request.header) or Refusal(404, "There is no such page.")
        )
        return NOT_DONE_YET


def finish(request: Any, status: int, kind: str, body: bytes) -> None:
    """Write an answer and finish the request."""
    request.setResponseCode(status)
    request.setHeader(b"Content-Type", kind.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.setHeader(b"Cache-Control", b"no-store")
    if request.method != b"HEAD":
        request.write(body)
    request.finish()


def refuse_plainly(request: Any, refusal: Refusal) -> None:
    """Answer with a refusal in plain text."""
    finish(request, refusal.status, "text/plain; charset=utf-8", (refusal.text + "\n").encode())


def answer_failure(failure: Failure, request: Any) -> None:
    """Log a bug and answer 500, unless the client has gone."""
    if isinstance(failure.value, CancelledError):
        return
    log.failure("the page {path} failed", failure, path=request.path.decode("latin-1"))
    if not request.startedWriting:
        finish(request, 500, "text/plain; charset=utf-8", b"an internal error of datamover: its log has the details\n")


def put(root: Resource, path: str, resource: Resource, between: Callable[[], Resource]) -> None:
    """Add a resource to a tree at ``path``; ``between`` makes the missing resources above it."""
    *steps, last = path.encode("ascii").split(b"/")
    for step in steps:
        if step not in root.children:
            root.putChild(step, between())
        root = root.children[step]
    root.putChild(last, resource)
