"""Call a method: check the caller and the parameters, record it in the audit trail, and turn errors into Faults."""

import secrets
from collections.abc import Coroutine
from dataclasses import replace
from math import ceil
from typing import Any
from xmlrpc.client import Fault

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.api.context import CallContext, Caller
from datamover.api.methods.table import Method, Refuse, fault, find
from datamover.audit.trail import AuditEvent
from datamover.bounds.calls import LONGEST_SUBJECT
from datamover.errors import DatabaseAway, InvalidRequest, NotPermitted, RequestError, Unavailable
from datamover.requests.coercion import text
from datamover.text.quantities import count
from datamover.text.quoting import cut

log = Logger()

BUG = 8002


async def call(context: CallContext, caller: Caller, name: str, parameters: tuple[Any, ...]) -> Any:
    """Return a method's result, or a Fault; raises nothing but CancelledError."""
    refuse: Refuse = fault
    try:
        method = find(context.methods, name)
        fitting = _fitting(method, parameters)
        refuse = method.refuse
        _check_caller(method, caller)
        if method.audited and not caller.administrator:
            await _check_changes(context, caller, name, parameters)
        running = _run(context, method, caller, fitting)
        if method.audited:
            running = context.audit.done(_deed(caller, name, parameters), running)
        return await (running if method.abandoned else _whole(running, name))
    except Fault as refusal:
        return refusal
    except NotPermitted as error:
        await context.audit.refused(replace(_deed(caller, name, parameters), outcome=error.code))
        return refuse(error)
    except RequestError as error:
        return refuse(error.for_administrators() if caller.administrator else error)
    except CancelledError:
        raise
    except Exception:
        # Every other exception is a bug; the next call must be served all the same.
        return bug(name)


async def _run(context: CallContext, method: Method, caller: Caller, parameters: tuple[Any, ...]) -> Any:
    """Run a method; if the database is away, wait for it a while and run the method again, as nothing was stored."""
    while True:
        try:
            return await method.run(context, caller, *parameters)
        except DatabaseAway:
            if context.database_back is None or not await context.database_back(context.began):
                raise


async def _whole(running: Coroutine[Any, Any, Any], name: str) -> Any:
    """Return what ``running`` returns. Cancelling stops the wait, not ``running`` itself."""
    outer: Deferred[Any] = Deferred()

    def ended(result: Any) -> None:
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure) and not isinstance(result.value, RequestError | Fault):
            bug(name, result)

    Deferred.fromCoroutine(running).addBoth(ended)
    return await outer


def _deed(caller: Caller, name: str, parameters: tuple[Any, ...]) -> AuditEvent:
    plain = [text(one) for one in parameters[:2]]
    subject = " ".join(cut(each, LONGEST_SUBJECT) for each in plain if each is not None)
    return AuditEvent(caller.name, caller.origin, name, cut(subject, LONGEST_SUBJECT))


async def _check_changes(context: CallContext, caller: Caller, name: str, parameters: tuple[Any, ...]) -> None:
    """Raise Unavailable for a client that has called methods that change jobs too often: each call leaves rows."""
    if wait := context.changes.take(caller.key):
        await context.audit.refused(replace(_deed(caller, name, parameters), outcome=Unavailable.code))
        raise Unavailable(
            f"{name}: this client has changed jobs {context.config.limits.changes:,} times within an hour ([limits] "
            f"changes): ask again in {ceil(wait)} s"
        )


def _check_caller(method: Method, caller: Caller) -> None:
    caller.check_method(method.name)
    if method.administrator and not caller.administrator:
        raise NotPermitted(f"{method.name} is an administrator's to call")


def _fitting(method: Method, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the parameters if a signature takes as many; raises InvalidRequest. Nil counts as missing."""
    counts = sorted({len(signature) - 1 for signature in method.signatures})
    while len(parameters) > counts[0] and parameters[-1] is None:
        parameters = parameters[:-1]
    if method.lenient and len(parameters) <= counts[-1]:
        return parameters + (None,) * (counts[-1] - len(parameters))
    if len(parameters) in counts:
        if None in parameters[: counts[0]]:
            missing = method.parameters[parameters.index(None)]
            raise InvalidRequest(f"{missing}: missing; see system.methodHelp")
        return parameters
    expected = " or ".join(map(str, counts))
    given = count(len(parameters), "parameter")
    raise InvalidRequest(f"{method.name}: {given}: expected {expected}; see system.methodHelp")


def bug(where: str, failure: Failure | None = None) -> Fault:
    """Log a bug with its traceback under a reference, and return a Fault that names the reference alone.

    ``failure`` None stands for the exception that is being handled.
    """
    reference = secrets.token_hex(4)
    log.failure("bug {reference} in {where}", failure, reference=reference, where=where)
    return Fault(BUG, f"an internal error of datamover: its log has the details under the reference {reference}")
