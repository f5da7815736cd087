"""What ``system.methodHelp`` and ``system.methodSignature`` tell, held against what the methods do."""

import ast
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.api.methods.calling import BUG
from datamover.api.methods.table import NO_SUCH_METHOD
from datamover.api.site import METHODS
from datamover.bounds.calls import DEFAULT_WAIT
from datamover.errors import RequestError
from datamover.jobs.values import JobRecord, State
from tests.fakes import MemoryJobStore
from tests.servers.door import Door, config_of, faulted, one

FAULTS = {
    each.fault: each.code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, RequestError)
}
TYPES: dict[str, Any] = {"array": list, "boolean": bool, "string": str, "struct": dict}


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    door = Door(config_of(tmp_path, "archive", "visualiser"))
    yield door
    await door.close()


def help_of(name: str) -> str:
    told: str = METHODS[name].help
    return told


def example(name: str) -> tuple[ast.Call, Any]:
    """Return the call that a help shows, and its answer."""
    shown = help_of(name).partition("\nExample: ")[2].replace("\n", " ")
    call, _, answer = shown.partition(" -> ")
    parsed = ast.parse(call, mode="eval").body
    assert isinstance(parsed, ast.Call), shown
    return parsed, ast.literal_eval(answer)


@pytest.mark.parametrize("name", METHODS)
def test_help_tells_everything(name: str) -> None:
    """Every method's help says what it does and tells each parameter, what is returned, the Faults and an example."""
    first, empty, *lines = help_of(name).splitlines()
    parameters = METHODS[name].parameters
    assert f": {name}({', '.join(parameters)})" in first or f"{name}(" in first, first
    assert empty == ""
    heads = [line.partition(":")[0] for line in lines if re.match(r"\w+: ", line)]
    assert [head for head in heads if head not in ("Faults", "Example")] == parameters
    assert sum(line.startswith("Returns ") for line in lines) == 1
    assert heads[-2:] == ["Faults", "Example"]
    called = ast.unparse(example(name)[0].func)
    assert called == name or METHODS[called].run is METHODS[name].run


@pytest.mark.parametrize("name", METHODS)
def test_help_names_faults_by_their_names(name: str) -> None:
    """The codes and names that a help tells are those of the interface."""
    told = help_of(name).partition("\nFaults: ")[2].partition("\nExample: ")[0]
    for code, word in re.findall(r"\b([18]\d{3})\s+([A-Z_]{4,}|no such method)", told):
        assert FAULTS.get(int(code), "no such method") == word
        assert int(code) in FAULTS or int(code) == NO_SUCH_METHOD
    assert str(BUG) not in told


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if {*method.parameters} & {"options", "request"}]
)
@pytest_twisted.ensureDeferred
async def test_help_names_every_key(door: Door, name: str) -> None:
    """Every key of a struct that a method takes is in its help, or the help names the method that tells them."""
    given = [{"?": 1} if parameter in ("options", "request") else 1 for parameter in METHODS[name].parameters]
    refused = await faulted(door.ask(lambda s: getattr(s, name)(*given)))
    keys = re.fullmatch(r"\?: unknown key; there are: (.*)", refused.faultString)
    assert keys is not None, refused
    text = help_of(name if name != "jobs.check" else "jobs.submit")
    for key in keys[1].split(", "):
        assert re.search(rf"\b{key}\b", text), key


@pytest_twisted.ensureDeferred
async def test_help_s_examples_can_be_called(door: Door) -> None:
    """An example is answered by the type that the signature tells, or by a Fault that the help names."""
    await door.ask(lambda s: s.jobs.submit_many([one(path=f"job-{number}", size=1) for number in range(12)]))
    door.store.change(12, state=State.COMPLETED)
    for name in METHODS:
        call, answer = example(name)
        parameters = [ast.literal_eval(each) for each in call.args]
        answered = await door.ask(partial(answer_of, name, parameters))
        (kind,) = {TYPES[signature[0]] for signature in METHODS[name].signatures}
        assert type(answer) is kind, name
        if isinstance(answered, Fault):
            assert str(answered.faultCode) in help_of(name), answered
            assert answered.faultCode != 1001 or name in ("service.drain", "service.reload"), answered
        else:
            assert type(answered) is kind, name
            if kind is dict and name != "pullOccurrenceFromALA":  # it is not configured here
                assert set(answer) <= set(answered), name


def answer_of(name: str, parameters: list[Any], s: Any) -> Any:
    try:
        return getattr(s, name)(*parameters)
    except Fault as fault:
        return fault


@dataclass
class Waited(MemoryJobStore):
    """A store that answers at once, and remembers how long it was to wait."""

    seconds: float | None = None

    async def wait(self, id: int, timeout: float, owner: str | None = None) -> JobRecord:  # noqa: ASYNC109
        self.seconds = timeout
        return await super().wait(id, 0.0, owner)


@pytest_twisted.ensureDeferred
async def test_the_wait_that_is_told_is_the_wait_that_is_done(tmp_path: Path) -> None:
    """jobs.wait without a timeout waits as long as its help says."""
    store = Waited(reactor)
    door = Door(config_of(tmp_path), store=store)
    try:
        await door.ask(lambda s: [s.jobs.submit(one()), s.jobs.wait(1)])
    finally:
        await door.close()
    assert store.seconds == DEFAULT_WAIT
    assert f"; {DEFAULT_WAIT:.0f} if it is left out" in help_of("jobs.wait")


@pytest_twisted.ensureDeferred
async def test_help_is_told_over_the_wire(door: Door) -> None:
    """system.listMethods, methodHelp and methodSignature tell of every method."""

    def calls(s: Any) -> None:
        names = s.system.listMethods()
        assert names == sorted(METHODS)
        for name in names:
            assert s.system.methodHelp(name) == help_of(name)
            assert s.system.methodSignature(name) == [list(each) for each in METHODS[name].signatures]

    await door.ask(calls)
    assert (await faulted(door.ask(lambda s: s.system.methodHelp("nix")))).faultCode == NO_SUCH_METHOD
