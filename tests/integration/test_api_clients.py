"""Logins, what each client sees, and a client in Perl."""

import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ProtocolError

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from datamover.config.schema import Client
from tests.fakes import PlainLogins
from tests.servers.door import WAIT, Door, config_of, one, told

PERL = Path(__file__).parent / "perl" / "client.pl"
LIST = b"<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"


@pytest_twisted.async_yield_fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Door]:
    """An interface with three clients, one of them an administrator."""
    clients = {
        "portal": Client(password_hash="x", destinations=("archive",)),
        "other": Client(password_hash="x"),
        "boss": Client(password_hash="x", admin=True),
    }
    logins = PlainLogins({"portal": "s:ecret/ü", "other": "o", "boss": "b"})
    door = Door(config_of(tmp_path, clients=clients), logins=logins)
    yield door
    await door.close()


@pytest.mark.parametrize("login", ["", "portal:wrong", "nobody:x", "portal:"])
@pytest_twisted.ensureDeferred
async def test_a_wrong_login_is_401(guarded: Door, login: str) -> None:
    """Without a right name and password nothing is answered, not even what methods there are."""
    with pytest.raises(ProtocolError) as caught:
        await guarded.ask(lambda s: s.system.listMethods(), login=login)
    assert caught.value.errcode == 401
    assert caught.value.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    "header", ["Bearer x", "Basic", "Basic ü", "Basic " + b64encode(b"portal").decode(), "Basic /w=="]
)
@pytest_twisted.ensureDeferred
async def test_a_login_that_cannot_be_read_is_wrong(guarded: Door, header: str) -> None:
    """It is 401 as well."""
    raw = guarded.post(LIST, "Content-Type: text/xml", f"Authorization: {header}")
    assert told(await guarded.raw(raw))[0] == 401


@pytest_twisted.ensureDeferred
async def test_a_client_sees_its_own(guarded: Door) -> None:
    """Others' jobs do not exist for it, nor destinations that it may not use; an administrator sees everything."""
    portal, other, boss = "portal:s%3Aecret%2F%C3%BC", "other:o", "boss:b"
    assert (await guarded.ask(lambda s: s.jobs.submit(one()), login=portal))["id"] == 1
    assert isinstance(guarded.logins, PlainLogins)
    assert guarded.logins.seen == [("portal", "127.0.0.1")]
    assert (await guarded.ask(lambda s: s.jobs.status(1), login=portal))["owner"] == "portal"
    assert (await guarded.ask(lambda s: s.jobs.status(1), login=boss))["owner"] == "portal"
    assert await guarded.ask(lambda s: s.jobs.list(), login=other) == []
    assert [job["id"] for job in await guarded.ask(lambda s: s.jobs.list({"owner": "portal"}), login=boss)] == [1]
    assert (await guarded.ask(lambda s: s.jobs.events(), login=other))["events"] == []
    assert await guarded.ask(lambda s: s.checkMoveStatus(1), login=other) == {
        "status": "REJECTED",
        "reason": "Job does not exist",
    }
    assert [told["name"] for told in await guarded.ask(lambda s: s.destinations.list(), login=portal)] == ["archive"]

    async def code(ask: Any, login: str) -> int:
        with pytest.raises(Fault) as caught:
            await guarded.ask(ask, login=login)
        return int(caught.value.faultCode)

    assert await code(lambda s: s.jobs.cancel(1), other) == 1007
    assert await code(lambda s: s.jobs.list({"owner": "portal"}), other) == 1006
    assert await code(lambda s: s.jobs.submit(one(destination="local")), portal) == 1006
    assert await code(lambda s: s.jobs.submit(one(source={"destination": "local", "path": "x"})), portal) == 1006
    assert await code(lambda s: s.destinations.describe("local"), portal) == 1006


@pytest_twisted.ensureDeferred
async def test_perls_client_is_served_too(door: Door) -> None:
    """RPC::XML::Client reads every kind of answer."""

    def run() -> str:
        done = subprocess.run(["perl", PERL, door.url()], capture_output=True, timeout=WAIT, check=True)
        return done.stdout.decode()

    lines = (await deferToThread(run)).splitlines()
    assert lines == [
        "jobs.submit: created=1 id=1 status=PENDING",
        "jobs.status: attempt=0 bytes_done=0.0 bytes_total=5000000000.0 files_completed=0 files_failed=0 files_total=1 "
        "id=1 label=grün max_attempts=5 owner=local paused=0 priority=3 rate=0.0 status=PENDING",
        "jobs.status: fault 1007: there is no job 2",
        "jobs.submit: fault 1004: path: '../x' leaves destination 'archive'",
        "move: id=2 status=PENDING",
        "checkMoveStatus: id=2 status=PENDING",
        "move: reason=Missing or incorrect parameter 'source and destination must not be None' status=REJECTED",
        "destinations.list: 2 values",
    ]
    assert door.store.jobs_asked[1].files[0].path == "in/ü.csv"
