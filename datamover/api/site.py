"""The site: XML-RPC over HTTP on ``/data_mover`` and ``/RPC2``.

A request passes the request filter (headers alone), the login and the parser, and then its method is called. Bodies are
bounded: an oversized one is read and thrown away, so that the client gets an answer and no broken pipe. The methods are
in ``methods``, one module for each namespace.
"""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Any, Protocol
from xmlrpc.client import Fault

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from datamover.api.allowance import Allowance
from datamover.api.callers import callers
from datamover.api.context import LOCAL, CallContext, Caller
from datamover.api.http.connections import QuietSite
from datamover.api.http.front_page import FrontPage
from datamover.api.http.pages import NoPage, PageResource, WebPage, put
from datamover.api.http.request import BoundedRequest
from datamover.api.http.request_filter import Refusal, RequestFilter
from datamover.api.http.turns import Turns
from datamover.api.methods import bccvl, destinations, jobs, service, submissions, system
from datamover.api.methods.call_limits import limited
from datamover.api.methods.calling import bug, call
from datamover.api.methods.table import fault, most_elements
from datamover.api.xmlrpc import wire
from datamover.audit.trail import AuditEvent, AuditTrail
from datamover.bounds.calls import (
    LARGE_BODIES_AT_ONCE,
    LARGEST_BODIES_HELD,
    MOST_CALLS,
    SMALL_ANSWER,
    SMALL_PARSED_BODY,
)
from datamover.concurrency.fair_share import FairPlace, FairQueue, FairRoom, FairShare
from datamover.config.identities import Holders
from datamover.config.schema import Config, Limits
from datamover.errors import InvalidRequest, RequestError, RequestTooLarge, Unavailable
from datamover.jobs.store import JobStore
from datamover.runtime.reload import Reloaded
from datamover.runtime.snapshot import Runtime, RuntimeHolder
from datamover.security.login_throttle import REMEMBERED

log = Logger()

NAMESPACES = (submissions, jobs, destinations, service, system, bccvl)
PATHS = (b"data_mover", b"RPC2")


class Calls(Protocol):
    """Counts every call that was answered or abandoned."""

    def called(self, method: str, outcome: str, seconds: float) -> None: ...


METHODS = {name: method for namespace in NAMESPACES for name, method in namespace.TABLE.methods.items()}
ELEMENTS = partial(most_elements, METHODS)
_REALM = b'Basic realm="datamover", charset="UTF-8"'


def make_site(
    *,
    runtimes: RuntimeHolder,
    store: JobStore,
    reload: Callable[[], Reloaded],
    audit: AuditTrail,
    reactor: Any,
    pages: Mapping[str, WebPage] = MappingProxyType({}),
    calls: Calls | None = None,
    interface: bool = True,
    database_back: Callable[[float], Awaitable[bool]] | None = None,
) -> QuietSite:
    """Return the site that serves ``pages`` by their paths and, if ``interface`` is true, the interface.

    ``database_back`` has calls wait for a database that is away; see ``CallContext``.
    Nothing is connected to or read before a request comes.
    """
    request_filter = runtimes.derived(lambda runtime: RequestFilter.from_config(runtime.settings))

    def limits() -> Limits:
        return runtimes.now.settings.limits

    waiting = FairShare(lambda: limits().waiting_calls), "waiting_calls"
    checks = FairShare(lambda: limits().checks), "checks"
    methods = limited(METHODS, {"jobs.wait": waiting, "jobs.events": waiting, "jobs.check": checks})
    turns = Turns(reactor)
    answers = FairShare(lambda: limits().answer_size * LARGEST_BODIES_HELD, single=lambda: limits().answer_size)
    # The other connections are for engines, submissions, and the reads of calls that wait.
    places = FairQueue(FairShare(lambda: max(1, runtimes.now.settings.database.connections // 2)))

    changes = Allowance(reactor.seconds, lambda: limits().changes)
    submitted = Allowance(reactor.seconds, lambda: limits().submitted)

    def context(runtime: Runtime, who: str) -> CallContext:
        place, room = FairPlace(places, who), FairRoom(answers, who, SMALL_ANSWER)
        shared = turns, place, room, changes, submitted, who
        return CallContext(runtime, store, reactor, methods, reload, audit, *shared, reactor.seconds(), database_back)

    resource = RpcResource(runtimes, context, audit, calls)
    root = NotFound()  # type: ignore[no-untyped-call]
    for path, page in pages.items():
        put(root, path, PageResource(page, request_filter, resource.admitted), lambda: NoPage(request_filter))
    for name in PATHS if interface else ():
        root.putChild(name, resource)
    if interface:

        def login() -> bool:
            return bool(runtimes.now.settings.clients)

        front = FrontPage(request_filter, pages.get("health/ready"), login, PATHS[0].decode("ascii"), root)
        root.putChild(b"", front)

    room = FairShare(lambda: limits().request_size * LARGEST_BODIES_HELD, single=lambda: limits().request_size)
    admit = resource.admit if interface else None

    def factory(*arguments: Any, **keywords: Any) -> BoundedRequest:
        return BoundedRequest(
            *arguments, request_filter=request_filter(), limit=limits().request_size, room=room, admit=admit, **keywords
        )

    return QuietSite(root, limits, turns, requestFactory=factory, parsePOSTFormSubmission=False, reactor=reactor)


class NotFound(Resource):
    """Answers 404 on every path that is not the interface's."""

    def getChild(self, path: bytes, request: Any) -> Resource:  # noqa: N802 - Twisted's
        return NotFound()  # type: ignore[no-untyped-call]

    def render(self, request: Any) -> int:
        refuse(
            request, request.refusal if request.refusal else Refusal(404, "The interface is at /data_mover and /RPC2.")
        )
        return NOT_DONE_YET


class RpcResource(Resource):
    """Answers XML-RPC calls."""

    isLeaf = True  # noqa: N815 - Twisted's

    def __init__(
        self,
        runtimes: RuntimeHolder,
        context: Callable[[Runtime, str], CallContext],
        audit: AuditTrail,
        calls: Calls | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._runtimes = runtimes
        self._context = context
        self._audit = audit
        self._calls = calls
        self._callers = runtimes.derived(lambda runtime: callers(runtime.settings, METHODS))
        self._holders = runtimes.derived(lambda runtime: _holders(runtime.settings))
        self._callers()
        self._large = FairQueue(FairShare(lambda: LARGE_BODIES_AT_ONCE))

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
        channel = request.channel
        with self._runtimes.acquire() as runtime:
            context = self._context(runtime, channel.who)
            try:
                try:
                    caller = await self._known(runtime, request)
                    if caller is None:
                        request.setHeader(b"WWW-Authenticate", _REALM)
                        refuse(request, Refusal(401, "The name or the password is missing or wrong."))
                        return
                    if caller.key != channel.who:
                        channel.who = caller.key
                        context = self._context(runtime, caller.key)
                    result = await self._call(context, caller, request)
                except RequestError as error:
                    result = fault(error)
                body = await context.in_slices(wire.write_answer(result, context.answer_size, context.answers.reach))
                request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
                request.setHeader(b"Content-Length", b"%d" % len(body))
                request.write(body)
                request.finish()
            finally:
                context.place.end()
                channel.when_sent(context.answers.give)

    async def _call(self, context: CallContext, caller: Caller, request: Any) -> Any:
        """Return the result of the call in the body, a Fault for one that failed; raises RequestError."""
        if request.too_large:
            limit = context.config.limits.request_size
            raise RequestTooLarge(f"the request is over {limit} bytes ([limits] request_size): send it in several")
        if request.crowded:
            raise Unavailable("too many large requests come in at once, and nothing was stored: ask again in a while")
        if request.content is None:
            raise InvalidRequest("the request has no body: expected an XML-RPC methodCall")
        if request.received <= SMALL_PARSED_BODY:
            return await self._read_and_call(context, caller, request)
        async with self._large.held(caller.key):
            return await self._read_and_call(context, caller, request)

    async def _read_and_call(self, context: CallContext, caller: Caller, request: Any) -> Any:
        bounds = wire.Bounds(ELEMENTS, max(context.config.limits.files, MOST_CALLS))
        reading = wire.parse_call(request.content, charset=request.charset, bounds=bounds)
        name, parameters = await context.in_slices(reading)
        began, outcome = context.reactor.seconds(), "abandoned"
        try:
            result = await call(context, caller, name, parameters)
            outcome = str(result.faultCode) if isinstance(result, Fault) else "ok"
        finally:
            if self._calls is not None:
                known = name if name in context.methods else "unknown"
                self._calls.called(known, outcome, context.reactor.seconds() - began)
        return result

    async def admitted(self, request: Any) -> Refusal | None:
        """Return why a page that is not public is refused, None for a caller who may see it."""
        runtime = self._runtimes.now
        try:
            caller = await self._caller(runtime, request)
        except Unavailable as error:
            return Refusal(503, f"{error.message}.")
        if caller is None:
            request.setHeader(b"WWW-Authenticate", _REALM)
            return Refusal(401, "The name or the password is missing or wrong.")
        request.channel.who = caller.key
        if caller.administrator or caller.name in runtime.settings.monitor.clients:
            return None
        return Refusal(403, "This page is for administrators and the clients that [monitor] names.")

    async def admit(self, request: Any) -> Caller | None:
        """Return the caller of a request whose body waits, None for a wrong login. May raise Unavailable."""
        with self._runtimes.acquire() as runtime:
            return await self._caller(runtime, request)

    async def _known(self, runtime: Runtime, request: Any) -> Caller | None:
        """Return the caller of a request, reusing the check from before its body was read. May raise Unavailable."""
        if not request.asked:
            return await self._caller(runtime, request)
        sender: Caller | Failure | None = request.sender
        if isinstance(sender, Failure):
            sender.raiseException()
        if sender is None or not runtime.settings.clients:
            return sender
        # A reload may have changed the client's permissions meanwhile.
        known = self._callers().get(sender.name)
        return known and replace(known, origin=sender.origin)

    async def _caller(self, runtime: Runtime, request: Any) -> Caller | None:
        origin = getattr(request.getClientAddress(), "host", "") or "unix"
        clients = runtime.settings.clients
        if not clients:
            return _local(origin)
        authorization, certificate = request.header("authorization"), request.certificate
        if certificate is not None and not authorization:
            given, name = "?", self._holders().name(certificate, origin)
        else:
            login = _basic(authorization)
            if login is None:
                return None
            given, name = login[0], await runtime.logins.check(*login, origin)
        known = self._callers().get(name or "")
        if known is None:
            # An unknown name may be a password that was typed into the wrong field.
            given = given if given in clients else "?"
            await self._audit.refused(AuditEvent(given, origin, "login", outcome="AUTHENTICATION_FAILED"))
            return None
        return replace(known, origin=origin)


@lru_cache(maxsize=REMEMBERED)
def _local(origin: str) -> Caller:
    """Return the caller if no clients are configured."""
    return replace(LOCAL, origin=origin)


def check_callers(config: Config) -> None:
    """Raise ConfigError for an unknown method or an invalid rule in a client's table."""
    callers(config, METHODS)


def _holders(config: Config) -> Holders:
    return Holders({client.certificate: name for name, client in config.clients.items() if client.certificate})


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
    """Return the name and password of a Basic login (RFC 7617), None if there is no readable one."""
    scheme, _, encoded = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, password = b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None
    return (username, password) if colon else None


def _answer_failure(failure: Failure, request: Any, gone: list[Failure]) -> None:
    """Answer a request whose handling was cancelled by the stop or met a bug, unless the client has gone."""
    cancelled = isinstance(failure.value, CancelledError)
    if gone and cancelled:
        return
    stopping = fault(Unavailable("the service is stopping: ask again, with the same request_id"))
    answer = stopping if cancelled else bug("the interface", failure)
    if not gone and not request.startedWriting:
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        request.write(wire.write_fault(answer))
        request.finish()
