"""The table of methods, and how one of them is called.

Each module of a namespace declares its methods once, with signature, help and who may call them; the dispatcher, and
``system.*``, read that. Errors become Faults here.
"""

import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from inspect import cleandoc, signature
from itertools import product
from typing import Any
from xmlrpc.client import Fault

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.api.context import Caller, Context
from datamover.bounds import FEW_ELEMENTS, LONGEST_SUBJECT, MOST_ELEMENTS, cut
from datamover.errors import InvalidRequest, NotPermitted, RequestError, Unavailable
from datamover.jobs.audit import Deed
from datamover.jobs.coercion import text
from datamover.jobs.connection import AWAY

log = Logger()

NO_SUCH_METHOD = 8001
BUG = 8002

Refuse = Callable[[RequestError], Any]
"""Makes an answer of a refusal."""
Run = Callable[..., Coroutine[Any, Any, Any]]
Signature = tuple[str, ...]
"""The type of the result, then those of the parameters."""
_SEVERAL = {"id": ("int", "string"), "seconds": ("double", "int", "string")}


def fault(error: RequestError) -> Fault:
    """Return what a client is told of a refusal."""
    return Fault(error.fault, error.message)


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the interface."""

    name: str
    signatures: tuple[Signature, ...]
    run: Run
    """Called with the context, the caller and the parameters."""
    administrator: bool = False
    lenient: bool = False
    """A missing parameter counts as nil: the method has its own words for it."""
    audited: bool = False
    """Every call is recorded, with its first parameter."""
    refuse: Refuse = fault
    abandoned: bool = False
    """Cancelled when its client goes away; any other is done to its end."""
    many: bool = False
    """Its parameters name files, or calls, by the thousand."""

    @property
    def parameters(self) -> list[str]:
        """Their names."""
        return list(signature(self.run).parameters)[2:]

    @property
    def help(self) -> str:
        return cleandoc(self.run.__doc__ or "")


def most_elements(methods: Mapping[str, Method], name: str | None) -> int:
    """Return how many elements the body of a call may have; ``name`` None is not known yet."""
    method = methods.get(name or "")
    return MOST_ELEMENTS if method is not None and method.many else FEW_ELEMENTS


class Table:
    """The methods of one namespace, in the order of their declaration."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}

    def method(self, name: str, *signatures: str, **rules: Any) -> Callable[[Run], Run]:
        """Declare a coroutine function as a method; a signature is written "struct id seconds", the result first.

        ``id`` and ``seconds`` stand for the types that they may be given as. ``rules`` are those of ``Method``.
        """

        def declare(run: Run) -> Run:
            parsed = tuple(
                types
                for signature in signatures
                for types in product(*(_SEVERAL.get(word, (word,)) for word in signature.split()))
            )
            self.methods[name] = Method(name, parsed, run, **rules)
            return run

        return declare


def find(methods: Mapping[str, Method], name: str) -> Method:
    """Return a method; raises Fault 8001 for one that does not exist."""
    method = methods.get(name)
    if method is not None:
        return method
    raise Fault(NO_SUCH_METHOD, f"there is no method {name[:100]!r}: system.listMethods names those there are")


async def call(context: Context, caller: Caller, name: str, parameters: tuple[Any, ...]) -> Any:
    """Return a method's result, or a Fault; raises only what means that nobody waits for it any more."""
    refuse: Refuse = fault
    try:
        method = find(context.methods, name)
        fitting = _fitting(method, parameters)
        refuse = method.refuse
        _check_caller(method, caller)
        running = method.run(context, caller, *fitting)
        if method.audited:
            running = context.audit.done(_deed(caller, name, parameters), running)
        return await (running if method.abandoned else _whole(running, name))
    except Fault as refusal:
        return refusal
    except NotPermitted as error:
        await context.audit.refused(replace(_deed(caller, name, parameters), outcome=error.code))
        return refuse(error)
    except RequestError as error:
        return refuse(_for(caller, error))
    except CancelledError:
        raise
    except Exception:
        # Whatever else is raised is a bug, and the next call must be served all the same.
        return bug(name)


def _for(caller: Caller, error: RequestError) -> RequestError:
    """Return a refusal in the words that are for whom it is told."""
    if caller.administrator:
        return error.for_administrators()
    # Where the database is, and what it says, is none of a client's business.
    return error.saying(AWAY) if isinstance(error, Unavailable) and error.message.startswith(AWAY) else error


async def _whole(running: Coroutine[Any, Any, Any], name: str) -> Any:
    """Return what ``running`` returns; being cancelled ends the waiting for it, not what it does."""
    outer: Deferred[Any] = Deferred()

    def ended(result: Any) -> None:
        if not outer.called:
            outer.callback(result)
        elif isinstance(result, Failure) and not isinstance(result.value, RequestError | Fault):
            bug(name, result)

    Deferred.fromCoroutine(running).addBoth(ended)
    return await outer


def _deed(caller: Caller, name: str, parameters: tuple[Any, ...]) -> Deed:
    plain = [text(one) for one in parameters[:2]]
    subject = " ".join(cut(each, LONGEST_SUBJECT) for each in plain if each is not None)
    return Deed(caller.name, caller.origin, name, cut(subject, LONGEST_SUBJECT))


def _check_caller(method: Method, caller: Caller) -> None:
    caller.check_method(method.name)
    if method.administrator and not caller.administrator:
        raise NotPermitted(f"{method.name} is an administrator's to call")


def _fitting(method: Method, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the parameters if a signature takes as many; raises InvalidRequest. Nil is a missing one."""
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
    expected = " or ".join(str(count) for count in counts)
    raise InvalidRequest(f"{method.name}: {len(parameters)} parameters: expected {expected}; see system.methodHelp")


def bug(where: str, failure: Failure | None = None) -> Fault:
    """Log a bug with its traceback under a reference, and return the Fault that names the reference alone.

    Without a ``failure`` it is the exception that is being handled.
    """
    reference = secrets.token_hex(4)
    log.failure("bug {reference} in {where}", failure, reference=reference, where=where)
    return Fault(BUG, f"an error of datamover's own: its log tells more under the reference {reference}")
