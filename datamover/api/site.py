"""The door itself: HTTP in, XML-RPC out, on ``/data_mover`` and ``/RPC2``.

A request passes the gate (headers alone), the login, the reader and then its method. Bodies are bounded: what is over
the bound is read and thrown away, so that the client finds an answer rather than a broken pipe. What methods there are,
and what they do, is written in the modules of the namespaces.
"""

from base64 import b64decode
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from types import MappingProxyType
from typing import Any, Protocol
from xmlrpc.client import Fault

from cryptography.x509 import Certificate
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from datamover.api import bccvl, destinations, jobs, methods, service, system, wire
from datamover.api.callers import callers
from datamover.api.context import LOCAL, Caller, Context, Credentials, Http, Logins, Policy, Registry, Store
from datamover.api.gate import Gate, Refusal
from datamover.api.pages import NoPage, Page, PageResource, put
from datamover.certificates import Holders
from datamover.config import Config
from datamover.errors import InvalidRequest, RequestError, RequestTooLarge, Unavailable
from datamover.jobs.request_datasets import Datasets, Named
from datamover.registry.notice_secrets import NoticeSecrets

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
    config: Config,
    registry: Registry,
    store: Store,
    policy: Policy,
    credentials: Credentials | None = None,
    http: Http | None = None,
    logins: Logins,
    reactor: Any,
    datasets: Mapping[str, Named] | None = None,
    pages: Mapping[str, Page] = MappingProxyType({}),
    calls: Calls | None = None,
    interface: bool = True,
) -> Site:
    """Return the site that serves the interface, and ``pages`` by their paths; or these alone.

    Nothing is connected to or read before a request comes.
    """
    known = {name: method for namespace in NAMESPACES for name, method in namespace.TABLE.methods.items()}
    named, secrets = Datasets(datasets or {}), NoticeSecrets.from_config(config)
    context = Context(config, registry, store, policy, credentials, http, reactor, known, named, secrets)
    gate = Gate.from_config(config)
    door = Door(context, logins, calls)
    root = Nowhere(gate)
    for path, page in pages.items():
        put(root, path, PageResource(page, gate, door.admitted), lambda: NoPage(gate))
    for name in PATHS if interface else ():
        root.putChild(name, door)
    factory = partial(BoundedRequest, gate=gate, limit=config.limits.request_size)
    return QuietSite(root, requestFactory=factory, parsePOSTFormSubmission=False, reactor=reactor)  # type: ignore[no-untyped-call]


class QuietSite(Site):
    """A site that does not log every poll of every client; what is asked for and what goes wrong is logged."""

    noisy = False

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

    @property
    def certificate(self) -> Certificate | None:
        """What the client showed in the TLS handshake, where it showed one that holds."""
        if not ISSLTransport.providedBy(self.transport):
            return None
        shown: Any = self.transport.getPeerCertificate()
        return shown and shown.to_cryptography()  # type: ignore[no-any-return]

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's
        # The method is not known here to a Request; it is judged when the body is in.
        self.refusal = self._gate.refusal("POST", self.header)
        self.too_large = length is not None and length > self._limit
        anonymous = self._gate.login and not self.header("authorization") and self.certificate is None
        self._kept = not (self.refusal or self.too_large or anonymous)
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
        self.refusal = self.refusal or self._gate.refusal(self.method.decode("latin-1"), self.header)
        super().process()  # type: ignore[no-untyped-call]


class Nowhere(Resource):
    """Every path that is not the interface's."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gate = gate

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

    def __init__(self, context: Context, logins: Logins, calls: Calls | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._context = context
        self._calls = calls
        self._logins = logins
        clients = context.config.clients.items()
        self._callers = callers(context.config, context.methods)
        self._holders = Holders({client.certificate: name for name, client in clients if client.certificate})
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
        caller = await self._caller(request)
        if caller is None:
            request.setHeader(b"WWW-Authenticate", _REALM)
            refuse(request, Refusal(401, "The name or the password is missing or wrong."))
            return
        try:
            result = await self._call(caller, request)
        except RequestError as error:
            result = methods.fault(error)
        body = await self._context.in_slices(wire.answering(result))
        request.setHeader(b"Content-Type", b"text/xml; charset=utf-8")
        request.setHeader(b"Content-Length", b"%d" % len(body))
        request.write(body)
        request.finish()

    async def _call(self, caller: Caller, request: Any) -> Any:
        """Return the result of the call in the body, a Fault where it went wrong."""
        if request.too_large:
            limit = self._context.config.limits.request_size
            raise RequestTooLarge(f"the request is over {limit} bytes ([limits] request_size): send it in several")
        if request.content is None:
            raise InvalidRequest("the request has no body: expected an XML-RPC methodCall")
        if request.received <= SMALL:
            return await self._read_and_call(caller, request)
        await self._turns.acquire()
        try:
            return await self._read_and_call(caller, request)
        finally:
            self._turns.release()

    async def _read_and_call(self, caller: Caller, request: Any) -> Any:
        name, parameters = await self._context.in_slices(wire.reading(request.content))
        began, outcome = self._context.reactor.seconds(), "abandoned"
        try:
            result = await methods.call(self._context, caller, name, parameters)
            outcome = str(result.faultCode) if isinstance(result, Fault) else "ok"
        finally:
            if self._calls is not None:
                known = name if name in self._context.methods else "unknown"
                self._calls.called(known, outcome, self._context.reactor.seconds() - began)
        return result

    async def admitted(self, request: Any) -> Refusal | None:
        """Return why a page that is not for everybody is not shown, None for those who may watch."""
        caller = await self._caller(request)
        if caller is None:
            request.setHeader(b"WWW-Authenticate", _REALM)
            return Refusal(401, "The name or the password is missing or wrong.")
        if caller.administrator or caller.name in self._context.config.monitor.clients:
            return None
        return Refusal(403, "This page is for administrators and the clients that [monitor] names.")

    async def _caller(self, request: Any) -> Caller | None:
        if not self._context.config.clients:
            return LOCAL
        address = getattr(request.getClientAddress(), "host", "")
        authorization, certificate = request.header("authorization"), request.certificate
        if certificate is not None and not authorization:
            name = self._holders.name(certificate, address)
        else:
            login = _basic(authorization)
            name = None if login is None else await self._logins.check(*login, address)
        return None if name is None else self._callers[name]


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
