"""What a client may: its methods, its sources, its destinations, and its own jobs alone, in a real PostgreSQL."""

import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from datamover.api.allowance import HOUR, Allowance
from datamover.api.callers import callers
from datamover.api.site import NAMESPACES
from datamover.config.schema import Client, Config, Limits
from datamover.errors import ConfigError
from tests.fakes import PlainLogins
from tests.servers.door import Door, config_of, one, stored

METHODS = {name: method for namespace in NAMESPACES for name, method in namespace.TABLE.methods.items()}
CLIENTS = {
    "portal": Client(password_hash="x"),
    "other": Client(password_hash="x"),
    "watcher": Client(password_hash="x", methods=("jobs.status", "jobs.list", "checkMoveStatus")),
    "reader": Client(password_hash="x", sources=("https://example.org/open/", "gbif://")),
    "nobody": Client(password_hash="x", methods=(), sources=(), destinations=()),
    "boss": Client(password_hash="x", admin=True, methods=("jobs.*",)),
}


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """The interface with the real store and the clients above; each client's password is its name."""
    logins = PlainLogins({name: name for name in CLIENTS})
    async with stored(config_of(tmp_path, clients=CLIENTS), tmp_path, logins=logins) as door:
        yield door


async def told(door: Door, client: str, calls: Callable[[Any], Any]) -> Any:
    """Return what a client is answered: a Fault, or a refusal in the original's words, as its code and its text."""
    try:
        answer = await door.ask(calls, login=f"{client}:{client}")
    except Fault as fault:
        return fault.faultCode, fault.faultString
    if isinstance(answer, dict) and answer.get("status") == "REJECTED":
        return "REJECTED", answer["reason"]
    return answer


BY_ID: dict[str, Callable[..., Any]] = {
    "jobs.status": lambda s, id: s.jobs.status(id),
    "jobs.files": lambda s, id: s.jobs.files(id, {}),
    "jobs.wait": lambda s, id: s.jobs.wait(id, 0),
    "jobs.cancel": lambda s, id: s.jobs.cancel(id),
    "jobs.pause": lambda s, id: s.jobs.pause(id),
    "jobs.resume": lambda s, id: s.jobs.resume(id),
    "jobs.retry": lambda s, id: s.jobs.retry(id),
    "jobs.renotify": lambda s, id: s.jobs.renotify(id),
    "jobs.events": lambda s, id: s.jobs.events({"job": id}),
    "checkMoveStatus": lambda s, id: s.checkMoveStatus(id),
    "check_move_status": lambda s, id: s.check_move_status(str(id)),
    "checkALAJobStatus": lambda s, id: s.checkALAJobStatus(id),
}


def test_every_method_with_an_id_is_here() -> None:
    """The table above leaves none out: a method takes an id if its help says so."""
    assert {name for name, method in METHODS.items() if f"{name}(id" in method.help} <= set(BY_ID)
    assert "jobs.status" in BY_ID


@pytest_twisted.ensureDeferred
async def test_others_jobs_do_not_exist(door: Door) -> None:
    """Whatever is asked of another's job is answered as it is for one that never was, and does nothing to it."""
    made = await told(door, "portal", lambda s: s.jobs.submit(one(request_id="r")))
    before = await told(door, "portal", lambda s: s.jobs.status(made["id"]))
    missing = made["id"] + 1000
    for name, ask in BY_ID.items():
        theirs = await told(door, "other", partial(ask, id=made["id"]))
        nobodys = await told(door, "other", partial(ask, id=missing))
        assert str(theirs).replace(f"job {made['id']}", "job N") == str(nobodys).replace(f"job {missing}", "job N")
        assert name == "jobs.events" or theirs[0] in (1007, "REJECTED"), name
    after = await told(door, "portal", lambda s: s.jobs.status(made["id"]))
    assert {**after, "waiting_for": ""} == {**before, "waiting_for": ""}
    assert await told(door, "other", lambda s: s.jobs.list()) == []
    assert (await told(door, "other", lambda s: s.jobs.events()))["events"] == []
    # The same request_id is another client's to use.
    assert (await told(door, "other", lambda s: s.jobs.submit(one(request_id="r", path="b"))))["created"]


@pytest.mark.parametrize(
    ("client", "calls", "code", "words"),
    [
        ("watcher", lambda s: s.jobs.list(), None, ""),
        ("watcher", lambda s: s.system.listMethods(), None, ""),
        ("watcher", lambda s: s.jobs.submit(one()), 1006, "client 'watcher' may not call jobs.submit"),
        ("watcher", lambda s: s.jobs.statuses(), 8001, "there is no method"),
        ("watcher", lambda s: s.service.drain(), 1006, "may not call service.drain"),
        ("watcher", lambda s: s.checkMoveStatus(9), "REJECTED", "Job does not exist"),
        ("watcher", lambda s: s.check_move_status(9), "REJECTED", "client 'watcher' may not call check_move_status"),
        ("watcher", lambda s: s.move("https://example.org/a", "scp://archive/a"), "REJECTED", "may not call move"),
        ("boss", lambda s: s.jobs.list(), None, ""),
        ("boss", lambda s: s.destinations.list(), 1006, "may not call destinations.list"),
        ("nobody", lambda s: s.system.methodHelp("jobs.submit"), None, ""),
        ("nobody", lambda s: s.service.status(), 1006, "may not call service.status"),
        ("reader", lambda s: s.jobs.submit(one(source="https://example.org/open/a")), None, ""),
        ("reader", lambda s: s.jobs.submit(one(source="https://example.org/shut/a")), 1005, "for client 'reader'"),
        ("reader", lambda s: s.jobs.submit(one(source="https://example.org/open/../a")), 1005, "for client 'reader'"),
        ("reader", lambda s: s.jobs.submit(one(source="https://other.org/open/a")), 1005, "for client 'reader'"),
        ("reader", lambda s: s.jobs.submit_many([one(source="https://other.org/a")]), 1005, "requests[0]"),
        ("reader", lambda s: s.jobs.check(one(source="https://other.org/a?k=s3cret")), 1005, "other.org/a?k=***"),
        ("reader", lambda s: s.jobs.submit(one(source={"destination": "local", "path": "a"})), None, ""),
        ("reader", lambda s: s.move("https://other.org/a", "scp://archive/a"), "REJECTED", "for client 'reader'"),
        ("reader", lambda s: s.move("https://example.org/open/a", "scp://archive/a"), None, ""),
        ("portal", lambda s: s.jobs.submit(one(source="https://other.org/a")), None, ""),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_client_may(
    door: Door, client: str, calls: Callable[[Any], Any], code: int | str | None, words: str
) -> None:
    """A client calls the methods and names the sources that its table allows, the original's methods too."""
    answer = await told(door, client, calls)
    if code is None:
        assert not isinstance(answer, tuple), answer
    else:
        assert answer[0] == code
        assert words in answer[1]


@pytest_twisted.ensureDeferred
async def test_a_multicall_opens_nothing(door: Door) -> None:
    """Each of its calls is held against the client's methods."""
    calls = [
        {"methodName": "jobs.list", "params": []},
        {"methodName": "jobs.cancel", "params": [1]},
        {"methodName": "move", "params": ["https://example.org/a", "scp://archive/a"]},
    ]
    first, second, third = await told(door, "watcher", lambda s: s.system.multicall(calls))
    assert first == [[]]
    assert second["faultCode"] == 1006
    assert third[0]["status"] == "REJECTED"


@pytest.mark.parametrize(
    ("client", "sentence"),
    [
        (Client(methods=("jobs.stop",)), "clients.x.methods = 'jobs.stop': expected a method's name, or such as"),
        (Client(methods=("*",)), "clients.x.methods = '*': expected"),
        (Client(methods=("job*",)), "clients.x.methods = 'job*': expected"),
        (Client(sources=("ftp://x/",)), "clients.x.sources = 'ftp://x/': expected a rule such as"),
        (Client(sources=("ala",)), "clients.x.sources = 'ala': expected a rule such as"),
    ],
)
def test_permissions_that_are_none(client: Client, sentence: str) -> None:
    """An unknown method or an invalid rule prevents the start, and the error says what was expected."""
    with pytest.raises(ConfigError) as refusal:
        callers(Config(clients={"x": client}), METHODS)
    assert sentence in refusal.value.message


def test_datasets_are_sources_too() -> None:
    """Where a client's sources are named, a dataset is one of them or is refused."""
    rights = callers(Config(clients={"x": CLIENTS["reader"], "y": CLIENTS["portal"], "z": CLIENTS["nobody"]}), METHODS)
    assert [rights[name].datasets for name in "xyz"] == [{"gbif"}, None, set()]


def of_job(method: str, id: int, server: Any) -> Any:
    return getattr(server.jobs, method)(id)


@pytest_twisted.ensureDeferred
async def test_changes_in_an_hour(tmp_path: Path) -> None:
    """A client that changes a job in a loop leaves so many rows and no more; another goes on, and an administrator."""
    limits, logins = Limits(changes=4), PlainLogins({name: name for name in CLIENTS})
    async with stored(config_of(tmp_path, clients=CLIENTS, limits=limits), tmp_path, logins=logins) as door:
        ids = {who: (await told(door, who, lambda s: s.jobs.submit(one())))["id"] for who in ("portal", "other")}
        answers = [
            await told(door, "portal", partial(of_job, change, ids["portal"]))
            for change in ("pause", "resume", "pause", "resume", "pause", "renotify", "cancel")
        ]
        assert [type(answer) for answer in answers] == [dict] * 4 + [tuple] * 3
        assert answers[4][0] == 1012
        refusal = r"jobs.pause: this client has changed jobs 4 times within an hour \(\[limits\] changes\)"
        assert re.fullmatch(rf"{refusal}: ask again in (89\d|900) s", answers[4][1])
        for who in ("other", "boss"):
            assert (await told(door, who, lambda s: s.jobs.pause(ids["other"])))["paused"]
        events = (await told(door, "portal", lambda s: s.jobs.events({"job": ids["portal"]})))["events"]
        assert [event["kind"] for event in events].count("paused") == 2


@pytest_twisted.ensureDeferred
async def test_files_in_an_hour(tmp_path: Path) -> None:
    """A client that submits without end fills the tables so far and no further; others go on, whatever is repeated."""
    limits, logins = Limits(submitted=5), PlainLogins({name: name for name in CLIENTS})
    door = Door(config_of(tmp_path, clients=CLIENTS, limits=limits), logins=logins)
    try:
        both = [one(path="a"), one(path="b", request_id="b")]
        answers = [await told(door, "portal", lambda s: s.jobs.submit_many(both)) for _ in range(4)]
        assert [type(answer) for answer in answers] == [list, list, list, tuple]
        assert answers[3][0] == 1012
        refusal = r"this client has submitted 5 files within an hour \(\[limits\] submitted\): ask again in 7[012]\d s"
        assert re.fullmatch(refusal, answers[3][1])
        for who in ("other", "boss", "boss"):
            assert len(await told(door, who, lambda s: s.jobs.submit_many([one(path=f"{n}") for n in range(5)]))) == 5
    finally:
        await door.close()


def submitted(files: int, server: Any) -> Any:
    """Submit so many files, each a job of its own."""
    return server.jobs.submit_many([one(path=f"{n}") for n in range(files)])


@pytest_twisted.ensureDeferred
async def test_more_files_than_an_hour_allows(tmp_path: Path) -> None:
    """A call that no hour has room for is refused, says what to do, and gives its client nothing back."""
    limits, logins = Limits(submitted=5), PlainLogins({name: name for name in CLIENTS})
    door = Door(config_of(tmp_path, clients=CLIENTS, limits=limits), logins=logins)
    try:
        for files in (4, 6, 2):
            answer = await told(door, "portal", partial(submitted, files))
            if files == 4:
                assert len(answer) == 4
            elif files == 6:
                assert answer == (
                    1013,
                    "6 files in one call, and a client may submit 5 within an hour ([limits] submitted): send fewer "
                    "at a time, or ask the administrator for more",
                )
            else:
                assert answer[0] == 1012
        assert len(await told(door, "boss", partial(submitted, 6))) == 6
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_what_was_not_stored_is_not_counted(tmp_path: Path) -> None:
    """A call that fails gives back what was counted for it, and no more."""
    limits, logins = Limits(submitted=5), PlainLogins({name: name for name in CLIENTS})
    config = config_of(tmp_path, clients=CLIENTS, limits=limits)
    async with stored(config, tmp_path, logins=logins) as door:
        first, *more = (one(path=f"{n}", request_id="r") for n in range(5))
        assert (await told(door, "portal", lambda s: s.jobs.submit(first)))["created"]
        for _ in range(3):
            answer = await told(door, "portal", lambda s: s.jobs.submit_many(more))
            assert answer[0] == 1010
        assert (await told(door, "portal", partial(submitted, 5)))[0] == 1012
        assert len(await told(door, "portal", partial(submitted, 4))) == 4


def test_changes_come_back() -> None:
    """Little by little, so that no hour sees more than twice of them, and what was not used is not saved."""
    clock = Clock()
    allowance = Allowance(clock.seconds, lambda: 60)
    clock.advance(10 * HOUR)
    assert [allowance.take("a") for _ in range(60)] == [0] * 60
    assert allowance.take("a") == 60
    assert not allowance.take("b")
    clock.advance(90)
    assert not allowance.take("a")
    assert allowance.take("a") == 30
