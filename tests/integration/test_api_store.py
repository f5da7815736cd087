"""The interface with the job store in a real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tests.servers.door import URL, Door, config_of, faulted, one, stored


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with stored(config_of(tmp_path), tmp_path) as door:
        yield door


@pytest_twisted.ensureDeferred
async def test_what_is_stored_is_told_as_it_was_asked(door: Door) -> None:
    """Every call that needs no engine gives the same shapes as before the store in memory."""
    request = {
        "files": [one(size=3e9, source=f"{URL}?key=s3cret"), one(path="b/", size=5)],
        "request_id": "r",
        "label": "ü",
    }

    def calls(s: Any) -> None:
        made = s.jobs.submit(request)
        id_ = made["id"]
        assert made == {"id": id_, "status": "PENDING", "created": True}
        assert s.jobs.submit(request) == {**made, "created": False}
        status = s.jobs.status(id_)
        assert (status["bytes_total"], status["bytes_done"], status["files_total"]) == (3_000_000_005.0, 0.0, 2)
        assert (status["label"], status["owner"], status["paused"]) == ("ü", "local", False)
        assert status["submitted_at"].endswith("Z")
        assert isinstance(status["waiting_for"], str)
        first, second = s.jobs.files(id_)
        assert (first["source"], first["size"], first["bytes_done"]) == (f"{URL}?key=***", 3e9, 0.0)
        assert (second["destination"], second["status"]) == ("archive", "PENDING")
        assert [job["id"] for job in s.jobs.list({"label": "ü", "destination": "archive", "limit": 1})] == [id_]
        assert s.jobs.list({"before": id_}) == []
        assert s.jobs.wait(id_, 0)["status"] == "PENDING"
        told = s.jobs.events()
        assert [(event["kind"], event["job"], event["files"]) for event in told["events"]] == [("submitted", id_, 2)]
        queue = s.service.status()["queue"]
        assert queue == [{"destination": "archive", "pending": 2, "active": 0}]
        assert s.destinations.describe("archive")["queued"] == 2
        assert s.jobs.cancel(id_)["status"] == "CANCELLED"
        assert s.checkMoveStatus(id_)["reason"].startswith(f"Move has failed for job with id {id_}. Reason: ")
        assert [event["kind"] for event in s.jobs.events({"after": told["cursor"]})["events"]] == ["cancelled"]

    await door.ask(calls)
    assert (await faulted(door.ask(lambda s: s.jobs.submit({**request, "label": "x"})))).faultCode == 1010
    assert (await faulted(door.ask(lambda s: s.jobs.status(99)))).faultCode == 1007
    assert (await door.ask(lambda s: s.move(URL, "scp://archive/maps/", True)))["status"] == "PENDING"


@pytest_twisted.ensureDeferred
async def test_all_or_none_is_stored(door: Door) -> None:
    """A request_id that was used for another request refuses the whole of submit_many, by its index."""
    await door.ask(lambda s: s.jobs.submit(one(request_id="r")))
    several = [one(path="b"), one(path="c", request_id="r")]
    refused = await faulted(door.ask(lambda s: s.jobs.submit_many(several)))
    assert refused.faultCode == 1010
    assert refused.faultString.startswith("requests[1]: ")
    assert len(await door.ask(lambda s: s.jobs.list())) == 1


@pytest_twisted.ensureDeferred
async def test_asked_at_the_same_time(door: Door) -> None:
    """Calls that are stored together have each its own answer: made, made before, or refused."""

    def ask(request: dict[str, Any]) -> Deferred[Any]:
        return door.ask(lambda s: s.jobs.submit(request))

    first = await ask(one(request_id="first"))
    others = [ask(one(path=f"other-{number}")) for number in range(6)]
    same = [ask(one(request_id="same")) for _ in range(6)]
    again = [ask(one(request_id="first")) for _ in range(3)]
    different = [ask(one(request_id="first", path="different")) for _ in range(3)]
    made = await gatherResults([*others, *same])
    assert sorted(answer["created"] for answer in made[6:]) == [False] * 5 + [True]
    assert len({answer["id"] for answer in [first, *made]}) == 1 + 6 + 1
    assert await gatherResults(again) == [{**first, "created": False}] * 3
    for refused in different:
        fault = await faulted(refused)
        assert fault.faultCode == 1010
        assert f"job {first['id']}:" in fault.faultString
    assert len(await door.ask(lambda s: s.jobs.list())) == 1 + 6 + 1
