"""The audit trail: what is in it, what is not, and that it is only added to."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xmlrpc.client import ProtocolError

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock

from datamover.audit.trail import AuditEvent, AuditStore, AuditTrail, masked
from datamover.bounds.console import LONGEST_LINE
from datamover.bounds.work import REFUSALS_STORED, REFUSALS_WINDOW
from datamover.config.schema import Client
from datamover.errors import InvalidState, UnknownJob
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.postgres.database import Database
from tests.fakes import MemoryTrail, PlainLogins
from tests.servers.door import Door, config_of, faulted, one
from tests.servers.postgres import address, shared


@pytest_twisted.async_yield_fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clients = {"portal": Client(password_hash="x"), "boss": Client(password_hash="x", admin=True)}
    door = Door(config_of(tmp_path, clients=clients), logins=PlainLogins({"portal": "p", "boss": "b"}))
    yield door
    await door.close()


@pytest_twisted.ensureDeferred
async def test_what_changes_something_is_recorded(door: Door) -> None:
    """With who it was, from where, what it was about, and what came of it; what only looks is not."""

    def calls(s: Any) -> None:
        s.jobs.submit(one())
        s.jobs.status(1)
        s.jobs.pause(1)
        s.jobs.cancel(1)
        s.jobs.list()

    await door.ask(calls, login="portal:p")
    assert (await faulted(door.ask(lambda s: s.jobs.retry(1), login="portal:p"))).faultCode == InvalidState.fault
    assert (await faulted(door.ask(lambda s: s.jobs.cancel(99), login="portal:p"))).faultCode == UnknownJob.fault
    await door.ask(lambda s: s.destinations.hold("archive", "new disks"), login="boss:b")
    assert door.trail.events == [
        AuditEvent("portal", "127.0.0.1", "jobs.pause", "1"),
        AuditEvent("portal", "127.0.0.1", "jobs.cancel", "1"),
        AuditEvent("portal", "127.0.0.1", "jobs.retry", "1", "INVALID_STATE"),
        AuditEvent("portal", "127.0.0.1", "jobs.cancel", "99", "UNKNOWN_JOB"),
        AuditEvent("boss", "127.0.0.1", "destinations.hold", "archive new disks"),
    ]


@pytest_twisted.ensureDeferred
async def test_what_is_refused_is_recorded(door: Door) -> None:
    """Wrong logins and what is not permitted; a name that nobody has is not kept, it may be a password."""
    for login in ("portal:wrong", "hunter2:x"):
        with pytest.raises(ProtocolError):
            await door.ask(lambda s: s.jobs.list(), login=login)
    await faulted(door.ask(lambda s: s.service.drain(), login="portal:p"))
    await faulted(door.ask(lambda s: s.service.audit(), login="portal:p"))
    assert door.trail.events == [
        AuditEvent("portal", "127.0.0.1", "login", "", "AUTHENTICATION_FAILED"),
        AuditEvent("?", "127.0.0.1", "login", "", "AUTHENTICATION_FAILED"),
        AuditEvent("portal", "127.0.0.1", "service.drain", "", "NOT_PERMITTED"),
        AuditEvent("portal", "127.0.0.1", "service.audit", "", "NOT_PERMITTED"),
    ]
    told = await door.ask(lambda s: s.service.audit({"after": "1", "limit": 2}), login="boss:b")
    assert [(each["cursor"], each["who"]) for each in told["entries"]] == [("2", "?"), ("3", "portal")]
    assert told["cursor"] == "3"


@pytest_twisted.ensureDeferred
async def test_a_flood_of_refusals_is_bounded() -> None:
    """Of one kind and origin some are kept a minute, others' are not crowded out, and the next minute begins anew."""
    clock, trail = Clock(), MemoryTrail()
    audit = AuditTrail(trail, clock)
    clock.advance(1000)
    for _ in range(REFUSALS_STORED * 3):
        await audit.refused(AuditEvent("?", "10.0.0.1", "login"))
    await audit.refused(AuditEvent("?", "10.0.0.2", "login"))
    assert [event.origin for event in trail.events] == ["10.0.0.1"] * REFUSALS_STORED + ["10.0.0.2"]
    clock.advance(REFUSALS_WINDOW)
    await audit.refused(AuditEvent("?", "10.0.0.1", "login"))
    assert len(trail.events) == REFUSALS_STORED + 2
    for number in range(3000):
        await audit.refused(AuditEvent("?", f"address {number}", "login"))
    assert len(trail.events) < REFUSALS_STORED + 2 + 1100


@pytest_twisted.ensureDeferred
async def test_while_the_database_is_away() -> None:
    """What is done meanwhile is stored with what is done afterwards."""
    trail = MemoryTrail()
    audit = AuditTrail(trail, Clock())
    trail.away = True
    await audit.record(AuditEvent("boss", "here", "service.drain"))
    assert not trail.events
    trail.away = False
    await audit.record(AuditEvent("boss", "here", "service.undrain"))
    assert [event.action for event in trail.events] == ["service.drain", "service.undrain"]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("cancel(12)", "cancel(12)"),
        ("hold('a', 'https://h/x?sig=abc&t=1')", "hold('a', 'https://h/x?sig=***&t=***')"),
        ("x = 'https://user:pw@h/'", "x = 'https://user:***@h/'"),
        ("x = 'https://user:p@ss@h/a@b'", "x = 'https://user:***@h/a@b'"),
        ("x = 'https://me@example.org:pw@h/a'", "x = 'https://me@example.org:***@h/a'"),
        ("x = 'sftp://user@h:22/a@b'", "x = 'sftp://user@h:22/a@b'"),
        ("x = 'sftp://user:p/s#s@h/a'", "x = 'sftp://user:***@h/a'"),
        ("x = 'http://h:80/a@b', 'http://[::1]:80/a@b'", "x = 'http://h:80/a@b', 'http://[::1]:80/a@b'"),
        ("password = 'abc'", "password = '***'"),
        ('{"api_token": "abc"}', '{"api_token": "***"}'),
    ],
)
def test_secrets_are_masked(typed: str, kept: str) -> None:
    """What looks like a secret in a line is not kept."""
    assert masked(typed) == kept


@pytest.mark.parametrize(
    "piece", ["?", ";", "&a", "://", "://a:", "://[", "://a@", ":", "password", "key = ", "token'"]
)
def test_masking_is_fast(piece: str) -> None:
    """No line takes more than a turn's time to mask, however many beginnings of a secret it has."""
    line = (piece * LONGEST_LINE)[:LONGEST_LINE]
    began = time.process_time()
    masked(line)
    assert time.process_time() - began < 0.02


@pytest_twisted.ensureDeferred
async def test_it_is_only_added_to() -> None:
    """The database refuses to change an entry, or to remove a young one; old ones go after the retention."""
    url = await shared().migrated(reactor)
    database = Database(reactor, address(url), 2)
    await database.open()
    try:
        store = AuditStore(database)
        old = datetime(2001, 2, 3, tzinfo=UTC)
        await store.write(
            [(old, AuditEvent("a", "x", "one")), (datetime.now(UTC), AuditEvent("b", "y", "two", "s", "CODE"))]
        )
        assert [(each.event, each.at == old) for each in await store.read()] == [
            (AuditEvent("a", "x", "one"), True),
            (AuditEvent("b", "y", "two", "s", "CODE"), False),
        ]
        assert [each.event.action for each in await store.newest(1)] == ["two"]
        for statement in ("UPDATE audit SET who = 'c'", "DELETE FROM audit", "TRUNCATE audit"):
            with pytest.raises(psycopg2.Error, match="only added to"):
                await database.execute(statement)
        await Upkeep(database, audited=lambda: 86_400.0).retire()
        assert [each.event.action for each in await store.read()] == ["two"]
    finally:
        await database.close()
