"""The size of answers: at most ``[limits] answer_size``, counted while an answer is written."""

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, MultiCall, ServerProxy, dumps

import pytest

from tests.servers import postgres
from tests.servers.service import Service

ANSWER = 2**20
JOBS = 2000
LABEL = "&" * 200
"""Five bytes each, as XML has to spell them."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with many jobs that wait."""
    directory = tmp_path_factory.mktemp("answers")
    service = Service(
        directory,
        f'[database]\nurl = "{postgres.shared().fresh()}"\n[limits]\nanswer_size = "1MiB"\n'
        f'[destinations.archive]\nurl = "file://{directory}/archive"\n',
    )
    service.start()
    service.proxy.destinations.hold("archive", "to be looked at")
    service.proxy.jobs.submit_many([request(f"{number}") for number in range(JOBS)])
    yield service
    service.stop()


def request(path: str) -> dict[str, Any]:
    source = {"destination": "archive", "path": "a.csv"}
    return {"source": source, "destination": "archive", "path": path, "label": LABEL}


def sent(service: Service, name: str, *parameters: Any) -> bytes:
    """Return the body of a call's answer."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request("POST", "/data_mover", dumps(parameters, name), {"Content-Type": "text/xml"})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_pages_of_jobs_fit(service: Service) -> None:
    """A page ends where the answer is full, and the next page begins there: every job is listed once."""
    found: list[int] = []
    sizes: list[int] = []
    while page := service.proxy.jobs.list({"limit": 1000, **({"before": found[-1]} if found else {})}):
        found += [job["id"] for job in page]
        sizes.append(len(page))
    assert sorted(found) == list(range(1, JOBS + 1))
    assert max(sizes) < 1000
    assert len(sent(service, "jobs.list", {"limit": 1000})) <= ANSWER


def test_what_does_not_fit_is_refused(service: Service) -> None:
    """A sentence says what to do, and less is answered."""
    deep = "/".join(["d" * 200] * 8)
    files = [{**request(f"{deep}/{number}")} for number in range(1000)]
    for file in files:
        del file["label"]
    job = service.proxy.jobs.submit({"files": files, "label": "many"})["id"]
    with pytest.raises(Fault, match=r"\[limits\] answer_size.*'limit'") as caught:
        service.proxy.jobs.files(job, {"limit": 1000})
    assert caught.value.faultCode == 1013
    assert len(service.proxy.jobs.files(job, {"limit": 100})) == 100
    service.proxy.jobs.cancel(job)


def test_the_parts_of_a_multicall_share_the_answer(service: Service) -> None:
    """Those that fit are answered, the others are Faults; memory is no more than some answers have."""
    calls = [{"methodName": "jobs.list", "params": [{"limit": 200}]}] * 200
    before = service.memory()
    assert len(sent(service, "system.multicall", calls)) <= ANSWER
    results = service.proxy.system.multicall(calls)
    answered = [result for result in results if isinstance(result, list)]
    refused = [result for result in results if isinstance(result, dict)]
    assert len(answered) + len(refused) == 200
    assert [len(each[0]) for each in answered] == [200] * len(answered)
    assert answered
    assert {(each["faultCode"], "answer_size" in each["faultString"]) for each in refused} == {(1013, True)}
    assert service.memory() - before < 60 * ANSWER


def test_nothing_is_done_that_could_not_be_answered(service: Service) -> None:
    """A multicall makes no call whose answer has no room, and answers every call that it makes."""
    many = [{"methodName": "jobs.list", "params": [{"limit": 200}]}] * 4
    some = [{"methodName": "jobs.submit", "params": [request("one-more")]}] * 5
    last = service.proxy.jobs.list({"limit": 1})[0]["id"]
    results = service.proxy.system.multicall(many + some)
    made = [result[0]["id"] for result in results[-5:] if isinstance(result, list)]
    newest = [job["id"] for job in service.proxy.jobs.list({"limit": 6}) if job["id"] > last]
    assert sorted(newest) == sorted(made)
    with pytest.raises(Fault, match=r"their answer would be larger than \[limits\] answer_size allows") as caught:
        service.proxy.jobs.submit_many([request("never")] * 4000)
    assert caught.value.faultCode == 1013
    assert service.proxy.jobs.list({"limit": 1})[0]["id"] == max([last, *made])


def test_a_small_multicall_is_as_ever(service: Service) -> None:
    """A bad call does not spoil the others."""
    with ServerProxy(service.url) as proxy:
        calls: Any = MultiCall(proxy)
        calls.jobs.status(1)
        calls.jobs.status(10**9)
        calls.system.listMethods()
        results = calls()
        assert results[0]["label"] == LABEL
        with pytest.raises(Fault, match="there is no job"):
            results[1]
        assert "jobs.list" in results[2]


def test_refusals_quote_little(service: Service, tmp_path: Path) -> None:
    """A refusal quotes at most a piece of what was sent."""
    long = "x" * 200_000
    for name, *parameters in (
        ("jobs.submit", {"source": long, "destination": "archive", "path": "a"}),
        ("jobs.submit", {"source": f"https://user:{long}@example.org/", "destination": "archive", "path": "a"}),
        ("jobs.submit", {"source": f"file:///{long}", "destination": "archive", "path": "a"}),
        ("jobs.submit", {"source": f"https://example.org/{'x' * 9000}", "destination": "archive", "path": "a"}),
        ("jobs.submit", {"source": f"https://example.org/{'é' * 2000}", "destination": "archive", "path": "a"}),
        ("jobs.submit", {**request("a"), "destination": long}),
        ("jobs.submit", {**request("a"), "path": f"../{long}"}),
        ("jobs.submit", {**request("a"), "path": "a/../" * 800}),
        ("jobs.submit", {**request("a"), "checksum": long}),
        ("jobs.submit", {**request("a"), "checksum": f"sha256:{long}"}),
        ("jobs.submit", {**request("a"), "label": long}),
        ("jobs.submit", {**request("a"), "request_id": long}),
        ("jobs.submit", {**request("a"), "overwrite": long}),
        ("jobs.submit", {**request("a"), "priority": long}),
        ("jobs.submit", {**request("a"), "notify": f"https://example.org/{long}"}),
        ("jobs.submit", {**request("a"), "x" * 250: 1}),
        ("jobs.submit", {"files": [{**request("a" * 200), "label": ""}] * 2}),
        ("jobs.list", {"status": long}),
        ("jobs.list", {"label": long}),
        ("jobs.list", {"before": long}),
        ("jobs.events", {"after": long}),
        ("jobs.wait", 1, long),
        ("destinations.describe", long),
        ("destinations.hold", "archive", long),
        ("service.drain", long),
        ("system.methodHelp", long),
        ("move", long, "scp://archive/a"),
        ("move", f"{long}://a/b", "scp://archive/a"),
        ("move", f"scp://{long}/b", "scp://archive/a"),
        ("move", "https://example.org/a", f"scp://{long}/b"),
        ("move", {"type": long}, {"host": "archive", "path": "a"}),
        ("move", {"type": "scp", "host": long, "path": "a"}, {"host": "archive", "path": "a"}),
        ("move", {"type": "url", "url": "https://example.org/a"}, {"host": "archive", "path": long}),
        ("move", {"type": "url", "url": "https://example.org/a"}, {"host": long, "path": "a"}),
        ("pullOccurrenceFromALA", long),
        ("pullOccurrenceFromALA", "urn:lsid:a:b:c", long),
        ("checkMoveStatus", long),
    ):
        assert len(sent(service, name, *parameters)) < 1500, (name, str(parameters)[:200])


def test_the_trail_keeps_no_more_than_a_piece(service: Service) -> None:
    """The subject of an audit event is cut before it is stored."""
    sent(service, "jobs.cancel", "9" * 200_000)
    sent(service, "destinations.hold", "y" * 200_000, "z" * 200_000)
    entries = service.proxy.service.audit({"limit": 1000})["entries"]
    assert entries
    assert max(len(entry["subject"]) for entry in entries) <= 500
