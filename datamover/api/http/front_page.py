"""The page at ``/`` for whoever comes with a browser: what this is, whether it is ready, and how to call it.

It needs no login, and so tells nothing but what the health pages tell everyone.
"""

from collections.abc import Callable
from html import escape
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from datamover.api.http.pages import READING, WebPage, answer_failure, finish, refuse_plainly
from datamover.api.http.request_filter import RequestFilter

HEADERS = {
    b"Content-Security-Policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"X-Content-Type-Options": b"nosniff",
    b"X-Frame-Options": b"DENY",
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Resource-Policy": b"same-origin",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>datamover</title>
</head>
<body>
<main>
<h1>datamover</h1>
<p>This is datamover, a service that moves files for other programs. Programs call it over XML-RPC; there is nothing to
do here with a browser.</p>
<p>State: <strong>{state}</strong></p>
<h2>Call it</h2>
<p>The interface is at <code>{url}</code>. {login}</p>
<pre><code>from xmlrpc.client import ServerProxy

mover = ServerProxy("{url}")
print(mover.service.status())
print(mover.system.listMethods())
print(mover.system.methodHelp("jobs.submit"))
</code></pre>
<h2>Documentation</h2>
<p>The service documents its methods itself: <code>system.listMethods</code> and <code>system.methodHelp</code>. Pages
on the interface, the configuration and operation are installed with it, in <code>share/doc/datamover</code>; they are
<code>docs/</code> in its source.</p>
</main>
</body>
</html>
"""


class FrontPage(Resource):
    """Answers a browser's GET with the page, and everything else as ``otherwise`` does."""

    def __init__(
        self,
        request_filter: Callable[[], RequestFilter],
        ready: WebPage | None,
        login: Callable[[], bool],
        path: str,
        otherwise: Any,
    ) -> None:
        """``login`` tells whether calls need one; ``path`` is the interface's."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._request_filter = request_filter
        self._ready = ready
        self._login = login
        self._path = path
        self._otherwise = otherwise

    def getChild(self, path: bytes, request: Any) -> Any:  # noqa: N802 - Twisted's
        # Only an empty segment was looked up, as in //RPC2: what follows it is the site's.
        return self._otherwise.getChildWithDefault(path, request)

    def render(self, request: Any) -> Any:
        if request.path != b"/" or request.method not in READING or not _wants_html(request.header("accept")):
            return self._otherwise.render(request)
        stranger = self._request_filter().stranger(request.header)
        if stranger is not None:
            refuse_plainly(request, stranger)
            return NOT_DONE_YET
        answering = Deferred.fromCoroutine(self._answer(request))
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        answering.addErrback(answer_failure, request)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> None:
        state = "ready"
        if self._ready is not None:
            status, _, told = await self._ready.answer()
            state = "ready" if status == 200 else f"not ready: {told.decode().strip()}"
        scheme = "https" if request.isSecure() else "http"
        url = f"{scheme}://{request.header('host')[0].strip()}/{self._path}"
        login = "It takes a name and a password (HTTP Basic)." if self._login() else "It takes no login."
        page = _PAGE.format(state=escape(state), url=escape(url), login=login)
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        finish(request, 200, "text/html; charset=utf-8", page.encode())


def _wants_html(accept: list[str]) -> bool:
    return any(each.partition(";")[0].strip().lower() == "text/html" for value in accept for each in value.split(","))
