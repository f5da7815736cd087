"""``jobs.check``, ``destinations.*``, ``service.*`` and ``system.*`` as Python's own client sees them."""

from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, MultiCall

import pytest_twisted
from twisted.internet import reactor

from datamover import __version__
from datamover.config.schema import Credential, Sources
from tests.servers.door import Door, config_of, faulted, one
from tests.servers.web import File, Web


@pytest_twisted.ensureDeferred
async def test_while_the_database_is_away_nothing_is_promised(door: Door) -> None:
    """Calls that need it Fault with 1012, and service.status says that it is not ready."""
    door.store.ready = False
    assert (await faulted(door.ask(lambda s: s.jobs.submit(one())))).faultCode == 1012
    assert (await faulted(door.ask(lambda s: s.jobs.status(1)))).faultCode == 1012
    status = await door.ask(lambda s: s.service.status())
    assert status == {"version": __version__, "nodes": [], "queue": [], "rate": 0.0, "ready": False}
    assert "queued" not in (await door.ask(lambda s: s.destinations.describe("local")))


@pytest_twisted.ensureDeferred
async def test_the_service_tells_how_it_is(door: Door) -> None:
    """Nodes, queue and rate, and a warning once nine tenths of the ids are used."""
    await door.ask(lambda s: s.jobs.submit(one()))
    status = await door.ask(lambda s: s.service.status())
    assert status["queue"] == [{"destination": "archive", "pending": 1, "active": 0}]
    assert status["nodes"][0]["roles"] == ["api", "engine"]
    assert status["nodes"][0]["heartbeat_at"].endswith("Z")
    assert (status["ready"], status["rate"], "warnings" in status) == (True, 0.0, False)
    door.store.ids = 0.93
    assert "93%" in (await door.ask(lambda s: s.service.status()))["warnings"][0]


@pytest_twisted.ensureDeferred
async def test_destinations_are_told_and_tried(door: Door) -> None:
    """What a destination is, how busy, and whether it works, step by step."""
    await door.ask(lambda s: s.jobs.submit(one()))
    names = [told["name"] for told in await door.ask(lambda s: s.destinations.list())]
    told = await door.ask(lambda s: s.destinations.describe("archive"))
    assert names == ["local", "archive"]
    assert (told["name"], told["active"], told["queued"], told["max_active"]) == ("archive", 0, 1, 8)
    assert "write" in told["abilities"]
    tried = await door.ask(lambda s: s.destinations.test("archive"))
    assert tried["ok"] is True
    assert [step["step"] for step in tried["steps"]][-1] == "delete"
    assert all(isinstance(step["seconds"], float) for step in tried["steps"])


@pytest_twisted.ensureDeferred
async def test_a_check_looks_at_both_ends_and_makes_no_job(door: Door, tmp_path: Path) -> None:
    """It says what is there, what is not, and what would go wrong."""
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "a.csv").write_bytes(b"12345")
    (tmp_path / "archive" / "taken").mkdir(parents=True)
    files = [
        {"source": {"destination": "local", "path": path}, "destination": "archive", "path": target, **more}
        for path, target, more in (
            ("a.csv", "in/", {}),
            ("gone.csv", "b", {}),
            ("a.csv", "taken", {}),
            ("a.csv", "c", {"size": 6}),
        )
    ]
    told = await door.ask(lambda s: s.jobs.check({"files": files}))
    good, gone, taken, short = told["files"]
    assert told["ok"] is False
    assert good["problems"] == []
    assert (good["source"]["reachable"], good["source"]["size"], good["source"]["name"]) == (True, 5.0, "a.csv")
    assert (good["destination"]["writable"], good["destination"]["exists"]) == (True, False)
    assert good["destination"]["path"] == "in/a.csv"
    assert good["destination"]["free"] > 0
    assert gone["source"] == {"reachable": False}
    assert len(gone["problems"]) == len(taken["problems"]) == len(short["problems"]) == 1
    assert "directory" in taken["problems"][0]
    assert "5 bytes, expected 6" in short["problems"][0]
    assert not door.store.jobs_asked
    assert sorted(each.name for each in (tmp_path / "archive").iterdir()) == ["taken"]
    assert (await faulted(door.ask(lambda s: s.jobs.check(one(path="../x"))))).faultCode == 1004


@pytest_twisted.ensureDeferred
async def test_a_check_looks_at_urls_too(tmp_path: Path) -> None:
    """A URL that answers is reachable, with what it tells of itself; one that does not is a problem."""
    web = Web(reactor)
    web.route("/a.csv", File(b"12345", etag='"1"'))
    await web.start()
    door = Door(config_of(tmp_path, sources=Sources(allow=("http://127.0.0.1:*/",))))
    try:
        files = [one(source=f"{web.url}/{name}.csv?key=s3cret", path=name) for name in ("a", "gone")]
        told = await door.ask(lambda s: s.jobs.check({"files": files}))
    finally:
        await door.close()
        await web.stop()
    there, gone = told["files"]
    assert (there["source"]["reachable"], there["source"]["size"], there["problems"]) == (True, 5.0, [])
    assert gone["source"] == {"reachable": False}
    assert [problem.partition(":")[0] for problem in gone["problems"]] == ["source"]
    assert "s3cret" not in str(told)


@pytest_twisted.ensureDeferred
async def test_a_login_for_a_source_must_be_at_hand(tmp_path: Path) -> None:
    """A job whose source's password cannot be read is refused at once, and others are not."""
    secret = tmp_path / "token"
    credential = Credential(url="https://example.org/data/", token_file=secret)
    door = Door(config_of(tmp_path, sources=Sources(credentials=(credential,))))
    try:
        refused = await faulted(door.ask(lambda s: s.jobs.submit({"files": [one()]})))
        assert (await door.ask(lambda s: s.jobs.submit(one(source="https://example.org/open.csv"))))["created"]
        secret.write_text("t0ken\n")
        secret.chmod(0o600)
        assert (await door.ask(lambda s: s.jobs.submit(one())))["created"]
    finally:
        await door.close()
    assert refused.faultCode == 1012
    assert refused.faultString.startswith("files[0].source: ")
    assert str(secret) in refused.faultString


@pytest_twisted.ensureDeferred
async def test_the_interface_tells_of_itself(door: Door) -> None:
    """Every method that is listed has help and a signature."""

    def calls(s: Any) -> dict[str, tuple[Any, Any]]:
        names: Any = s.system.listMethods()
        return {name: (s.system.methodHelp(name), s.system.methodSignature(name)) for name in names}

    told = await door.ask(calls)
    assert {"jobs.submit", "jobs.events", "move", "check_move_status", "system.multicall"} <= told.keys()
    assert "jobs.pause" in told
    for name, (help_, signatures) in told.items():
        assert help_, name
        assert signatures, name
        assert all(isinstance(kind, str) for signature in signatures for kind in signature)
    assert told["jobs.status"][1] == told["checkMoveStatus"][1] == [["struct", "int"], ["struct", "string"]]
    waits = told["jobs.status"][1] + [
        ["struct", id_, seconds] for id_ in ("int", "string") for seconds in ("double", "int", "string")
    ]
    assert told["jobs.wait"][1] == waits


@pytest_twisted.ensureDeferred
async def test_one_bad_call_does_not_spoil_the_others(door: Door) -> None:
    """A multicall makes every call; one that fails leaves a fault in its place; none may hold another."""

    def calls(s: Any) -> list[Any]:
        several = MultiCall(s)
        several.jobs.submit(one())
        several.jobs.submit(one(colour="red"))
        several.system.multicall([])
        several.jobs.status(1)
        results = several()
        told: list[Any] = []
        for n in range(4):
            try:
                told.append(results[n])
            except Fault as fault:
                told.append(fault.faultCode)
        return told

    made, unknown, nested, status = await door.ask(calls)
    assert made["created"] is True
    assert (unknown, nested) == (1001, 1001)
    assert status["id"] == 1
    odd: Any = ["x", {"methodName": 5}, {"methodName": "jobs.list"}, {"methodName": "no.such", "params": []}]
    answers: Any = await door.ask(lambda s: s.system.multicall(odd))
    assert [answer["faultCode"] if isinstance(answer, dict) else "fine" for answer in answers] == [
        1001,
        1001,
        "fine",
        8001,
    ]
    too_many: Any = [{"methodName": "jobs.list", "params": []}] * 1001
    assert (await faulted(door.ask(lambda s: s.system.multicall(too_many)))).faultCode == 1013
