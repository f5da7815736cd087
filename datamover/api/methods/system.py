"""``system.*``: introspection, and several calls in one request."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any
from xmlrpc.client import Fault

from datamover.api.context import CallContext, Caller
from datamover.api.methods.calling import call
from datamover.api.methods.table import MethodTable, fault, find
from datamover.api.xmlrpc import wire
from datamover.api.xmlrpc.parameters import text
from datamover.bounds.calls import LARGEST_CHANGED, LONGEST_VALUE, MOST_CALLS
from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.requests.coercion import array, struct, told
from datamover.text.quantities import count

TABLE = MethodTable()

MULTICALL = "system.multicall"
NO_ROOM = fault(
    RequestTooLarge("there is no room left for this in the answer ([limits] answer_size): call it in another request")
)
_REFUSED = 400
"""Bytes of NO_ROOM in an answer."""
_FRAME = 1000
"""Bytes of an answer around the results."""


@TABLE.method("system.listMethods", "array")
async def list_methods(context: CallContext, caller: Caller) -> Any:
    """List the methods: system.listMethods() -> [name…].

    Returns an array of texts, sorted.
    Faults: 1001 INVALID_REQUEST.
    Example: system.listMethods() -> ['checkALAJobStatus', 'checkMoveStatus', 'jobs.status']
    """
    return sorted(context.methods)


@TABLE.method("system.methodHelp", "string string")
async def method_help(context: CallContext, caller: Caller, name: Any) -> Any:
    """Return the help of a method: system.methodHelp(name) -> text.

    name: a method, as system.listMethods names it.
    Returns lines of plain text: what the method does, its parameters, what it returns, its Faults, an example.
    Faults: 1001 INVALID_REQUEST, 8001 no such method.
    Example: system.methodHelp('jobs.cancel') -> 'Cancel a job: jobs.cancel(id) -> struct. …'
    """
    return find(context.methods, text(name, "name", LONGEST_VALUE)).help


@TABLE.method("system.methodSignature", "array string")
async def method_signature(context: CallContext, caller: Caller, name: Any) -> Any:
    """Return the signatures of a method: system.methodSignature(name) -> [[type…]…].

    name: a method, as system.listMethods names it.
    Returns an array of signatures: each is an array of the result's type and then those of the parameters.
    Faults: 1001 INVALID_REQUEST, 8001 no such method.
    Example: system.methodSignature('jobs.pause') -> [['struct', 'int'], ['struct', 'string']]
    """
    found = find(context.methods, text(name, "name", LONGEST_VALUE))
    return [list(signature) for signature in found.signatures]


@TABLE.method(MULTICALL, "array array", abandoned=True, many=True)
async def multicall(context: CallContext, caller: Caller, calls: Any) -> Any:
    """Make several calls, one after the other: system.multicall(calls) -> [result…].

    calls: an array of at most 1,000 structs {methodName, params}. None may be system.multicall.
    Returns an array with a result for each call, in their order: an array of the one value, or {faultCode, faultString}
    for a call that failed; the others are made all the same. A result that no longer fits into the answer is 1013, and
    its call is not made if that is known before.
    Faults: 1001 INVALID_REQUEST, 1013 REQUEST_TOO_LARGE.
    Example: system.multicall([{'methodName': 'jobs.status', 'params': [99]}])
    -> [{'faultCode': 1007, 'faultString': 'there is no job 99'}]
    """
    listed = array(calls)
    if listed is None:
        raise InvalidRequest(f"{told(calls)}: expected an array of {{methodName, params}}")
    if len(listed) > MOST_CALLS:
        raise RequestTooLarge(f"{count(len(listed), 'call')}: expected at most {MOST_CALLS}; send several requests")
    results = _Results(context, len(listed))
    for one in listed:
        room = results.room
        result = await _one(replace(context, room=room), caller, one) if room > LARGEST_CHANGED else NO_ROOM
        await results.add(result)
        del result
        context.place.give()
    return results.whole


class _Results:
    """The results of a multicall's calls, together no larger than one answer may be."""

    def __init__(self, context: CallContext, calls: int) -> None:
        self._context = context
        self._answer = wire.AnswerBody(context.answer_size - _FRAME, pages=False, reach=context.answers.reach)
        self._answer.add(wire.ARRAY)
        self._left = calls
        """Calls whose results are not in the answer yet; room for NO_ROOM is kept for each."""

    @property
    def room(self) -> int:
        """The largest next result, in bytes."""
        return self._answer.most - self._answer.size - self._left * _REFUSED

    async def add(self, result: Any) -> None:
        """Write a result, or NO_ROOM if it does not fit."""
        answer, most = self._answer, self._answer.most
        size, pieces = answer.size, len(answer.pieces)
        self._left -= 1
        answer.most -= self._left * _REFUSED
        try:
            await self._context.in_slices(self._writing(result))
        except RequestTooLarge:
            answer.cut(size, pieces)
            await self._context.in_slices(self._writing(NO_ROOM))
        finally:
            answer.most = most

    def _writing(self, result: Any) -> Generator[None, None, None]:
        if isinstance(result, Fault):
            yield from self._answer.writing({"faultCode": result.faultCode, "faultString": result.faultString})
        else:
            self._answer.add(wire.ARRAY)
            yield from self._answer.writing(result)
            self._answer.add(wire.ARRAY_ENDS)

    @property
    def whole(self) -> wire.Serialized:
        return wire.Serialized([*self._answer.pieces, wire.ARRAY_ENDS])


async def _one(context: CallContext, caller: Caller, one: Any) -> Any:
    table = struct(one) or {}
    name, parameters = table.get("methodName"), array(table.get("params", []))
    if not isinstance(name, str) or parameters is None:
        return fault(InvalidRequest(f"{told(one)}: expected {{methodName, params}}"))
    if name == MULTICALL:
        return fault(InvalidRequest("a multicall cannot hold another"))
    return await call(context, caller, name, tuple(parameters))
