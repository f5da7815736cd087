"""Long listings of servers, over real sockets: each is read in slices, in turns of the reactor of their own."""

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.errors import Scope
from datamover.protocols import slices
from datamover.protocols.place import Place
from tests.protocols import test_dav_service, test_ftp_misbehaviour, test_s3_service, test_swift_refusals
from tests.protocols.test_dav_service import server
from tests.protocols.test_ftp_misbehaviour import password
from tests.protocols.test_s3_service import bucket
from tests.protocols.test_swift_refusals import swift
from tests.servers.exchange import Exchange
from tests.servers.wayward_ftp import Session

__all__ = ["bucket", "password", "server", "swift"]

NAMES = [f"{'n' * 150}{number:06d}" for number in range(2500)]
"""In a listing of any kind, 0.4 MB or more."""
LEAST = 6
"""Pauses that such a listing has, at least."""


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that has an item for each pause until the next turn."""
    pauses: list[None] = []
    usual = slices.next_turn

    def next_turn(clock: IReactorTime) -> Deferred[None]:
        pauses.append(None)
        return usual(clock)

    monkeypatch.setattr(slices, "next_turn", next_turn)
    return pauses


async def check(place: Place, paused: list[None]) -> None:
    """Check that a directory is listed whole, and in slices."""
    assert await place.list("") == NAMES
    assert len(paused) >= LEAST


@pytest_twisted.ensureDeferred
async def test_s3(bucket: test_s3_service.Rehearsal, paused: list[None]) -> None:
    """Keys of a bucket."""
    items = "".join(f"<Contents><Key>in/{name}</Key><Size>5</Size></Contents>" for name in NAMES)
    page = f"<ListBucketResult>{items}</ListBucketResult>".encode()
    bucket.web.route("/bucket", lambda exchange: exchange.answer(200, [], page))
    await check(bucket.reading, paused)


@pytest_twisted.ensureDeferred
async def test_dav(server: test_dav_service.Rehearsal, paused: list[None]) -> None:
    """Members of a collection."""
    server.dav.files.update(dict.fromkeys(NAMES, b"data"))
    await check(server.reading, paused)


@pytest_twisted.ensureDeferred
async def test_dav_failures(server: test_dav_service.Rehearsal, paused: list[None]) -> None:
    """A multistatus in place of an outcome."""
    items = "".join(f"<response><href>/dav/d/{name}</href><status>HTTP/1.1 204</status></response>" for name in NAMES)
    body = f'<multistatus xmlns="DAV:">{items}</multistatus>'.encode()
    server.dav.files["d"] = b"data"
    server.dav.faults.append(test_dav_service.on("DELETE", test_dav_service.gives(207, body)))
    await server.writing.remove("d")
    assert len(paused) >= LEAST


@pytest_twisted.ensureDeferred
async def test_swift(swift: test_swift_refusals.Rehearsal, paused: list[None]) -> None:
    """Objects of a container."""

    def answer(exchange: Exchange) -> None:
        told: list[dict[str, Any]] = [{"name": f"in/{name}", "bytes": 5, "hash": "0" * 32} for name in NAMES]
        exchange.answer(200, [], b"[]" if "marker=" in exchange.request.target else json.dumps(told).encode())

    swift.web.route("/v1/AUTH_data/container", answer)
    await check(swift.open().at(Scope.SOURCE), paused)


@pytest.mark.parametrize("verb", ["MLSD", "LIST"])
@pytest_twisted.ensureDeferred
async def test_ftp(password: Path, paused: list[None], verb: str) -> None:
    """Lines of a listing, of both kinds."""
    line = {"MLSD": "type=file;size=5; {}", "LIST": "-rw-r--r-- 1 u g 5 Jan 1 2024 {}"}[verb]
    listing = "".join(f"{line.format(name)}\r\n" for name in NAMES).encode()

    def features(session: Session, _: str) -> None:
        session.say("211-Features:\r\n MLST type*;size*;\r\n211 End" if verb == "MLSD" else "211 no features")

    def lists(session: Session, _: str) -> None:
        session.send(listing)

    does: dict[str, Any] = {"FEAT": features, verb: lists}
    async with test_ftp_misbehaviour.served(password, **does) as (_, pool):
        await check(pool.at(Scope.SOURCE), paused)
