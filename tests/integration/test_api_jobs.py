"""``jobs.*`` as Python's own client sees them, and every Fault."""

import re
import socket
from datetime import UTC, datetime
from threading import Event as Flag
from typing import Any
from xmlrpc.client import Fault

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from datamover.jobs.values import State
from tests.servers.door import URL, Door, faulted, one
from tests.waiting import until


@pytest_twisted.ensureDeferred
async def test_a_job_is_answered_at_once_and_told_of_later(door: Door) -> None:
    """submit gives an id, and status tells of that job with plain values, absent ones left out."""
    answer = await door.ask(lambda s: s.jobs.submit(one(label="ä <&> €", size=3e9)))
    assert answer == {"id": 1, "status": "PENDING", "created": True}
    status = await door.ask(lambda s: s.jobs.status(1))
    assert status.pop("submitted_at").endswith("Z")
    assert status == {
        "id": 1,
        "status": "PENDING",
        "paused": False,
        "label": "ä <&> €",
        "owner": "local",
        "priority": 3,
        "files_total": 1,
        "files_completed": 0,
        "files_failed": 0,
        "bytes_total": 3e9,
        "bytes_done": 0.0,
        "rate": 0.0,
        "attempt": 0,
        "max_attempts": 5,
    }


@pytest_twisted.ensureDeferred
async def test_a_running_job_tells_everything(door: Door) -> None:
    """Times are text in UTC, measures are doubles, counts are ints, and the rest follows from the rate."""
    await door.ask(lambda s: s.jobs.submit(one()))
    error = {"code": "CONNECTION_LOST", "retryable": True, "scope": "SOURCE", "message": "reset\x00", "attempt": 1}
    at = datetime(2026, 11, 23, 18, 8, 0, 999, UTC)
    door.store.change(
        1,
        state=State.IN_PROGRESS,
        bytes_total=3_200_000_000,
        bytes_done=1_100_000_000,
        rate=2.1e8,
        attempt=2,
        stage="moving\r\n",
        waiting_for="destination archive: 8 of 8 transfers active",
        next_retry_at=at,
        error={**error, "at": at},
        first_error=error,
        started_at=at,
    )
    status = await door.ask(lambda s: s.jobs.status(1))
    assert status["bytes_total"] == 3.2e9
    assert status["eta"] == 10.0
    assert status["stage"] == "moving\r\n"
    assert [type(status[key]) for key in ("bytes_done", "rate", "attempt")] == [float, float, int]
    assert status["next_retry_at"] == status["started_at"] == "2026-11-23T18:08:00Z"
    assert status["error"] == {**error, "message": "reset\ufffd", "at": "2026-11-23T18:08:00Z"}
    assert "finished_at" not in status


@pytest_twisted.ensureDeferred
async def test_files_are_told_one_by_one(door: Door) -> None:
    """jobs.files pages and filters, and masks what a URL may hold."""
    files = [one(path=str(n), source=f"{URL}?key=s3cret", size=5e9) for n in range(5)]
    await door.ask(lambda s: s.jobs.submit({"files": files}))
    door.store.change_file(1, 3, state=State.COMPLETED, digest="sha256:00", bytes_done=5 * 10**9)
    told = await door.ask(lambda s: s.jobs.files(1))
    assert [file["index"] for file in told] == [0, 1, 2, 3, 4]
    assert told[0] == {
        "index": 0,
        "source": f"{URL}?key=***",
        "destination": "archive",
        "path": "0",
        "status": "PENDING",
        "size": 5e9,
        "bytes_done": 0.0,
        "rate": 0.0,
        "attempt": 0,
    }
    assert [f["index"] for f in await door.ask(lambda s: s.jobs.files(1, {"offset": 1, "limit": 2}))] == [1, 2]
    [done] = await door.ask(lambda s: s.jobs.files(1, {"status": "COMPLETED"}))
    assert (done["index"], done["digest"], done["bytes_done"]) == (3, "sha256:00", 5e9)


@pytest_twisted.ensureDeferred
async def test_jobs_are_listed_newest_first(door: Door) -> None:
    """jobs.list filters by status, label and destination, and goes on before an id."""
    for n in range(4):
        await door.ask(lambda s, n=n: s.jobs.submit(one(label="even" if n % 2 else "odd")))  # type: ignore[misc]
    door.store.change(4, state=State.COMPLETED)

    async def ids(*options: Any) -> list[int]:
        return [job["id"] for job in await door.ask(lambda s: s.jobs.list(*options))]

    assert await ids() == await ids({}) == [4, 3, 2, 1]
    assert await ids({"before": 3, "limit": 1}) == [2]
    assert await ids({"status": "PENDING"}) == [3, 2, 1]
    assert await ids({"label": "even", "destination": "archive", "owner": "local"}) == [4, 2]
    assert await ids({"destination": "local"}) == await ids({"owner": "somebody"}) == []


@pytest_twisted.ensureDeferred
async def test_the_same_request_id_is_the_same_job(door: Door) -> None:
    """The same request returns the same job; another request with its id is refused."""
    request = one(request_id="r-1")
    first = await door.ask(lambda s: s.jobs.submit(request))
    again = await door.ask(lambda s: s.jobs.submit(request))
    assert (first["created"], again) == (True, {**first, "created": False})
    refused = await faulted(door.ask(lambda s: s.jobs.submit({**request, "path": "other"})))
    assert refused.faultCode == 1010
    assert "r-1" in refused.faultString


@pytest_twisted.ensureDeferred
async def test_many_requests_are_stored_together_or_not_at_all(door: Door) -> None:
    """submit_many answers in order; a refusal names the index and stores nothing."""
    answers = await door.ask(lambda s: s.jobs.submit_many([one(), one(path="b")]))
    assert [answer["id"] for answer in answers] == [1, 2]
    refused = await faulted(door.ask(lambda s: s.jobs.submit_many([one(), one(path="../b")])))
    assert (refused.faultCode, refused.faultString) == (1004, "requests[1]: path: '../b' leaves destination 'archive'")
    assert len(door.store.jobs_asked) == 2
    assert await door.ask(lambda s: s.jobs.submit_many([])) == []


FAULTS: list[tuple[str, tuple[Any, ...], int, str]] = [
    ("jobs.submit", (one(colour="red"),), 1001, "colour: unknown key"),
    ("jobs.submit", (one(path=None),), 1001, "path: missing"),
    ("jobs.submit", (None,), 1001, "request: missing"),
    ("jobs.submit", (), 1001, "jobs.submit: 0 parameters: expected 1"),
    ("jobs.submit", (one(), one()), 1001, "jobs.submit: 2 parameters: expected 1"),
    ("jobs.submit", (one(destination="x"),), 1002, "destination: 'x'"),
    ("jobs.submit", (one(source="sftp://h/x"),), 1003, "source: "),
    ("jobs.submit", (one(path="/x"),), 1004, "path: '/x'"),
    ("jobs.submit", (one(source="http://169.254.169.254/x"),), 1005, "source: http://169.254.169.254/x"),
    ("jobs.status", (7,), 1007, "there is no job 7"),
    ("jobs.status", ("7",), 1007, "there is no job 7"),
    ("jobs.status", ("seven",), 1001, "id: 'seven'"),
    ("jobs.status", (" 7",), 1001, "id: ' 7'"),
    ("jobs.status", ("-7",), 1007, "there is no job -7"),
    ("jobs.status", (None,), 1001, "id: missing"),
    ("jobs.status", (True,), 1001, "id: True"),
    ("jobs.status", (1.0,), 1001, "id: 1.0"),
    ("jobs.files", (7, {}), 1007, "there is no job 7"),
    ("jobs.files", (7, {"limit": 1001}), 1001, "limit: 1001: expected a whole number from 1 to 1000"),
    ("jobs.files", (7, {"offset": -1}), 1001, "offset: -1"),
    ("jobs.files", (7, {"sort": "x"}), 1001, "sort: unknown key"),
    ("jobs.list", ({"status": "DONE"},), 1001, "status: 'DONE'"),
    ("jobs.list", ({"limit": "many"},), 1001, "limit: 'many'"),
    ("jobs.list", ("x",), 1001, "the options are 'x'"),
    ("jobs.wait", (7, 0), 1007, "there is no job 7"),
    ("jobs.wait", (None, 0), 1001, "id: missing"),
    ("jobs.wait", (7,), 1007, "there is no job 7"),
    ("jobs.wait", (7, "61"), 1001, "timeout: '61': expected 0 to 60 seconds"),
    ("jobs.wait", (7, 61), 1001, "timeout: 61: expected 0 to 60 seconds"),
    ("jobs.wait", (7, float("nan")), 1001, "timeout: nan"),
    ("jobs.cancel", (7,), 1007, "there is no job 7"),
    ("jobs.retry", (7,), 1007, "there is no job 7"),
    ("jobs.events", ({"after": "x"},), 1001, "after: 'x': expected a cursor"),
    ("jobs.events", ({"job": 7},), 1007, "there is no job 7"),
    ("jobs.pause", (7,), 1007, "there is no job 7"),
    ("jobs.resume", (7,), 1007, "there is no job 7"),
    ("service.reload", (), 1001, "there is no configuration file to read again: start with --config FILE"),
    ("destinations.hold", ("x", "y"), 1002, "destination 'x' is not registered"),
    ("destinations.release", (5,), 1002, "destination '5' is not registered"),
    ("destinations.describe", ("x",), 1002, "destination 'x' is not registered"),
    ("destinations.test", (True,), 1001, "name: True: expected text"),
    ("no.such", (), 8001, "there is no method 'no.such'"),
    ("jobs.__class__", (), 8001, "there is no method 'jobs.__class__'"),
    ("system.methodHelp", ("no.such",), 8001, "there is no method 'no.such'"),
]


@pytest_twisted.ensureDeferred
async def test_a_refusal_is_a_fault(door: Door) -> None:
    """Each has its code of the table, and a message that names the key and the value."""

    def calls(s: Any) -> list[tuple[str, int, str]]:
        faults = []
        for name, parameters, *_ in FAULTS:
            with pytest.raises(Fault) as caught:
                getattr(s, name)(*parameters)
            faults.append((name, caught.value.faultCode, caught.value.faultString))
        return faults

    for (name, _, code, message), (_, got, text) in zip(FAULTS, await door.ask(calls), strict=True):
        assert (name, got) == (name, code), text
        assert text.startswith(message), name
    assert not door.store.jobs_asked


@pytest_twisted.ensureDeferred
async def test_waiting_ends_with_the_job(door: Door) -> None:
    """jobs.wait answers when the job does end, with and without a timeout, and at its timeout if it does not."""
    await door.ask(lambda s: s.jobs.submit(one()))
    assert (await door.ask(lambda s: s.jobs.wait(1, 0.05)))["status"] == "PENDING"
    waiting = door.ask(lambda s: s.jobs.wait(1, 60))
    await until(lambda: door.store.waiters == 1)
    unsaid = door.ask(lambda s: s.jobs.wait(1))
    await until(lambda: door.store.waiters == 2)
    door.store.change(1, state=State.COMPLETED)
    assert (await waiting)["status"] == (await unsaid)["status"] == "COMPLETED"


@pytest_twisted.ensureDeferred
async def test_a_client_that_goes_away_waits_no_longer(door: Door) -> None:
    """The wait of a connection that was closed is cancelled."""
    await door.ask(lambda s: s.jobs.submit(one()))
    body = (
        b"<methodCall><methodName>jobs.wait</methodName><params><param><int>1</int></param><param><int>60</int></param>"
    )
    with door.socket() as connection:
        connection.sendall(
            door.post(
                body.replace(b"<int>", b"<value><int>").replace(b"</int>", b"</int></value>")
                + b"</params></methodCall>"
            )
        )
        await until(lambda: door.store.waiters == 1)
        connection.shutdown(socket.SHUT_RDWR)
    await until(lambda: door.store.waiters == 0)


@pytest_twisted.ensureDeferred
async def test_cancel_and_retry_tell_the_job_afterwards(door: Door) -> None:
    """A job that has ended cannot be cancelled, and one in which nothing failed is not retried."""
    await door.ask(lambda s: s.jobs.submit(one()))
    assert (await door.ask(lambda s: s.jobs.cancel(1)))["status"] == "CANCELLED"
    assert (await faulted(door.ask(lambda s: s.jobs.retry(1)))).faultCode == 1009
    door.store.change(1, state=State.COMPLETED)
    assert (await faulted(door.ask(lambda s: s.jobs.cancel(1)))).faultCode == 1009
    door.store.change(1, state=State.FAILED)
    assert (await door.ask(lambda s: s.jobs.retry(1)))["status"] == "IN_PROGRESS"


@pytest_twisted.ensureDeferred
async def test_events_go_on_from_their_cursor(door: Door) -> None:
    """A client that keeps the cursor misses nothing and sees nothing twice, and may wait for the next."""
    await door.ask(lambda s: s.jobs.submit_many([one(), one(path="b")]))
    first = await door.ask(lambda s: s.jobs.events({"limit": 1}))
    assert [(event["kind"], event["job"], event["files"]) for event in first["events"]] == [("submitted", 1, 1)]
    second = await door.ask(lambda s: s.jobs.events({"after": first["cursor"]}))
    assert [event["job"] for event in second["events"]] == [2]
    after = {"after": second["cursor"], "job": 2, "timeout": 60}
    waiting = door.ask(lambda s: s.jobs.events(after))
    await until(lambda: door.store.waiters == 1)
    door.store.tell(2, "resumed", {"from": 5_000_000_000, "resent": 7}, file=0)
    third = await waiting
    [event] = third["events"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", event.pop("at"))
    assert event == {"cursor": third["cursor"], "job": 2, "file": 0, "kind": "resumed", "from": 5e9, "resent": 7.0}
    assert await door.ask(lambda s: s.jobs.events({"after": third["cursor"]})) == {
        "events": [],
        "cursor": third["cursor"],
    }


@pytest_twisted.ensureDeferred
async def test_a_long_request_does_not_keep_others_waiting(door: Door) -> None:
    """Thirty thousand files are checked while another client's status is asked for, and answered first."""
    files = [one(path=f"in/{n}.csv") for n in range(100_000)]
    order: list[str] = []
    sending = Flag()

    def long(s: Any) -> Any:
        sending.set()
        answer = s.jobs.submit({"files": files})
        order.append("long")
        return answer

    def short(s: Any) -> Any:
        sending.wait()
        answer = s.service.status()
        order.append("short")
        return answer

    made, _ = await gatherResults([door.ask(long), door.ask(short)])
    assert made["id"] == 1
    assert order == ["short", "long"]
    assert len(door.store.jobs_asked[1].files) == 100_000
