"""``system.*``: what methods there are, and several calls in one."""

from typing import Any
from xmlrpc.client import Fault

from datamover.api import methods
from datamover.api.context import Caller, Context
from datamover.api.parameters import text
from datamover.errors import InvalidRequest, RequestTooLarge
from datamover.jobs.coercion import array, struct, told

TABLE = methods.Table()

MOST_CALLS = 1000
MULTICALL = "system.multicall"


@TABLE.method("system.listMethods", "array")
async def list_methods(context: Context, caller: Caller) -> Any:
    """Name every method: system.listMethods() -> [name…]."""
    return sorted(context.methods)


@TABLE.method("system.methodHelp", "string string")
async def method_help(context: Context, caller: Caller, name: Any) -> Any:
    """Tell what a method does: system.methodHelp(name) -> text."""
    return methods.find(context.methods, text(name, "name")).help


@TABLE.method("system.methodSignature", "array string")
async def method_signature(context: Context, caller: Caller, name: Any) -> Any:
    """Tell what a method takes: system.methodSignature(name) -> [[type of the result, types of the parameters…]…]."""
    found = methods.find(context.methods, text(name, "name"))
    return [list(signature) for signature in found.signatures]


@TABLE.method(MULTICALL, "array array", abandoned=True)
async def multicall(context: Context, caller: Caller, calls: Any) -> Any:
    """Make several calls, one after the other: system.multicall([{methodName, params}…]) -> [result…].

    A result is an array of the one value, or {faultCode, faultString} for a call that failed, which does not keep the
    others from being made. No multicall within another; 1,000 calls at most.
    """
    listed = array(calls)
    if listed is None:
        raise InvalidRequest(f"{told(calls)}: expected an array of {{methodName, params}}")
    if len(listed) > MOST_CALLS:
        raise RequestTooLarge(f"{len(listed)} calls: expected at most {MOST_CALLS}; send several requests")
    results: list[Any] = []
    for one in listed:
        result = await _one(context, caller, one)
        if isinstance(result, Fault):
            results.append({"faultCode": result.faultCode, "faultString": result.faultString})
        else:
            results.append([result])
    return results


async def _one(context: Context, caller: Caller, one: Any) -> Any:
    table = struct(one) or {}
    name, parameters = table.get("methodName"), array(table.get("params", []))
    if not isinstance(name, str) or parameters is None:
        return methods.fault(InvalidRequest(f"{told(one)}: expected {{methodName, params}}"))
    if name == MULTICALL:
        return methods.fault(InvalidRequest("a multicall cannot hold another"))
    return await methods.call(context, caller, name, tuple(parameters))
