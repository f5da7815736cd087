"""The engine over a real S3 service that has trouble, or tells lies: a sentence or the file, and nothing half there."""

import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover.jobs.values import Overwrite, State
from tests.engine.rig import Rig, file, place, random_bytes, url
from tests.protocols.s3 import BucketOutside
from tests.protocols.test_s3_service import error
from tests.servers.between import Answer, Between, Handler, passed_on
from tests.servers.exchange import Exchange, Request
from tests.servers.s3 import BUCKET
from tests.servers.swift import SwiftServer
from tests.servers.web import File, Web

MIB = 2**20
SMALL = random_bytes(10_000)
LARGE = random_bytes(300_000)
"""More than goes by one PUT: a part, and a completion."""
LIE = f'"{"0" * 32}"'

ALWAYS = 1_000_000
"""Times."""

Which = Callable[[Request], bool]


def is_put(request: Request) -> bool:
    return request.method == "PUT" and not is_trial(request)


def is_trial(request: Request) -> bool:
    return "/.datamover-" in request.path


def is_part(request: Request) -> bool:
    return "partNumber=" in request.target


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.target


def is_begin(request: Request) -> bool:
    return request.target.endswith("?uploads=")


@dataclass
class Trouble:
    """What befalls the requests of a kind, ``times`` of them."""

    which: Which
    times: int = ALWAYS
    status: int = 200
    code: str = ""
    """The error that the service answers with, "": the connection is reset."""
    done: bool = False
    """It has done what was asked for."""

    async def __call__(self, exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        if not self.times or not self.which(exchange.request):
            return await ask()
        self.times -= 1
        if self.done:
            await ask()
        if self.code:
            return Answer(self.status, [], error(self.code))
        exchange.reset()
        return None


@dataclass
class Look:
    """The look after a commit is cut, once on a new connection: a kept one may have been closed before."""

    committed: bool = False
    cut: bool = False

    async def __call__(self, exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        request = exchange.request
        if self.committed and request.method == "HEAD" and not self.cut:
            self.cut = request.turn == 1
            exchange.reset()
            return None
        answer = await ask()
        self.committed = self.committed or is_completion(request) or (is_put(request) and "?" not in request.target)
        return answer


@dataclass
class Lies:
    """The ETag in the answers to requests of a kind is that of something else."""

    which: Which

    async def __call__(self, exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        answer = await ask()
        return answer.header("ETag", LIE) if self.which(exchange.request) and answer.status == 200 else answer


@dataclass(frozen=True)
class Case:
    """What a file meets, and what becomes of it."""

    trouble: Handler
    content: bytes = LARGE
    code: str = ""
    """Of its error, "": it arrives."""
    words: str = ""
    retried: str = ""
    """The code of what its first attempt met."""


def cases() -> dict[str, Case]:
    return {
        "error-inside": Case(Trouble(is_completion, code="InternalError"), LARGE, "SERVER_ERROR", "could not do it"),
        "error-inside-that-lies": Case(Trouble(is_completion, 1, code="InternalError", done=True)),
        "error-inside-for-a-part": Case(Trouble(is_part, 1, code="InternalError")),
        "error-inside-for-a-small-file": Case(Trouble(is_put, 1, code="InternalError"), SMALL),
        "500-for-parts": Case(Trouble(is_part, ALWAYS, 500, "InternalError"), LARGE, "SERVER_ERROR", "could not do it"),
        "500-after-it-was-stored": Case(Trouble(is_put, 1, 500, "InternalError", done=True), SMALL),
        "500-after-it-was-begun": Case(Trouble(is_begin, 1, 500, "InternalError", done=True)),
        "resets-of-a-part": Case(Trouble(is_part, 3)),
        "reset-after-it-was-completed": Case(Trouble(is_completion, 1, done=True)),
        "reset-after-it-was-stored": Case(Trouble(is_put, 1, done=True), SMALL),
        "slow-down": Case(Trouble(is_put, ALWAYS, 503, "SlowDown"), SMALL, "RATE_LIMITED", "asks for fewer requests"),
        "token-ends": Case(
            Trouble(is_part, ALWAYS, 400, "ExpiredToken"), LARGE, "AUTHENTICATION_FAILED", "has expired"
        ),
        "clock": Case(
            Trouble(is_put, ALWAYS, 403, "RequestTimeTooSkewed"), SMALL, "AUTHENTICATION_FAILED", "the clocks"
        ),
        "bucket-goes": Case(
            Trouble(is_part, ALWAYS, 404, "NoSuchBucket"), LARGE, "DESTINATION_INVALID", "have it made"
        ),
        "lies-about-a-part": Case(Lies(is_part), LARGE, "CHECKSUM_MISMATCH", "its ETag differs"),
        "lies-about-a-small-file": Case(Lies(is_put), SMALL, "CHECKSUM_MISMATCH", "its ETag differs"),
        "look-is-cut": Case(Look(), retried="CONNECTION_LOST"),
        "look-at-a-small-file-is-cut": Case(Look(), SMALL, retried="CONNECTION_LOST"),
        # What the service refuses itself.
        "full": Case(passed_on, LARGE, "NO_SPACE", "its quota is used up"),
        "full-for-a-small-file": Case(passed_on, SMALL, "NO_SPACE", "its quota is used up"),
        "read-only": Case(passed_on, LARGE, "DESTINATION_FORBIDDEN", "give the key the permission"),
        "read-only-for-a-small-file": Case(passed_on, SMALL, "DESTINATION_FORBIDDEN", "give the key the permission"),
        "no-bucket": Case(passed_on, LARGE, "DESTINATION_INVALID", "its bucket does not exist"),
    }


@pytest.fixture(scope="module")
def swift(swift: SwiftServer) -> SwiftServer:
    """A Swift with quotas: its bucket "full" has one, and all may read from "bucket"."""
    swift.boto.create_bucket(Bucket="full")
    for container in ("full", "full+segments"):  # Parts stand in one of their own there.
        swift.ask("PUT", container, headers={"X-Container-Meta-Quota-Bytes": "9000"})
    swift.boto.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
    return swift


@pytest_twisted.async_yield_fixture
async def between(swift: SwiftServer) -> AsyncIterator[Between]:
    """What lies between the engine and the service."""
    between = Between(reactor, swift.port)
    await between.web.start()
    yield between
    await between.web.stop()


def table(swift: SwiftServer, between: Between, name: str) -> dict[str, Any]:
    """Return the table of a destination of its own for a case."""
    bucket = {"full": "full", "no": "none"}.get(name.partition("-")[0], BUCKET)
    table = {**swift.s3.options, "endpoint": between.web.url, "part_size": "5MiB"}
    login = {"access_key_id": "test:reader"} if name.startswith("read-only") else {}
    return {"url": f"s3://{bucket}/{name}", **table, **login}


@pytest_twisted.ensureDeferred
async def test_trouble(tmp_path: pathlib.Path, web: Web, between: Between, swift: SwiftServer) -> None:
    """A file arrives whole, or its error is a sentence; nothing of it stays that would be paid for."""
    known = cases()

    async def handle(exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        _, _, name, *_ = [*exchange.request.path.split("/"), "", ""]
        return await (known[name].trouble if name in known else passed_on)(exchange, ask)

    between.handler = handle
    web.route("/large", File(LARGE, etag='"1"'))
    web.route("/small", File(SMALL, etag='"2"'))
    tables = {name: table(swift, between, name) for name in known}
    rig = await Rig(reactor, tmp_path).open(tables, transfers={"max_attempts": 3})
    try:
        jobs = {}
        for number, (name, case) in enumerate(known.items()):
            source = url(f"{web.url}/{'large' if case.content is LARGE else 'small'}")
            overwrite = (Overwrite.NEVER, Overwrite.ALWAYS)[number % 2]
            jobs[name] = await rig.ask(file(source, name, "f"), overwrite=overwrite)
        await rig.engine()
        for name, case in known.items():
            job = await rig.ended(jobs[name])
            [told] = await rig.store.files(jobs[name])
            outside = BucketOutside(swift, name)
            if case.code:
                assert told.error is not None, name
                assert told.error["code"] == case.code, (name, told.error)
                assert case.words in told.error["message"], name
                assert outside.names() == [], name
            else:
                assert job.state is State.COMPLETED, (name, told.error)
                assert outside.read("f") == case.content, name
                assert outside.names() == ["f"], name
            assert outside.uploads() == 0, name
            if case.retried:
                events = [event for event in await rig.store.events(job=job.id) if event.kind == "retrying"]
                assert [event.details["error"]["code"] for event in events] == [case.retried], name
        assert swift.boto.list_objects_v2(Bucket="full").get("KeyCount") == 0
        assert not swift.boto.list_multipart_uploads(Bucket="full").get("Uploads")
    finally:
        await rig.close()


@pytest_twisted.ensureDeferred
async def test_source_stands_still(tmp_path: pathlib.Path, between: Between, swift: SwiftServer) -> None:
    """An object that stops coming midway is told to stall, and gone on with by a range; it is whole at the end."""
    content = random_bytes(40 * MIB)
    BucketOutside(swift, "in").lay("f", content)
    begun: list[str] = []

    async def stops(exchange: Exchange, ask: Callable[[], Awaitable[Answer]]) -> Answer | None:
        answer, request = await ask(), exchange.request
        if request.method != "GET" or not request.path.endswith("/f"):
            return answer
        begun.append(request.headers["range"].partition("-")[0])
        if begun.count("bytes=0") > 1 or begun[-1] != "bytes=0":
            return answer
        exchange.write(exchange.head(answer.status, answer.headers) + answer.body[: 8 * MIB])
        await exchange.until_gone()
        return None

    between.handler = stops
    disk = tmp_path / "disk"
    tables = {"bucket": table(swift, between, "in"), "disk": {"url": disk.as_uri()}}
    rig = await Rig(reactor, tmp_path).open(tables, transfers={"max_attempts": 10, "idle_timeout": "4s"})
    try:
        await rig.engine()
        job, [told] = await rig.moved(file(place("bucket", "f"), "disk", "f"))
        assert job.state is State.COMPLETED, told.error
        assert (disk / "f").read_bytes() == content
        events = await rig.store.events(job=job.id)
        error = next(event.details["error"] for event in events if event.kind == "retrying")
        assert error["code"] == "STALLED"
        assert error["message"].startswith("destination 'bucket'")
        [resumed, *_] = [event.details for event in events if event.kind == "resumed"]
        assert 7 * MIB <= resumed["from"] <= 8 * MIB
        assert begun.count("bytes=0") == begun.count(f"bytes={resumed['from']}") == 1
    finally:
        await rig.close()
