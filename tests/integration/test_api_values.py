"""Calls as XML-RPC's libraries write them: what a language has no word for, or guesses, is taken for what was meant."""

import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Binary, DateTime, Fault, MultiCall, dumps, loads

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from datamover.requests.jobs import JOB_KEYS
from tests.servers.door import URL, WAIT, Door, config_of, one, told

PERL = Path(__file__).parent / "perl/guesses.pl"
EMPTY: tuple[Any, ...] = (None, [], {})
SCP = "scp://archive/in/"


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """An interface without clients, with one job of one file."""
    door = Door(config_of(tmp_path, "local", "archive", "2026"))
    await door.ask(lambda s: s.jobs.submit(one(label="7")))
    yield door
    await door.close()


async def both_ways(door: Door, calls: list[tuple[str, tuple[Any, ...]]]) -> list[tuple[Any, Any]]:
    """Make calls by themselves and in a multicall; return both answers of each, Faults as code and text."""

    def run(s: Any) -> list[tuple[Any, Any]]:
        several = MultiCall(s)
        for name, parameters in calls:
            getattr(several, name)(*parameters)
        alone = [answer_of(lambda: getattr(s, name)(*parameters)) for name, parameters in calls]  # noqa: B023
        together = several()
        return [(each, answer_of(lambda: together[n])) for n, each in enumerate(alone)]  # noqa: B023

    answers: list[tuple[Any, Any]] = await door.ask(run)
    return answers


def answer_of(call: Any) -> Any:
    try:
        return call()
    except Fault as fault:
        return fault.faultCode, fault.faultString


def nils(*keys: str) -> dict[str, Any]:
    return dict.fromkeys(keys)


SAME: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    # Nil for a struct of options, for each of them, and for a parameter.
    *(("jobs.list", (given,), ()) for given in (*EMPTY, nils("status", "owner", "label", "before", "limit"))),
    *(("jobs.files", (1, given), (1,)) for given in (*EMPTY, nils("status", "offset", "limit"))),
    *(("jobs.events", (given,), ()) for given in (*EMPTY, nils("after", "job", "limit", "timeout"))),
    *(("service.audit", (given,), ()) for given in (*EMPTY, nils("after", "limit"))),
    ("jobs.list", ({"colour": None},), ()),
    ("jobs.status", (1, None), (1,)),
    ("destinations.list", (None, None), ()),
    ("service.drain", (None,), ()),
    ("system.listMethods", (None,), ()),
    ("checkMoveStatus", (1, None), (1,)),
    # Digits for a number, and the other way round.
    ("jobs.status", ("1",), (1,)),
    ("jobs.status", ("01",), (1,)),
    ("checkMoveStatus", ("1",), (1,)),
    ("jobs.files", ("1", {"offset": "0", "limit": "5"}), (1, {"offset": 0, "limit": 5})),
    ("jobs.list", ({"before": "2", "limit": "1"},), ({"before": 2, "limit": 1},)),
    ("jobs.list", ({"label": 7},), ({"label": "7"},)),
    ("jobs.wait", ("1", "0"), (1, 0)),
    ("jobs.wait", (99, None), (99,)),
    ("jobs.events", ({"job": "1", "limit": "1", "timeout": "0"},), ({"job": 1, "limit": 1, "timeout": 0},)),
    ("jobs.events", ({"after": 1},), ({"after": "1"},)),
    ("service.audit", ({"after": 0, "limit": "1"},), ({"after": "0", "limit": 1},)),
    ("destinations.describe", (2026,), ("2026",)),
    ("destinations.hold", (2026, 5), ("2026", "5")),
    ("system.methodHelp", (Binary(b"jobs.list"),), ("jobs.list",)),
    # What is refused is refused alike.
    ("jobs.status", ("-1",), (-1,)),
    ("jobs.status", ("99",), (99,)),
]


@pytest.mark.parametrize(("name", "written", "plain"), SAME, ids=range(len(SAME)))
@pytest_twisted.ensureDeferred
async def test_a_guessed_value_is_what_was_meant(
    door: Door, name: str, written: tuple[Any, ...], plain: tuple[Any, ...]
) -> None:
    """Written in a library's way or in the plain one, alone or in a multicall, a call has the same answer."""
    answers = await both_ways(door, [(name, written), (name, plain)])
    assert [answer for pair in answers for answer in pair] == [answers[1][0]] * 4


REFUSED: list[tuple[str, tuple[Any, ...], int, str]] = [
    ("jobs.status", (None,), 1001, "id: missing"),
    ("jobs.status", (True,), 1001, "id: True: expected a job's id"),
    ("jobs.status", ("1e3",), 1001, "id: '1e3'"),
    ("jobs.status", (" 1",), 1001, "id: ' 1'"),
    ("jobs.status", ("１",), 1001, "id: '１'"),
    ("jobs.status", ("",), 1001, "id: ''"),
    ("jobs.files", (None, {}), 1001, "id: missing"),
    ("jobs.files", (1, [5]), 1001, "the options are an array: expected a struct"),
    ("jobs.files", (1, ""), 1001, "the options are '': expected a struct"),
    ("jobs.files", (1, {"limit": "1001"}), 1001, "limit: '1001': expected a whole number from 1 to 1000"),
    ("jobs.files", (1, {"limit": True}), 1001, "limit: True"),
    ("jobs.files", (1, {"offset": "-1"}), 1001, "offset: '-1'"),
    ("jobs.list", ({"label": True},), 1001, "label: True: expected text"),
    ("jobs.list", ({"label": 1.5},), 1001, "label: 1.5: expected text"),
    ("jobs.list", ({"before": True},), 1001, "before: True"),
    ("jobs.wait", (1, True), 1001, "timeout: True"),
    ("jobs.wait", (1, "0.5"), 1001, "timeout: '0.5'"),
    ("jobs.events", ({"after": True},), 1001, "after: True: expected a cursor"),
    ("jobs.events", ({"after": -1},), 1001, "after: -1: expected a cursor"),
    ("jobs.submit", (None,), 1001, "request: missing"),
    ("jobs.submit", ([],), 1001, "source: missing"),
    ("jobs.submit_many", (None,), 1001, "requests: missing"),
    ("jobs.submit_many", ([[]],), 1001, "requests[0]: source: missing"),
    ("destinations.describe", (None,), 1001, "name: missing"),
    ("destinations.hold", ("archive", None), 1001, "reason: missing"),
    ("system.methodHelp", (None,), 1001, "name: missing"),
]


@pytest_twisted.ensureDeferred
async def test_what_cannot_be_meant_is_refused(door: Door) -> None:
    """A required parameter that is nil is missing; a boolean is no number and no text, and bounds stay bounds."""
    answers = await both_ways(door, [(name, parameters) for name, parameters, *_ in REFUSED])
    for case, (alone, together) in zip(REFUSED, answers, strict=True):
        assert alone == together, case
        assert (alone[0], alone[1].startswith(case[3])) == (case[2], True), (case, alone)


@pytest_twisted.ensureDeferred
async def test_nil_for_an_optional_key_of_a_request_is_a_missing_key(door: Door) -> None:
    """In jobs.submit, submit_many and check, for every key, in the job and in its files, and in a source."""
    place = {"destination": "local", "path": "a", "colour": None}
    files = [{**one(), "checksum": None, "size": None}, {**one(path="b"), "source": place}]
    nils = {**dict.fromkeys(JOB_KEYS), "files": files, "source": None, "path": None}
    plain = {"files": [one(), one(path="b", source={"destination": "local", "path": "a"})]}

    def calls(s: Any) -> list[Any]:
        return [s.jobs.submit(plain), s.jobs.submit(nils), *s.jobs.submit_many([nils, plain])]

    assert all(answer["created"] for answer in await door.ask(calls))
    asked = [door.store.jobs_asked[number] for number in (2, 3, 4, 5)]
    assert asked == asked[:1] * 4
    for request in (one(path="b", size=None), {"files": [one(path="b", checksum=None)], "notify": None}):
        looked = await door.ask(lambda s, request=request: s.jobs.check(request))  # type: ignore[misc]
        assert [file["destination"]["path"] for file in looked["files"]] == ["b"]


@pytest_twisted.ensureDeferred
async def test_the_originals_methods_take_them_too(door: Door) -> None:
    """Nil, an empty array, an int for text and 1 for yes, alone or in a multicall."""
    web, to = {"type": "url", "url": URL}, {"host": "archive", "path": "in/"}
    moves = [
        (URL, SCP, None),
        (URL, SCP, 0),
        ({**web, "host": None, "path": None}, {**to, "zip": None, "type": None}),
        ({**to, "type": None}, {**web, "id": None}, None),
        (URL, SCP, 1),
        (web, {**to, "zip": "1"}),
        (web, {"host": 2026, "path": 2026}),
    ]
    answers = await both_ways(door, [("move", parameters) for parameters in moves])
    assert [answer["status"] for pair in answers for answer in pair] == ["PENDING"] * 14
    asked = [door.store.jobs_asked[number] for number in range(2, 9)]
    assert asked == [door.store.jobs_asked[number] for number in range(9, 16)]
    assert asked[:4] == asked[:1] * 4
    assert asked[4] == asked[5]
    assert [job.archive for job in asked] == [None] * 4 + ["bagit"] * 2 + [None]
    assert [(file.destination, file.path) for file in asked[6].files] == [("2026", "2026")]

    lsid = "urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8-4e8f-4343-a15f-2ed24e0bf1ae"
    missing = "Missing or incorrect parameter "
    refused = await both_ways(
        door,
        [
            ("move", ([], to)),
            ("move", (web, [])),
            ("checkMoveStatus", (None,)),
            ("checkALAJobStatus", ("x",)),
            ("pullOccurrenceFromALA", (None, None)),
            ("pullOccurrenceFromALA", (lsid, None)),
            ("pullOccurrenceFromALA", (lsid, 2027)),
        ],
    )
    assert [alone["reason"] for alone, together in refused if alone == together] == [
        f"{missing}'source must specify a type'",
        f"{missing}'destination must specify a host and path'",
        f"{missing}'id'",
        "Invalid parameter 'id must be an int'",
        f"{missing}'source ALA LSID'",
        "ALA sources are not configured",
        "Unknown destination '2027'",
    ]


@pytest_twisted.ensureDeferred
async def test_a_multicall_may_leave_out_its_parameters(door: Door) -> None:
    """Nil, an empty array and an empty struct are no parameters; an empty struct of calls is none."""
    given: list[Any] = [{"methodName": "jobs.list", "params": params} for params in EMPTY]
    one_, *others = await door.ask(lambda s: s.system.multicall(given))
    assert [job["id"] for job in one_[0]] == [1]
    assert others == [one_, one_]
    empty: Any = {}
    assert await door.ask(lambda s: s.system.multicall(empty)) == []


def php(value: Any) -> str:
    """Return a value as PHP's libraries write it: an empty struct as an empty array, a yes as a boolean."""
    if isinstance(value, dict) and value:
        members = "".join(f"<member><name>{key}</name>{php(each)}</member>" for key, each in value.items())
        return f"<value><struct>{members}</struct></value>"
    if isinstance(value, list | dict):
        return f"<value><array><data>{''.join(php(each) for each in value)}</data></array></value>"
    kind = {bool: "boolean", int: "int", str: "string"}[type(value)]
    return (
        f"<value><{kind}>{value:d}</{kind}></value>" if kind != "string" else f"<value><string>{value}</string></value>"
    )


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("jobs.list", [{}]),
        ("jobs.files", ["1", {}]),
        ("jobs.submit", [{**one(path="b"), "size": "5", "priority": "4"}]),
        (
            "system.multicall",
            [[{"methodName": "jobs.list", "params": [{}]}, {"methodName": "jobs.status", "params": ["1"]}]],
        ),
        ("move", [URL, SCP, True]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_phps_bytes_are_read(door: Door, method: str, parameters: list[Any]) -> None:
    """With arrays that are empty structs, digits of a form, and encoding="utf8"."""
    written = "".join(f"<param>{php(each)}</param>" for each in parameters)
    body = (
        f'<?xml version="1.0" encoding="utf8"?>\n<methodCall>\n<methodName>{method}</methodName>\n'
        f"<params>\n{written}</params>\n</methodCall>"
    )
    status, answer = told(await door.raw(door.post(body.encode(), "Content-Type: text/xml; charset=utf8")))
    assert status == 200
    (value,), _ = loads(answer)
    assert "faultCode" not in json.dumps(value)
    assert "REJECTED" not in json.dumps(value)


@pytest.mark.parametrize(
    ("declared", "content_type", "codec"),
    [
        ("utf8", "text/xml", "utf-8"),
        ("utf-16", "text/xml", "utf-8"),
        ("utf-16", "text/xml; charset=utf-16", "utf-16"),
        ("iso-8859-1", "text/xml", "latin-1"),
        (None, "text/xml; charset=ISO-8859-1", "latin-1"),
        (None, 'text/xml; charset="latin1"', "latin-1"),
        ("us-ascii", "text/xml", "utf-8"),
        ("iso-8859-1", "text/xml; charset=utf-8", "utf-8"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_body_is_read_in_its_encoding(door: Door, declared: str | None, content_type: str, codec: str) -> None:
    """Content-Type's charset is heard, before what the document declares."""
    body = dumps((one(label="grün", path="in/ü.csv"),), "jobs.submit").partition("?>")[2]
    if declared:
        body = f"<?xml version='1.0' encoding='{declared}'?>{body}"
    status, answer = told(await door.raw(door.post(body.encode(codec), f"Content-Type: {content_type}")))
    answered: Any = loads(answer)[0][0]
    assert (status, answered["id"]) == (200, 2)
    assert (door.store.jobs_asked[2].label, door.store.jobs_asked[2].files[0].path) == ("grün", "in/ü.csv")


@pytest_twisted.ensureDeferred
async def test_times_and_bytes_are_text_where_text_is_meant(door: Door) -> None:
    """Perl's libraries write a time's text as a dateTime, and text beyond ASCII as base64."""
    request = one(
        label=Binary("grün".encode()), request_id=DateTime("20261128T12:00:00"), path=Binary("in/ü.csv".encode())
    )
    assert (await door.ask(lambda s: s.jobs.submit(request)))["id"] == 2
    job = door.store.jobs_asked[2]
    assert (job.label, job.request_id, job.files[0].path) == ("grün", "20261128T12:00:00", "in/ü.csv")


@pytest_twisted.ensureDeferred
async def test_perl_guesses_types(door: Door) -> None:
    """What RPC::XML::Client makes of plain scalars and of undef, by itself and with nil allowed."""

    def run() -> str:
        done = subprocess.run(["perl", PERL, door.url()], capture_output=True, timeout=WAIT, check=True)
        return done.stdout.decode()

    assert (await deferToThread(run)).splitlines() == [
        "jobs.submit: 2",
        "jobs.submit again: 2",
        "label: 1 job",
        "leading zeros: 3",
        "undef: 4",
        "move: PENDING",
        "move, packed: PENDING",
        "status: PENDING",
        "no options: 6 jobs",
    ]
    guessed, zeros, undefined, plain, packed = (door.store.jobs_asked[number] for number in range(2, 7))
    assert (guessed.label, guessed.request_id) == ("20261128", "20261128120000")
    assert (guessed.priority, guessed.deadline, guessed.files[0].size) == (5, 3600.0, 5_000_000_000)
    assert [file.path for file in (*zeros.files, *plain.files, *packed.files)] == ["0012", "2026", "2026"]
    assert (undefined.label, undefined.request_id, undefined.files[0].checksum) == ("", None, None)
    assert (plain.archive, packed.archive) == (None, "bagit")
