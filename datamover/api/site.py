"""The door itself: HTTP in, XML-RPC out, on ``/data_mover`` and ``/RPC2``.

A request passes the gate (headers alone), the login, the reader and then its method. Bodies are bounded: what is over
the bound is read and thrown away, so that the client finds an answer rather than a broken pipe. What methods there are,
and what they do, is written in the modules of the namespaces.
"""

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from types import MappingProxyType
from typing import Any, Protocol
from xmlrpc.client import Fault

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from datamover.api import bccvl, destinations, jobs, methods, service, system, wire
from datamover.api.context import LOCAL, Caller, Context, Store
from datamover.api.gate import Gate, Refusal
from datamover.api.pages import NoPage, Page, PageResource, put
from datamover.errors import InvalidRequest, RequestError, RequestTooLarge, Unavailable
from datamover.house import House, Houses
from datamover.jobs.audit import Audit, Deed
from datamover.reload import Reloaded

log = Logger()

NAMESPACES = (jobs, destinations, service, system, bccvl)
PATHS = (b"data_mover", b"RPC2")
DRAINED = 2
"""A body may be this many times over its bound; then the connection is closed."""
SMALL = 2**20
"""Bytes of a body that is read at once whatever else is; larger ones take turns, so that memory has a bound."""
LARGE_AT_ONCE = 2


class Calls(Protocol):
    """Is told of every call that was answered, or abandoned."""

    def called(self, method: str, outcome: str, seconds: float) -> None: ...


_REALM = b'Basic realm="datamover", charset="UTF-8"'


def make_site(
    *,
    houses: Houses,
    store: Store,
    reload: Callable[[], Reloaded],
    audit: Audit,
    reactor: Any,
    pages: Mapping[str, Page] = MappingProxyType({}),
    calls: Calls | None = None,
    interface: bool = True,
) -> Site:
    """Return the site that serves the interface, and ``pages`` by their paths; or these alone.

    Nothing is connected to or read before a request comes.
    """
    known = {name: method for namespace in NAMESPACES for name, method in namespace.TABLE.methods.items()}
    gate = houses.derived(lambda house: Gate.from_config(house.settings))

    def context(house: House) -> Context:
        return Context(house, store, reactor, known, reload, audit)

    door = Door(houses, context, calls)
    root = Nowhere()  # type: ignore[no-untyped-call]
    for path, page in pages.items():
        put(root, path, PageResource(page, gate, door.admitted), lambda: NoPage(gate))
    for name in PATHS if interface else ():
        root.putChild(name, door)

    def factory(*arguments: Any, **keywords: Any) -> BoundedRequest:
        limit = houses.now.settings.limits.request_size
        return BoundedRequest(*arguments, gate=gate(), limit=limit, **keywords)

    return QuietSite(root, requestFactory=factory, parsePOSTFormSubmission=False, reactor=reactor)  # type: ignore[no-untyped-call]


class QuietSite(Site):
    """A site that does not log every poll of every client; what is asked for and what goes wrong is logged."""

    noisy = False

    def logPrefix(self) -> str:  # noqa: N802 - Twisted's
        return "datamover"

    def log(self, request: Any) -> None:
        pass


class BoundedRequest(Request):
    """A request that keeps no more of its body than is wanted."""

    def __init__(self, *args: Any, gate: Gate, limit: int, **keywords: Any) -> None:
        super().__init__(*args, **keywords)  # type: ignore[no-untyped-call]
        self._gate = gate
        self._limit = limit
        self.received = 0
        self._kept = False
        self.refusal: Refusal | None = None
        """Why the body is not kept at all."""
        self.too_large = False

    def header(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [str(value) for value in self.requestHeaders.getRawHeaders(name, [])]

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        # The method is not known here to a Request; it is judged when the body is in.
        self.refusal = self._gate.refusal("POST", self.header)
        self.too_large = length is not None and length > self._limit
        self._kept = not (self.refusal or self.too_large or (self._gate.login and not self.header("authorization")))
        super().gotLength(length if self._kept else 0)  # type: ignore[no-untyped-call]

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's
        self.received += len(data)
        if self.received > self._limit * DRAINED:
            self.loseConnection()  # type: ignore[no-untyped-call]
        elif self.received > self._limit and not self.too_large:
            self.too_large = True
            if self._kept and self.content is not None:
                self.content.close()
                self.content = BytesIO()
            self._kept = False
        if self._kept:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def process(self) -> None:
        self.refusal = self._gate.refusal(self.method.decode("latin-1"), self.header)
        super().process()  # type: ignore[no-untyped-call]


class Nowhere(Resource):
    """Every path that is not the interface's."""

    def getChild(self, path: bytes, request: Any) -> Resource:  # noqa: N802 - Twisted's
        return self

    def render(self, request: Any) -> int:
        refuse(
            request, request.refusal if request.refusal else Refusal(404, "The interface is at /data_mover and /RPC2.")
        )
        return NOT_DONE_YET


class Door(Resource):
    """The interface."""

    isLeaf = True  # noqa: N815 - Twisted's

    def __init__(self, houses: Houses, context: Callable[[House], Context], calls: Calls | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._houses = houses
        self._context = context
        self._calls = calls
        self._turns = DeferredSemaphore(LARGE_AT_ONCE)

    def render(self, request: Any) -> int:
        if request.refusal:
            refuse(request, request.refusal)
            return NOT_DONE_YET
        answering = Deferred.fromCoroutine(self._answer(request))
        gone: list[Failure] = []

        def left(reason: Failure) -> None:
            gone.append(reason)
            answering.cancel()

        request.notifyFinish().addErrback(left)
        answering.addErrback(_answer_failure, request, gone)
        return NOT_DONE_YET

    async def _answer(self, request: Any) -> None:
        with self._houses.stay() as house:
            await self._answer_from(self._context(house), request)

    async def _answer_from(self, context: Context, request: Any) -> None:
        caller = await self._caller(context, request)
        if caller is None:
            request.setHeader(b"WWW-Authenticate", _REALM)
            refuse(request, Refusal(401, "The name or the password is missing or wrong."))
            return
        try:
            result = await self._call(context, caller, request)
        except RequestError as error:
            result = methods.fault(error)
        body = await context.in_slices(wire.answering(result))
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()

    async def _call(self, context: Context, caller: Caller, request: Any) -> Any:
        """Return the result of the call in the body, a Fault where it went wrong."""
        if request.too_large:
            limit = context.config.limits.request_size
            raise RequestTooLarge(f"the request is over {limit} bytes ([limits] request_size): send it in several")
        if request.content is None:
            raise InvalidRequest("the request has no body: expected an XML-RPC methodCall")
        if request.received <= SMALL:
            return await self._read_and_call(context, caller, request)
        await self._turns.acquire()
        try:
            return await self._read_and_call(context, caller, request)
        finally:
            self._turns.release()

    async def _read_and_call(self, context: Context, caller: Caller, request: Any) -> Any:
        name, parameters = await context.in_slices(wire.reading(request.content))
        began, outcome = context.reactor.seconds(), "abandoned"
        try:
            result = await methods.call(context, caller, name, parameters)
            outcome = str(result.faultCode) if isinstance(result, Fault) else "ok"
        finally:
            if self._calls is not None:
                known = name if name in context.methods else "unknown"
                self._calls.called(known, outcome, context.reactor.seconds() - began)
        return result

    async def admitted(self, request: Any) -> Refusal | None:
        """Return why a page that is not for everybody is not shown, None for those who may watch."""
        context = self._context(self._houses.now)
        caller = await self._caller(context, request)
        if caller is None:
            request.setHeader(b"WWW-Authenticate", _REALM)
            return Refusal(401, "The name or the password is missing or wrong.")
        if caller.administrator or caller.name in context.config.monitor.clients:
            return None
        return Refusal(403, "This page is for administrators and the clients that [monitor] names.")

    async def _caller(self, context: Context, request: Any) -> Caller | None:
        origin = getattr(request.getClientAddress(), "host", "") or "unix"
        if not context.config.clients:
            return replace(LOCAL, origin=origin)
        login = _basic(request.header("authorization"))
        if login is None:
            return None
        name = await context.house.logins.check(*login, origin)
        if name is None:
            # What is no client's name may be a password that went into the wrong field.
            known = login[0] if login[0] in context.config.clients else "?"
            await context.audit.refused(Deed(known, origin, "login", outcome="AUTHENTICATION_FAILED"))
            return None
        return context.caller(name, origin)


def refuse(request: Any, refusal: Refusal) -> None:
    """Answer in plain text and finish."""
    body = (refusal.text + "\n").encode()
    request.setResponseCode(refusal.status)
    if refusal.status == 405:
        request.setHeader(b"Allow", b"POST")
    request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    if request.method != b"HEAD":
        request.write(body)
    request.finish()


def _basic(headers: list[str]) -> tuple[str, str] | None:
    """Return the name and password of a Basic login (RFC 7617), None where there is none to be read."""
    scheme, _, encoded = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None
    return (username, password) if colon else None


def _answer_failure(failure: Failure, request: Any, gone: list[Failure]) -> None:
    """Answer what the call itself could not: it was cancelled by us, or the door has a bug; a client may have gone."""
    cancelled = isinstance(failure.value, CancelledError)
    if gone and cancelled:
        return
    stopping = methods.fault(Unavailable("the service is stopping: ask again, with the same request_id"))
    fault: Fault = stopping if cancelled else methods.bug("the door", failure)
    if not gone and not request.startedWriting:
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        request.write(wire.finished(fault))
        request.finish()
