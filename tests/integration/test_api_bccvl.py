"""The original's methods over the wire, as clients of each of its versions call them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from datamover.errors import ExpiredJob
from datamover.jobs.values import JobRecord, State
from tests.fakes import MemoryJobStore
from tests.servers.door import Door, config_of

URL = "http://example.org/maps/a.zip"
LSID = "urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae"


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    door = Door(config_of(tmp_path, "visualiser", "compute"))
    yield door
    await door.close()


def rejected(reason: str) -> dict[str, str]:
    return {"status": "REJECTED", "reason": reason}


@pytest_twisted.ensureDeferred
async def test_a_move_is_followed_to_its_end(door: Door) -> None:
    """Every state of a job has the original's word, under both spellings, and an end is told however often."""
    assert await door.ask(lambda s: s.move(URL, "scp://visualiser/maps/")) == {"id": 1, "status": "PENDING"}
    error = {"code": "SOURCE_NOT_FOUND", "message": "nothing is there"}
    failed = "Move has failed for job with id 1. Reason: "
    words: list[tuple[dict[str, Any], str, str | None]] = [
        ({"state": State.PENDING}, "PENDING", None),
        ({"state": State.PREPARING}, "IN_PROGRESS", None),
        ({"state": State.IN_PROGRESS, "error": error}, "IN_PROGRESS", None),
        ({"state": State.COMPLETED, "error": None}, "COMPLETED", None),
        ({"state": State.COMPLETED}, "COMPLETED", None),
        ({"state": State.FAILED, "error": error}, "FAILED", f"{failed}nothing is there"),
        (
            {"state": State.PARTIAL, "files_failed": 2, "files_total": 5},
            "FAILED",
            f"{failed}2 of 5 files failed. nothing is there",
        ),
        ({"state": State.CANCELLED}, "FAILED", f"{failed}The job was cancelled."),
    ]
    for changes, word, reason in words:
        door.store.change(1, **changes)
        expected = {"id": 1, "status": word, **({"reason": reason} if reason else {})}
        for id_ in (1, "1"):
            assert await door.ask(lambda s, id_=id_: s.checkMoveStatus(id_)) == expected  # type: ignore[misc]
            assert await door.ask(lambda s, id_=id_: s.check_move_status(id_)) == expected  # type: ignore[misc]


@pytest_twisted.ensureDeferred
async def test_every_era_is_served(door: Door) -> None:
    """One call in the form of each version is accepted; its files replace existing ones."""

    def calls(s: Any) -> list[Any]:
        to = {"host": "visualiser", "path": "maps/"}
        return [
            s.move(to, {"type": "url", "id": URL}),
            s.move({"type": "scp", "host": "compute", "path": "b.tif"}, {**to, "zip": True}),
            s.move([URL, "scp://compute/b.tif"], "scp://visualiser/maps", True),
        ]

    assert await door.ask(calls) == [{"id": n, "status": "PENDING"} for n in (1, 2, 3)]
    jobs = door.store.jobs_asked
    assert [jobs[n].archive for n in (1, 2, 3)] == [None, "bagit", "bagit"]
    assert {job.overwrite.value for job in jobs.values()} == {"always"}
    assert {job.method for job in jobs.values()} == {"move"}


@dataclass
class Retired(MemoryJobStore):
    """A store whose jobs have all expired."""

    async def job(self, id: int, owner: str | None = None) -> JobRecord:
        raise ExpiredJob(f"job {id} ended so long ago that its history is gone")


@pytest_twisted.ensureDeferred
async def test_an_expired_job_is_told_in_the_original_s_words(tmp_path: Path) -> None:
    """A job whose history is gone is REJECTED by each of the methods that take an id."""
    door = Door(config_of(tmp_path), store=Retired(reactor))
    try:
        for name in ("checkMoveStatus", "check_move_status", "checkALAJobStatus"):
            assert await door.ask(lambda s, name=name: getattr(s, name)(7)) == rejected("Job has expired")  # type: ignore[misc]
    finally:
        await door.close()


REJECTED: list[tuple[str, tuple[Any, ...], str]] = [
    ("move", (), "Missing or incorrect parameter 'source and destination must not be None'"),
    ("move", (URL,), "Missing or incorrect parameter 'source and destination must not be None'"),
    (
        "move",
        (None, "scp://visualiser/x", None),
        "Missing or incorrect parameter 'source and destination must not be None'",
    ),
    ("move", (URL, "scp://nowhere/x"), "Unknown destination 'nowhere'"),
    ("checkMoveStatus", (), "Missing or incorrect parameter 'id'"),
    ("checkMoveStatus", (None,), "Missing or incorrect parameter 'id'"),
    ("checkMoveStatus", ("x",), "Invalid parameter 'id must be an int'"),
    ("check_move_status", (True,), "Invalid parameter 'id must be an int'"),
    ("check_move_status", (1.5,), "Invalid parameter 'id must be an int'"),
    ("check_move_status", ({},), "Invalid parameter 'id must be an int'"),
    ("checkMoveStatus", (99,), "Job does not exist"),
    ("checkMoveStatus", (-1,), "Job does not exist"),
    ("checkMoveStatus", ("99999999999999",), "Job does not exist"),
    ("checkALAJobStatus", (), "Missing or incorrect parameter 'id'"),
    ("checkALAJobStatus", ("x",), "Invalid parameter 'id must be an int'"),
    ("checkALAJobStatus", (99,), "Job does not exist"),
    ("pullOccurrenceFromALA", (), "Missing or incorrect parameter 'source ALA LSID'"),
    ("pullOccurrenceFromALA", ("kangaroo",), "Missing or incorrect parameter 'source ALA LSID'"),
    ("pullOccurrenceFromALA", (LSID,), "ALA sources are not configured"),
    ("pullOccurrenceFromALA", (LSID, "nowhere"), "Unknown destination 'nowhere'"),
    ("pullOccurrenceFromALA", (LSID, "visualiser"), "ALA sources are not configured"),
]


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_an_answer(door: Door) -> None:
    """What the original refused is REJECTED with its words and no id, not a Fault; nil counts as missing."""

    def calls(s: Any) -> list[Any]:
        return [getattr(s, name)(*parameters) for name, parameters, _ in REJECTED]

    for (name, parameters, reason), answer in zip(REJECTED, await door.ask(calls), strict=True):
        assert answer == rejected(reason), (name, parameters)
    assert not door.store.jobs_asked


@pytest_twisted.ensureDeferred
async def test_while_the_database_is_away_moves_are_rejected(door: Door) -> None:
    """The reason says to ask again."""
    door.store.ready = False
    answer = await door.ask(lambda s: s.move(URL, "scp://visualiser/x"))
    assert answer["status"] == "REJECTED"
    assert "try again" in answer["reason"]


@pytest_twisted.ensureDeferred
async def test_an_ala_job_is_downloading_while_it_runs(door: Door) -> None:
    """The ALA methods have a word of their own for what is neither waiting nor at its end."""
    await door.ask(lambda s: s.move(URL, "scp://visualiser/x"))
    for state, word in (
        (State.PENDING, "PENDING"),
        (State.PREPARING, "DOWNLOADING"),
        (State.IN_PROGRESS, "DOWNLOADING"),
    ):
        door.store.change(1, state=state)
        assert await door.ask(lambda s: s.checkALAJobStatus(1)) == {"id": 1, "status": word}


@pytest_twisted.ensureDeferred
async def test_ids_are_those_of_any_job(door: Door) -> None:
    """They answer for jobs of ``move`` and of ``jobs.submit`` alike, and ``jobs.status`` takes the ids of ``move``."""
    moved = await door.ask(lambda s: s.move(URL, "scp://visualiser/x"))
    sent = await door.ask(lambda s: s.jobs.submit({"source": URL, "destination": "visualiser", "path": "y"}))
    assert moved["id"] != sent["id"]
    for id_ in (moved["id"], sent["id"]):
        for name in ("checkMoveStatus", "check_move_status", "checkALAJobStatus"):
            for given in (id_, str(id_)):
                answer = await door.ask(lambda s, name=name, given=given: getattr(s, name)(given))  # type: ignore[misc]
                assert answer == {"id": id_, "status": "PENDING"}
    assert (await door.ask(lambda s: s.jobs.status(moved["id"])))["id"] == moved["id"]
