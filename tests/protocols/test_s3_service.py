"""S3 against a service that answers as it is told: refusals, learning, and where the key goes."""

import base64
import gc
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote
from weakref import WeakSet

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.http.request_body import SlicedBody
from datamover.protocols.object_store.limits import S3_LIMITS, PartLimits
from datamover.protocols.object_store.parts import may_end_early, part_size
from datamover.protocols.object_store.seam import Part
from datamover.protocols.object_store.token import Token, digest
from datamover.protocols.place import DestinationPool, PlaceSettings, TellsUploads
from datamover.protocols.s3 import S3
from datamover.protocols.s3.address import BucketAddress, amazon
from datamover.protocols.s3.bucket import Bucket
from datamover.protocols.s3.place import S3Place
from datamover.protocols.upload import Saved, Stored, UploadKey
from datamover.web.url import WebUrl
from tests.protocols.conformance import read, write
from tests.servers.certificates import Authority, ServerTLS
from tests.servers.path import path_to
from tests.servers.web import Exchange, Web
from tests.waiting import until

KEY = UploadKey("1", "a")
MIB = 2**20


def error(code: str, message: str = "", more: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>".encode()


class Rehearsal:
    """A bucket whose every answer a test decides on, and the pool that asks it."""

    def __init__(self, web: Web, directory: Path, **options: Any) -> None:
        self.web = web
        self.secret = directory / "secret"
        self.token = directory / "token"
        for file, text in ((self.secret, "s3cret"), (self.token, "t0ken")):
            file.write_text(text)
            file.chmod(0o600)
        table = {"endpoint": web.url, "access_key_id": "AKID", "secret_key_file": self.secret, **options}
        settings = PlaceSettings("place", "s3://bucket/in", 0o644, 0o755, 5.0, 5.0)
        self.pool: DestinationPool = S3.open(settings, S3.options.model_validate(table), reactor)
        self.reading = self.pool.at(Scope.SOURCE)
        self.writing = self.pool.at(Scope.DESTINATION)

    def answer(self, path: str, *answers: Callable[[Exchange], None]) -> None:
        """Give these answers to requests for a path below the prefix, the last of them from then on."""
        left = list(answers)
        self.web.route(f"/bucket/in/{path}", lambda exchange: (left.pop(0) if len(left) > 1 else left[0])(exchange))

    def asked(self, path: str = "f") -> list[Any]:
        return self.web.asked(f"/bucket/in/{path}")


def gives(status: int, body: bytes = b"", **headers: str) -> Callable[[Exchange], None]:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lambda exchange: exchange.answer(status, named, body)


@pytest_twisted.async_yield_fixture
async def bucket(tmp_path: Path) -> AsyncIterator[Rehearsal]:
    web = Web(reactor)
    await web.start()
    rehearsal = Rehearsal(web, tmp_path, session_token_file=tmp_path / "token")
    yield rehearsal
    await rehearsal.pool.close()
    await web.stop()


READ = [
    (404, "NoSuchBucket", errors.SourceNotFound, "its bucket does not exist"),
    (
        403,
        "AccessDenied",
        errors.SourceForbidden,
        "may not be read: have the administrator give the key the permission",
    ),
    (403, "InvalidAccessKeyId", errors.AuthenticationFailed, "does not know access_key_id"),
    (403, "SignatureDoesNotMatch", errors.AuthenticationFailed, "the secret in secret_key_file"),
    (400, "ExpiredToken", errors.AuthenticationFailed, "session token has expired"),
    (403, "RequestTimeTooSkewed", errors.AuthenticationFailed, "the clocks differ"),
    (301, "PermanentRedirect", errors.SourceForbidden, "sends whoever asks to another address"),
    (302, "", errors.SourceForbidden, "sends whoever asks to another address"),
    (400, "AuthorizationHeaderMalformed", errors.AuthenticationFailed, "cannot read the signature"),
    (400, "IllegalLocationConstraintException", errors.SourceForbidden, "in another region"),
    (503, "SlowDown", errors.RateLimited, "asks for fewer requests"),
    (503, "", errors.RateLimited, "asks for fewer requests"),
    (429, "TooManyRequests", errors.RateLimited, "asks for fewer requests"),
    (500, "InternalError", errors.ServerError, "could not do it (InternalError)"),
    (403, "InvalidObjectState", errors.SourceForbidden, "restore it first"),
    (405, "MethodNotAllowed", errors.ServerError, "refuses the request (MethodNotAllowed)"),
    (418, "Strange", errors.ServerError, "refuses the request (Strange)"),
]
WRITE = [
    (404, "NoSuchBucket", errors.DestinationInvalid, "have it made"),
    (403, "AccessDenied", errors.DestinationForbidden, "may not be written"),
    (403, "QuotaExceeded", errors.NoSpace, "quota is used up"),
    (507, "", errors.NoSpace, "no room left"),
    (400, "BadDigest", errors.ChecksumMismatch, "what arrived is not what was sent"),
    (413, "", errors.DestinationInvalid, "a proxy before the service takes no request of that size"),
    (400, "EntityTooLarge", errors.DestinationInvalid, "larger than the service takes"),
    (400, "KeyTooLongError", errors.DestinationInvalid, "more bytes than the service takes"),
    (503, "ServiceUnavailable", errors.RateLimited, "asks for fewer requests, or cannot serve any"),
    (503, "SlowDown", errors.RateLimited, "asks for fewer requests"),
    (400, "InvalidStorageClass", errors.DestinationInvalid, "storage_class"),
    (409, "OperationAborted", errors.ServerError, "could not do it"),
]


@pytest.mark.parametrize(("status", "code", "kind", "words"), READ)
@pytest_twisted.ensureDeferred
async def test_refused_to_read(
    bucket: Rehearsal, status: int, code: str, kind: type[DataMoverError], words: str
) -> None:
    """Each refusal is a sentence of its own on the source's side; only administrators see the service's words."""
    bucket.answer("f", gives(status, error(code, "internal 10.0.0.7") if code else b""))
    with pytest.raises(kind) as caught:
        await bucket.reading.origin("f").open()
    assert caught.value.scope is Scope.SOURCE
    assert words in caught.value.message
    assert "10.0.0.7" not in caught.value.message
    assert "10.0.0.7" in caught.value.full or not code


@pytest.mark.parametrize(
    ("forbidden", "words"),
    [
        ("HEAD", "'f' may not be read: have the administrator give the key the permission s3:GetObject"),
        ("PUT", "'f' may not be written: have the administrator give the key the permission s3:PutObject"),
        ("DELETE", "'f' may not be removed: have the administrator give the key the permission s3:DeleteObject"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_permission_told(bucket: Rehearsal, forbidden: str, words: str) -> None:
    """The permission that a key lacks is told, whatever is done to a file; what may be done has been done."""

    def serve(exchange: Exchange) -> None:
        method = exchange.request.method
        if method == forbidden or (forbidden == "HEAD" and method == "GET"):
            exchange.answer(403, [], error("AccessDenied"))
        else:
            exchange.answer(200, [("ETag", '"e"'), ("x-amz-meta-datamover-upload", "1-a")], b"data")

    async def stored_and_removed() -> None:
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
        await bucket.writing.remove("f")

    bucket.answer("f", serve)
    with pytest.raises(errors.DestinationForbidden) as caught:
        await stored_and_removed()
    assert caught.value.message.endswith(words)


@pytest.mark.parametrize(("status", "code", "kind", "words"), WRITE)
@pytest_twisted.ensureDeferred
async def test_refused_to_write(
    bucket: Rehearsal, status: int, code: str, kind: type[DataMoverError], words: str
) -> None:
    """Each refusal is a sentence of its own on the destination's side."""
    bucket.answer("f", gives(status, error(code) if code else b""))
    with pytest.raises(kind) as caught:
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    assert caught.value.scope is Scope.DESTINATION
    assert words in caught.value.message


@pytest_twisted.ensureDeferred
async def test_head_says_why(bucket: Rehearsal) -> None:
    """A look that is refused asks for the reason, which the answer to a HEAD cannot hold."""
    bucket.answer("f", gives(403, error("RequestTimeTooSkewed")))
    with pytest.raises(errors.AuthenticationFailed, match="the clocks differ"):
        await bucket.writing.inspect("f")


@pytest_twisted.ensureDeferred
async def test_key_renewed(bucket: Rehearsal) -> None:
    """A session token that has expired is read anew from its file, and the request sent again."""

    def second(exchange: Exchange) -> None:
        exchange.answer(200, [("ETag", '"1"')], b"data")

    def first(exchange: Exchange) -> None:
        bucket.token.write_text("fresh")
        exchange.answer(400, [], error("ExpiredToken"))

    bucket.answer("f", first, second)
    assert await read(bucket.reading.origin("f")) == (0, b"data")
    assert [request.headers["x-amz-security-token"] for request in bucket.asked()] == ["t0ken", "fresh"]


@pytest_twisted.ensureDeferred
async def test_secret_that_others_may_read(bucket: Rehearsal) -> None:
    """A secret that others may read is not used, and the message says what to do."""
    bucket.secret.chmod(0o644)
    with pytest.raises(errors.AuthenticationFailed) as caught:
        await bucket.pool.connect()
    assert "chmod 0600" in caught.value.full
    assert bucket.web.requests == []


@pytest_twisted.ensureDeferred
async def test_error_inside(bucket: Rehearsal) -> None:
    """A completion that is answered 200 with an error inside has failed; what is not there is not called stored."""
    upload = b"<R><UploadId>u</UploadId></R>"
    bucket.answer(
        "f",
        gives(200, upload),
        gives(200, ETag='"e"'),
        gives(200, error("InternalError", "try again")),
    )
    sending = bucket.writing.begin("f", KEY)
    await sending.open()
    await sending.write(b"data")
    await sending.finish()
    with pytest.raises(errors.ServerError, match="could not do it"):
        await sending.commit(replace=True)
    await sending.close()


@pytest.mark.parametrize("mark", ["", "2-b", "1-a"])
@pytest_twisted.ensureDeferred
async def test_only_our_own_is_removed(bucket: Rehearsal, mark: str) -> None:
    """An object of another size is removed where it came by this upload, and left where another wrote it."""
    removed: list[str] = []

    def serve(exchange: Exchange) -> None:
        if exchange.request.method == "DELETE":
            removed.append(exchange.request.path)
        marks = [("x-amz-meta-datamover-upload", mark)] if mark else []
        etag = '"e"' if ours or exchange.request.method == "PUT" else '"another"'
        exchange.answer(200, [("ETag", etag), *marks], b"other size")

    bucket.answer("f", serve)
    ours = mark == "1-a"
    kind = errors.SizeMismatch if ours else errors.DestinationExists
    with pytest.raises(kind) as caught:
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    assert caught.value.retryable
    assert len(removed) == ours


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize(
    ("made", "found", "ours"),
    [
        ({"ETag": '"e"'}, {"ETag": '"e"'}, True),
        ({"ETag": '"e"'}, {"ETag": '"other"'}, False),
        ({"ETag": '"e"'}, {"ETag": '"e"', "mark": "2-b"}, False),
        ({"ETag": '"e"'}, {"ETag": '"other"', "mark": "1-a"}, False),
        ({"ETag": '"e"'}, {"mark": "1-a"}, True),
        ({}, {"ETag": '"e"', "mark": "1-a"}, True),
        ({}, {"ETag": '"e"'}, False),
        # JuiceFS tells neither ETag nor metadata.
        ({"ETag": '"e"'}, {}, True),
        # So rclone changes the ETag of what came in parts.
        ({"ETag": f'"{"a" * 32}-2"'}, {"ETag": f'"{"b" * 32}"', "mark": "1-a"}, True),
        ({"ETag": f'"{"a" * 32}-2"'}, {"ETag": f'"{"b" * 32}-2"', "mark": "1-a"}, False),
        ({"ETag": '"e"', "x-amz-version-id": "1"}, {"ETag": '"e"', "x-amz-version-id": "1"}, True),
        ({"ETag": '"e"', "x-amz-version-id": "1"}, {"ETag": '"e"', "mark": "1-a", "x-amz-version-id": "2"}, False),
        ({"ETag": '"e"', "x-amz-version-id": "null"}, {"ETag": '"other"', "x-amz-version-id": "null"}, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_lies_there_is_ours(
    bucket: Rehearsal, made: dict[str, str], found: dict[str, str], ours: bool, by_parts: bool
) -> None:
    """What has the right size counts as stored only where it is what the commit made; another's stays there."""
    headers = [("x-amz-meta-datamover-upload" if name == "mark" else name, told) for name, told in found.items()]
    methods: list[str] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        methods.append(request.method)
        if request.method == "HEAD":
            exchange.answer(200, [*headers, ("Last-Modified", "Sun, 29 Nov 2026 12:00:00 GMT")], b"data")
        elif "uploads" in request.target:
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        elif request.method == "POST":
            body = f"<R><ETag>{made['ETag']}</ETag></R>" if "ETag" in made else "<R/>"
            exchange.answer(200, [each for each in made.items() if each[0] != "ETag"], body.encode())
        else:
            exchange.answer(200, [("ETag", '"e"')] if by_parts else list(made.items()))

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    if by_parts:
        await write(upload, b"data")
        storing: Awaitable[Stored] = upload.commit(replace=True)
    else:
        storing = upload.store(b"data", replace=True, commit=lambda: None)
    if ours:
        assert (await storing).size == 4
    else:
        with pytest.raises(errors.DestinationExists, match="somebody else meanwhile") as caught:
            await storing
        assert caught.value.retryable
    assert "DELETE" not in methods


@pytest_twisted.ensureDeferred
async def test_look_that_breaks(bucket: Rehearsal) -> None:
    """Where the look after a completion breaks, nothing is removed, and the next attempt finds what was made."""
    methods: list[str] = []
    breaks = True

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        methods.append(request.method)
        if request.method == "HEAD" and breaks:
            exchange.reset()
        elif request.method == "HEAD":
            exchange.answer(200, [("ETag", '"e-1"'), ("x-amz-meta-datamover-upload", "1-a")], b"data")
        elif request.method == "GET":
            exchange.answer(404, [], error("NoSuchUpload"))
        elif request.method == "DELETE":
            assert "uploadId=u" in request.target, "the object is removed"
            exchange.answer(204)
        else:
            body = b"<R><UploadId>u</UploadId></R>" if request.method == "POST" else b""
            exchange.answer(200, [("ETag", '"e"')], body)

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    await upload.open()
    await upload.write(b"data")
    saved = await upload.finish()
    with pytest.raises(errors.ConnectionLost):
        await upload.commit(replace=True)
    assert "DELETE" not in methods
    breaks = False
    assert (await bucket.writing.resume("f", saved).commit(replace=True)).size == 4


@pytest.mark.parametrize(
    ("trouble", "times"),
    [("a reset", 1), ((500, "InternalError"), 1), ((503, "SlowDown"), 2), ((429, ""), 2), ((400, "BadDigest"), 1)],
)
@pytest_twisted.ensureDeferred
async def test_part_sent_again(bucket: Rehearsal, trouble: str | tuple[int, str], times: int) -> None:
    """A part that meets trouble for the moment is sent again within the attempt, and nothing else is."""
    parts: list[str] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(200, [("ETag", '"e-3"'), ("x-amz-meta-datamover-upload", "1-a")], bytes(13 * MIB))
        elif request.method == "POST":
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        else:
            parts.append(request.target.partition("?")[2])
            if len(parts) > times:
                exchange.answer(200, [("ETag", '"e"')])
            elif isinstance(trouble, str):
                exchange.reset()
            else:
                status, code = trouble
                exchange.answer(status, [], error(code))

    bucket.answer("f", serve)
    sending = bucket.writing.begin("f", KEY)
    await sending.open()
    for _ in range(2):
        await sending.write(bytes(6 * MIB))
        await sending.flush()
    await sending.write(bytes(MIB))
    assert (await sending.finish()).offset == 13 * MIB
    assert (await sending.commit(replace=True)).size == 13 * MIB
    assert sorted(parts) == [f"partNumber={number}&uploadId=u" for number in (1,) * times + (1, 2, 3)]


@pytest_twisted.ensureDeferred
async def test_flushed_while_parts_are_on_their_way(tmp_path: Path) -> None:
    """What is written while a flush waits for its turn is not counted as saved by it."""
    web = Web(reactor)
    await web.start()
    bucket = Rehearsal(web, tmp_path, part_size="32MiB")  # One part at a time.
    held: list[Exchange] = []

    async def taken(number: int) -> None:
        await until(lambda: len(held) == number)

    bucket.answer("f", gives(200, b"<R><UploadId>u</UploadId></R>"), held.append)
    try:
        upload = bucket.writing.begin("f", KEY)
        await upload.open()
        flushes = []
        for _ in range(3):
            await upload.write(bytes(6 * MIB))
            flushes.append(Deferred.fromCoroutine(upload.flush()))
        await upload.write(bytes(MIB))
        for number, flush in enumerate(flushes, 1):
            await taken(number)
            held[-1].answer(200, [("ETag", '"e"')])
            assert (await flush).offset == number * 6 * MIB
        await upload.close()
    finally:
        await bucket.pool.close()
        await web.stop()


@pytest.mark.parametrize("sent", [True, False])
@pytest_twisted.ensureDeferred
async def test_given_up_amid_a_part(tmp_path: Path, sent: bool) -> None:
    """An upload that is given up waits for the answer to a part that was sent whole, and cuts short another."""
    web = Web(reactor)
    await web.start()
    held: list[Exchange] = []
    with path_to(web.port) as between:
        bucket = Rehearsal(web, tmp_path, endpoint=f"http://127.0.0.1:{between.port}", part_size="8MiB")
        bucket.answer("f", gives(200, b"<R><UploadId>u</UploadId></R>"), held.append)
        try:
            upload = bucket.writing.begin("f", KEY)
            await upload.open()
            if not sent:
                between.stand()
            await upload.write(bytes(13 * MIB))
            if sent:
                await until(lambda: bool(held))
            closing = Deferred.fromCoroutine(upload.close())
            if sent:
                assert not closing.called
                held[0].answer(200, [("ETag", '"e"')])
            await closing
            assert len(held) == sent
        finally:
            between.go_on()
            await bucket.pool.close()
            await web.stop()


@pytest_twisted.ensureDeferred
async def test_numbers_used_up(bucket: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints use up no numbers that the rest of the file needs, also where an upload is gone on with."""
    monkeypatch.setattr(Bucket, "limits", PartLimits(5 * MIB, 5 * 2**30, 5))
    numbers: list[int] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "PUT":
            numbers.append(int(request.target.partition("partNumber=")[2].partition("&")[0]))
            exchange.answer(200, [("ETag", f'"{numbers[-1]}"')])
        elif request.method == "GET":
            part = "<Part><PartNumber>{0}</PartNumber><Size>{1}</Size><ETag>{0}</ETag></Part>"
            told = "".join(part.format(number, 5 * MIB) for number in numbers)
            exchange.answer(200, [], f"<ListPartsResult>{told}</ListPartsResult>".encode())
        else:
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")

    bucket.answer("f", serve)
    size = 45 * MIB
    upload = bucket.writing.begin("f", KEY, size=size)
    await upload.open()
    await upload.write(bytes(5 * MIB))
    saved = await upload.flush()
    await upload.close()
    upload = bucket.writing.resume("f", saved, size=size)
    await upload.open()
    for _ in range(8):
        await upload.write(bytes(5 * MIB))
        await upload.flush()
    assert (await upload.finish()).offset == size
    assert numbers == [1, 2, 3, 4, 5]


@pytest_twisted.ensureDeferred
async def test_part_refused(bucket: Rehearsal) -> None:
    """A part that is refused for good breaks the upload off, whatever is awaited of it next."""
    bucket.answer("f", gives(200, b"<R><UploadId>u</UploadId></R>"), gives(403, error("QuotaExceeded")))
    sending = bucket.writing.begin("f", KEY)
    await sending.open()
    await sending.write(bytes(6 * MIB))
    for _ in range(2):
        with pytest.raises(errors.NoSpace, match="quota is used up"):
            await sending.flush()
    await sending.close()


@pytest_twisted.ensureDeferred
async def test_body_sent_again(bucket: Rehearsal) -> None:
    """A large body goes over a kept connection, and once more over a new one where that turns out to be closed."""

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "PUT" and request.turn == 4:
            exchange.reset()
        else:
            exchange.answer(200, [("ETag", '"e"')], b"" if request.method == "PUT" else bytes(MIB))

    bucket.answer("f", serve)
    for _ in range(2):
        await bucket.writing.begin("f", KEY).store(bytes(MIB), replace=True, commit=lambda: None)
    puts = [request for request in bucket.asked() if request.method == "PUT"]
    assert [(request.connection, request.turn) for request in puts] == [(1, 2), (1, 4), (2, 1)]
    assert [len(request.body) for request in puts] == [MIB] * 3


@pytest_twisted.ensureDeferred
async def test_away(bucket: Rehearsal) -> None:
    """A service that cannot be connected to is told without its address; administrators are told that as well."""
    await bucket.web.stop(for_a_while=True)
    for side, place in ((Scope.SOURCE, bucket.reading), (Scope.DESTINATION, bucket.writing)):
        with pytest.raises(errors.ConnectFailed) as caught:
            await place.inspect("f")
        assert (caught.value.scope, caught.value.retryable) == (side, True)
        assert caught.value.message == "destination 'place': it cannot be connected to"
        assert "127.0.0.1" in caught.value.full
    await bucket.web.start()


@pytest.mark.parametrize("key", ["in/d//f", "in/d/../f", "in/d/."])
@pytest_twisted.ensureDeferred
async def test_keys_that_no_path_names(bucket: Rehearsal, key: str) -> None:
    """A directory with a key that no path can name is not listed without it: the key is told."""
    name = key.removeprefix("in/d/")
    tag = "CommonPrefixes><Prefix" if "/" in name else "Contents><Key"
    shown = f"in/d/{name.partition('/')[0]}/" if "/" in name else key
    close = "".join(f"</{part}>" for part in reversed(tag.split("><")))
    listing = f"<ListBucketResult><{tag}>{shown}{close}<Contents><Key>in/d/</Key></Contents></ListBucketResult>"
    bucket.web.route("/bucket", gives(200, listing.encode()))
    with pytest.raises(errors.SourceForbidden, match="no path can name"):
        await bucket.reading.list("d")


@pytest_twisted.ensureDeferred
async def test_etag_of_other_bytes(bucket: Rehearsal) -> None:
    """Where the ETag is the MD5 of other bytes than were sent, the file has not arrived."""
    bucket.answer("f", gives(200, ETag='"00000000000000000000000000000000"'))
    with pytest.raises(errors.ChecksumMismatch, match="its ETag differs"):
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)


ODD = '"00000000000000000000000000000000"'


@pytest_twisted.ensureDeferred
async def test_etags_that_are_no_md5(bucket: Rehearsal) -> None:
    """Where the service has checked the bytes by their SHA-256, an odd ETag shows that its ETags are no MD5s."""
    sha256 = base64.b64encode(hashlib.sha256(b"data").digest()).decode()

    def answer(exchange: Exchange) -> None:
        put = exchange.request.method == "PUT"
        exchange.answer(200, [("ETag", ODD), *([("x-amz-checksum-sha256", sha256)] * put)], b"" if put else b"data")

    bucket.answer("f", answer)
    assert (await bucket.reading.inspect("f")).digests == {"md5": ODD.strip('"')}  # type: ignore[union-attr]
    stored = await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    assert stored.size == 4
    assert (await bucket.reading.inspect("f")).digests == {}  # type: ignore[union-attr]


@pytest_twisted.ensureDeferred
async def test_etags_that_are_told_to_be_no_md5(bucket: Rehearsal, tmp_path: Path) -> None:
    """``md5_etags = false``: no ETag is held against what is sent or read."""
    bucket.answer("f", gives(200, b"data", ETag=ODD))
    told = Rehearsal(bucket.web, tmp_path, md5_etags=False)
    assert (await told.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)).size == 4
    assert (await told.reading.inspect("f")).digests == {}  # type: ignore[union-attr]
    await told.pool.close()


@pytest.mark.parametrize("honours", [True, False])
@pytest_twisted.ensureDeferred
async def test_sent_once(bucket: Rehearsal, honours: bool) -> None:
    """A small file is sent once, whatever is learnt of the service before; later it is not asked again."""
    there: dict[str, bytes] = {}

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "DELETE" and not (honours and request.headers.get("if-match", '"e"') != '"e"'):
            there.pop(request.path, None)
            exchange.answer(204)
        elif honours and (request.method == "DELETE" or ("if-none-match" in request.headers and request.path in there)):
            exchange.answer(412, [], error("PreconditionFailed"))
        elif request.method == "PUT":
            there[request.path] = request.body
            exchange.answer(200, [("ETag", '"e"')])
        else:
            found = request.path in there
            exchange.answer(200 if found else 404, [("ETag", '"e"')], there.get(request.path, b""))

    bucket.web.otherwise = serve
    for name in ("f", "g"):
        await bucket.writing.begin(name, KEY).store(b"data", replace=False, commit=lambda: None)
        assert [request.body for request in bucket.asked(name) if request.method == "PUT"] == [b"data"]
    trials = [request for request in bucket.web.requests if ".datamover-probe-" in request.path]
    assert len([request for request in trials if request.method == "PUT"]) == 2
    assert set(there) == {"/bucket/in/f", "/bucket/in/g"}


@pytest.mark.parametrize("cancelled", [None, "f", "g"])
@pytest_twisted.ensureDeferred
async def test_tried_out_once_for_all(bucket: Rehearsal, cancelled: str | None) -> None:
    """Small files that come while the service is tried out wait for what is found, whichever of them is cancelled."""
    held: list[Exchange] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        trial = ".datamover-probe-" in request.path
        if request.method == "PUT" and trial and not held:
            held.append(exchange)
        elif request.method == "PUT" and trial:
            exchange.answer(412, [], error("PreconditionFailed"))
        elif request.method == "HEAD" and not bucket.asked(request.path.rpartition("/")[2])[:-1]:
            exchange.answer(404)
        else:
            exchange.answer(200, [("ETag", '"e"'), ("x-amz-meta-datamover-upload", "1-a")], b"data")

    bucket.web.otherwise = serve

    async def store(name: str) -> None:
        await bucket.writing.begin(name, KEY).store(b"data", replace=False, commit=lambda: None)

    storing = {name: Deferred.fromCoroutine(store(name)) for name in ("f", "g", "h")}
    await until(lambda: bool(held))
    if cancelled is not None:
        storing[cancelled].cancel()
    assert not any(bucket.asked(name) for name in storing)
    held[0].answer(200, [("ETag", '"e"')])
    for name, stored in storing.items():
        if name == cancelled:
            with pytest.raises(CancelledError):
                await stored
            assert not bucket.asked(name)
        else:
            await stored
            # Nothing is looked for before.
            assert [request.method for request in bucket.asked(name)] == ["PUT", "HEAD"]


@pytest.mark.parametrize("large", [True, False])
@pytest_twisted.ensureDeferred
async def test_tidied_once(bucket: Rehearsal, large: bool) -> None:
    """What a process left that died over a trial is looked for by whatever is written, once."""
    bucket.web.otherwise = lambda exchange: exchange.answer(200, [("ETag", '"e"')], b"<R><UploadId>u</UploadId></R>")
    for name in ("f", "g"):
        upload = bucket.writing.begin(name, KEY)
        if large:
            await upload.open()
            await upload.close()
        else:
            with pytest.raises(errors.SizeMismatch):
                await upload.store(b"data", replace=True, commit=lambda: None)
    assert len([each for each in bucket.web.requests if each.target.endswith("&prefix=in%2F.datamover-")]) == 1


@pytest_twisted.ensureDeferred
async def test_left_by_processes_that_died(bucket: Rehearsal) -> None:
    """What a process left that died over trying the service out is removed an hour later, and nothing else.

    The hour is the service's, whose clock may be another.
    """
    now, old, young = (f"Tue, 14 Nov 2023 {time}:20 GMT" for time in ("22:13", "21:13", "21:14"))
    probe, test = ".datamover-probe-001122334455667", ".datamover-test-001122334455667"
    left: dict[str, tuple[str, bytes, str]] = {f"{probe}7": (old, b"", ""), f"{test}7": (old, b"d", f"{test[11:]}7")}
    stay = {
        f"{probe}8": (young, b"", ""),
        f"{probe}9": (old, b"full", ""),
        f"{probe}77": (old, b"", ""),
        f"{probe}A": (old, b"", ""),
        f"{test}8": (young, b"d", f"{test[11:]}8"),
        f"{test}9": (old, b"d", ""),
        ".datamover-probe-": (old, b"", ""),
    }
    there = {f"in/{name}": told for name, told in {**left, **stay}.items()}

    def serve(exchange: Exchange) -> None:
        request, key = exchange.request, unquote(exchange.request.path.removeprefix("/bucket/"))
        if "list-type" in request.target:
            prefix = unquote(request.target.partition("&prefix=")[2].partition("&")[0])
            keys = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in there if key.startswith(prefix))
            exchange.answer(200, [("Date", now)], f"<ListBucketResult>{keys}</ListBucketResult>".encode())
        elif request.method == "PUT":
            there[key] = (now, b"", "")
            exchange.answer(200, [("ETag", '"e"')])
        elif request.method == "DELETE":
            there.pop(key, None)
            exchange.answer(204)
        else:
            modified, data, mark = there[key]
            marks = [("x-amz-meta-datamover-upload", mark)] if mark else []
            exchange.answer(200, [("Date", now), ("Last-Modified", modified), ("ETag", '"e"'), *marks], data)

    bucket.web.otherwise = serve
    await bucket.pool.connect()
    assert set(there) == {f"in/{name}" for name in stay}


@pytest_twisted.ensureDeferred
async def test_no_conditions(bucket: Rehearsal) -> None:
    """Where the service does not know If-None-Match, one looks before, and sends none from then on."""
    made: list[str] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(200 if made else 404, [("ETag", '"e"')], b"data" if made else b"")
        elif "if-none-match" in request.headers:
            exchange.answer(501, [], error("NotImplemented"))
        else:
            made.append(request.method)
            exchange.answer(200, [("ETag", '"e"')])

    bucket.answer("f", serve)
    stored = await bucket.writing.begin("f", KEY).store(b"data", replace=False, commit=lambda: None)
    assert stored.size == 4
    with pytest.raises(errors.DestinationExists):
        await bucket.writing.begin("f", KEY).store(b"data", replace=False, commit=lambda: None)
    assert made == ["PUT"]


@pytest_twisted.ensureDeferred
async def test_bodies_are_not_kept(bucket: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent leaves the memory at once, and does not wait for the garbage collector, which counts no bytes."""
    alive: WeakSet[SlicedBody] = WeakSet()
    usual = SlicedBody.startProducing

    def start(body: SlicedBody, consumer: Any) -> Any:
        alive.add(body)
        return usual(body, consumer)

    monkeypatch.setattr(SlicedBody, "startProducing", start)

    def serve(exchange: Exchange) -> None:
        begun = "uploads" in exchange.request.target
        exchange.answer(200, [("ETag", '"e"')], b"<R><UploadId>u</UploadId></R>" if begun else b"")

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    gc.disable()
    try:
        await upload.open()
        for number in range(1, 4):
            await upload.write(bytes(21 * MIB))
            await upload.flush()
            assert (number, len(alive)) == (number, 0)
        await upload.close()
    finally:
        gc.enable()


@pytest.mark.parametrize("honoured", [None, True])
@pytest_twisted.ensureDeferred
async def test_completed_on_conditions(bucket: Rehearsal, honoured: bool | None) -> None:
    """A completion is sent on the condition of what was compared, and without where the service does not know that.

    So it is too where a PUT is known to be made on conditions.
    """
    bucket.writing._tools.conditions.honoured = honoured  # type: ignore[attr-defined]
    sent: list[str | None] = []
    old = [("ETag", '"old"'), ("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT")]
    made = [("ETag", '"new"'), ("x-amz-meta-datamover-upload", "1-a")]
    there = old

    def serve(exchange: Exchange) -> None:
        nonlocal there
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(200, there, bytes(4))
        elif "uploads" in request.target:
            there = old
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        elif request.method == "PUT":
            exchange.answer(200, [("ETag", '"e"')])
        else:
            sent.append(request.headers.get("if-match"))
            known = "if-match" not in request.headers
            there = made if known else old
            exchange.answer(200 if known else 501, [], b"<R/>" if known else error("NotImplemented"))

    bucket.answer("f", serve)
    looked = await bucket.writing.inspect("f")
    assert looked is not None
    for _ in range(2):
        upload = bucket.writing.begin("f", KEY)
        await upload.open()
        await upload.write(b"data")
        await upload.finish()
        await upload.commit(replace=True, over=looked.identity)
    assert sent == ['"old"', None, None]


@pytest.mark.parametrize(("code", "times"), [("NotImplemented", 2), ("EntityTooLarge", 1), ("InvalidPart", 1)])
@pytest_twisted.ensureDeferred
async def test_refused_on_conditions(bucket: Rehearsal, code: str, times: int) -> None:
    """A completion that is refused for another reason than its condition is not sent again without that."""
    sent: list[str | None] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(404)
        elif "uploads" in request.target:
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        elif request.method == "POST":
            sent.append(request.headers.get("if-none-match"))
            exchange.answer(400, [], error(code))
        else:
            exchange.answer(200, [("ETag", '"e"')])

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    await write(upload, b"data")
    with pytest.raises(DataMoverError):
        await upload.commit(replace=False)
    assert sent == ["*", None][:times]


@pytest_twisted.ensureDeferred
async def test_bodies_signed_where_they_must_be(bucket: Rehearsal) -> None:
    """A body is checked by the digest in its headers, and is signed itself where a service insists; that is kept."""
    asked: list[str] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(200, [("ETag", '"e"')], b"data")
            return
        asked.append(request.headers["x-amz-content-sha256"])
        assert request.headers["content-md5"]
        if asked[-1] == "UNSIGNED-PAYLOAD":
            exchange.answer(403, [], error("AccessDenied"))
        else:
            exchange.answer(200, [("ETag", '"e"')])

    bucket.answer("f", serve)
    for _ in range(2):
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    sha256 = hashlib.sha256(b"data").hexdigest()
    assert asked == ["UNSIGNED-PAYLOAD", sha256, sha256]


@pytest_twisted.ensureDeferred
async def test_a_directory_in_the_way(bucket: Rehearsal) -> None:
    """Where a service fails to make a file and there is a directory of its name, that is told."""

    def serve(exchange: Exchange) -> None:
        exchange.answer(404 if exchange.request.method == "HEAD" else 500, [], b"")

    bucket.answer("f", serve)
    listing = b"<ListBucketResult><Contents><Key>in/f/below</Key></Contents></ListBucketResult>"
    bucket.web.route("/bucket", gives(200, listing))
    with pytest.raises(errors.ServerError, match="there is a directory of that name"):
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)


@pytest_twisted.ensureDeferred
async def test_options_are_sent(tmp_path: Path) -> None:
    """Storage class, encryption and the name of its key are sent with every object, over TLS."""
    authority = Authority(tmp_path)
    web = Web(reactor, tls=ServerTLS(*authority.issue()))
    await web.start()
    rehearsal = Rehearsal(
        web,
        tmp_path,
        endpoint=web.url_of("localhost"),
        ca_file=authority.file,
        storage_class="COLD",
        encryption="aws:kms",
        encryption_key_id="alias/key",
    )
    try:
        web.route("/bucket/in/f", gives(200, ETag='"e"'))
        with pytest.raises(errors.SizeMismatch):
            await rehearsal.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
        headers = web.asked("/bucket/in/f")[0].headers
        assert headers["x-amz-storage-class"] == "COLD"
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/key"
    finally:
        await rehearsal.pool.close()
        await web.stop()


@pytest_twisted.ensureDeferred
async def test_certificate_that_does_not_fit(tmp_path: Path) -> None:
    """A service whose certificate is signed by nobody who is trusted is sent nothing; administrators are told why."""
    web = Web(reactor, tls=ServerTLS(*Authority(tmp_path).issue()))
    await web.start()
    rehearsal = Rehearsal(web, tmp_path)
    try:
        with pytest.raises(errors.TLSFailed) as caught:
            await rehearsal.pool.connect()
        assert caught.value.scope is Scope.DESTINATION
        assert "name the authority's certificate in [destinations.place] ca_file" in caught.value.full
        assert web.requests == []
    finally:
        await rehearsal.pool.close()
        await web.stop()


@pytest_twisted.ensureDeferred
async def test_certificate_of_our_own(tmp_path: Path) -> None:
    """A service that asks for a certificate is shown the destination's, and lets nobody in without one."""
    servers, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    certificate, key = clients.issue(name="us")
    web = Web(reactor, tls=ServerTLS(*servers.issue(), clients=clients.file))
    await web.start()
    web.route("/bucket/in/f", gives(200, b"data", ETag='"1"'))
    common = {"endpoint": web.url_of("localhost"), "ca_file": servers.file}
    named = Rehearsal(web, tmp_path, **common, certificate_file=certificate, key_file=key)
    unnamed = Rehearsal(web, tmp_path, **common)
    try:
        assert await read(named.reading.origin("f")) == (0, b"data")
        with pytest.raises(errors.TLSFailed) as caught:
            await read(unnamed.reading.origin("f"))
        assert "it asks for a certificate" in caught.value.full
    finally:
        await named.pool.close()
        await unnamed.pool.close()
        await web.stop()


def pages(*bodies: str) -> Callable[[Exchange], None]:
    """Give one page of an answer after the other."""
    left = list(bodies)
    return lambda exchange: exchange.answer(200, [], left.pop(0).encode())


@pytest_twisted.ensureDeferred
async def test_listed_in_pages(bucket: Rehearsal) -> None:
    """A directory is listed to its last page, names in the encoding that was asked for."""
    page = "<ListBucketResult><EncodingType>url</EncodingType>{}</ListBucketResult>"
    bucket.web.route(
        "/bucket",
        pages(
            page.format(
                "<Contents><Key>in/d/a+b%2B</Key></Contents><IsTruncated>true</IsTruncated>"
                "<NextContinuationToken>t/1=</NextContinuationToken>"
            ),
            page.format("<CommonPrefixes><Prefix>in/d/%C3%BC/</Prefix></CommonPrefixes>"),
        ),
    )
    assert await bucket.reading.list("d") == ["a b+", "ü"]
    first, second = (request.target for request in bucket.web.requests)
    assert "continuation-token" not in first
    assert "continuation-token=t%2F1%3D" in second


@pytest_twisted.ensureDeferred
async def test_no_service_there(bucket: Rehearsal) -> None:
    """A web server that is no S3 service is told as that, where it does not know the bucket."""
    bucket.web.otherwise = gives(404, b"<html>Not Found</html>")
    with pytest.raises(errors.DestinationInvalid, match="or is no S3 service; look at endpoint"):
        await bucket.pool.connect()


@pytest.mark.parametrize("more", ["", "<NextContinuationToken>t</NextContinuationToken>"])
@pytest_twisted.ensureDeferred
async def test_list_that_does_not_go_on(bucket: Rehearsal, more: str) -> None:
    """A listing that is told to go on, and does not, is not taken for all that there is."""
    page = f"<ListBucketResult><Contents><Key>in/d/a</Key></Contents><IsTruncated>true</IsTruncated>{more}"
    bucket.web.otherwise = lambda exchange: exchange.answer(200, [], f"{page}</ListBucketResult>".encode())
    with pytest.raises(errors.ServerError, match="its list is not complete, and does not go on"):
        await bucket.reading.list("d")


@pytest.mark.parametrize("kind", ["ListPartsResult", "ListPartsOutput"])
@pytest.mark.parametrize("same", [True, False])
@pytest_twisted.ensureDeferred
async def test_parts_in_pages(bucket: Rehearsal, same: bool, kind: str) -> None:
    """What the token tells of is held against all that the service lists, page after page, whatever was sent after."""
    parts = [Part(5 * MIB, f"e{number}") for number in range(3)]
    token = Token("1", "a", "u", 3, digest(parts if same else parts[::-1]))
    item = "<Part><PartNumber>{}</PartNumber><Size>{}</Size><ETag>&quot;{}&quot;</ETag></Part>"
    told = [item.format(number, 5 * MIB, f"e{number - 1}") for number in range(1, 5)]
    page = f"<{kind}>{{}}</{kind}>"
    more = "<IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>"
    bucket.answer("f", pages(page.format("".join(told[:2]) + more), page.format("".join(told[2:]))))
    upload = bucket.writing.resume("f", Saved(15 * MIB, str(token)))
    assert await upload.exists() is same
    assert "part-number-marker=2" in bucket.asked()[1].target


@pytest_twisted.ensureDeferred
async def test_parts_that_are_not_listed(bucket: Rehearsal) -> None:
    """Where a service does not list the parts of an upload at all, the file is sent anew."""
    bucket.answer("f", gives(405, error("MethodNotAllowed")))
    upload = bucket.writing.resume("f", Saved(MIB, str(Token("1", "a", "u", 1, digest([Part(MIB, "e")])))))
    assert not await upload.exists()


class Checksums:
    """A service that completes an upload whose parts have checksums only with all of them, and may list none."""

    def __init__(self, *, listed: bool) -> None:
        self.listed = listed
        self.parts: dict[str, dict[int, tuple[int, str | None]]] = {}
        self.checked: dict[str, bool] = {}
        self.sent: list[str] = []
        self.objects: dict[str, int] = {}

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        path, query = request.path.removeprefix("/bucket/in/"), dict(parse_qsl(request.target.partition("?")[2]))
        upload, there = query.get("uploadId", path), self.parts.setdefault(query.get("uploadId", path), {})
        if request.method == "POST" and "uploadId" not in query:
            self.checked[path] = "x-amz-checksum-algorithm" in request.headers
            exchange.answer(200, [], f"<R><UploadId>{path}</UploadId></R>".encode())
        elif request.method == "PUT":
            checksum = request.headers.get("x-amz-checksum-sha256")
            there[int(query["partNumber"])] = len(request.body), checksum
            self.sent.append(f"{path} {query['partNumber']}")
            told = [] if checksum is None else [("x-amz-checksum-sha256", checksum)]
            exchange.answer(200, [("ETag", f'"{query["partNumber"]}"'), *told])
        elif request.method == "GET" and "uploadId" in query:
            item = "<Part><PartNumber>{0}</PartNumber><Size>{1}</Size><ETag>{0}</ETag>{2}</Part>"
            checksums = {
                n: f"<ChecksumSHA256>{checksum}</ChecksumSHA256>" if self.listed and checksum else ""
                for n, (_, checksum) in there.items()
            }
            items = "".join(item.format(n, size, checksums[n]) for n, (size, _) in there.items())
            exchange.answer(200, [], f"<ListPartsResult>{items}</ListPartsResult>".encode())
        elif request.method == "POST" and self.checked[upload] is (request.body.count(b"SHA256>") == 2 * len(there)):
            self.objects[path] = sum(size for size, _ in there.values())
            exchange.answer(200, [], b"<R><ETag>e-2</ETag></R>")
        elif request.method == "POST":
            exchange.answer(400, [], error("InvalidRequest"))
        elif request.method == "HEAD" and path in self.objects:
            marks = [("ETag", '"e-2"'), ("x-amz-meta-datamover-upload", "1-a")]
            exchange.answer(200, marks, bytes(self.objects[path]))
        else:
            exchange.answer(204 if request.method == "DELETE" else 404)


@pytest.mark.parametrize("listed", [True, False])
@pytest_twisted.ensureDeferred
async def test_checksums_that_are_not_listed(bucket: Rehearsal, tmp_path: Path, listed: bool) -> None:
    """Uploads are gone on with by another process, and completed, also where the service lists no checksums.

    The first of a process teaches that; if checksums are not listed, that one begins anew.
    """
    bucket.web.otherwise = service = Checksums(listed=listed)
    saved: dict[str, Saved] = {}
    for name in ("f", "g"):
        upload = bucket.writing.begin(name, KEY)
        await upload.open()
        await upload.write(bytes(6 * MIB))
        saved[name] = await upload.flush()
        await upload.close()
    another = Rehearsal(bucket.web, tmp_path)
    try:
        for name, gone_on_with in (("f", listed), ("g", True)):
            upload = another.writing.resume(name, saved[name])
            assert await upload.exists() is gone_on_with
            if gone_on_with:
                await write(upload, bytes(MIB))
                assert (await upload.commit(replace=True)).size == 7 * MIB
    finally:
        await another.pool.close()
    assert service.sent == ["f 1", "g 1", *(["f 2"] if listed else []), "g 2"]
    assert service.checked == {"f": True, "g": listed}


@pytest.mark.parametrize(
    ("size", "number", "expected"),
    [(None, 0, 16 * MIB), (None, 2500, 48 * MIB), (MIB, 0, 16 * MIB), (5 * 2**40, 0, 610_839_794)],
)
def test_part_sizes(size: int | None, number: int, expected: int) -> None:
    """A file of any size that S3 takes fits into its ten thousand parts, with room for those that end early."""
    assert part_size(S3_LIMITS, 16 * MIB, size, number, 0) == expected
    if size is not None:
        assert -(-size // expected) <= 9000


@pytest.mark.parametrize("size", [60 * 2**30, 150 * 2**30, 5 * 2**40, None])
def test_parts_that_end_early(size: int | None) -> None:
    """Checkpoints of a slow source end no more parts early than leaves numbers for the rest, in parts as planned."""
    number = done = early = largest = 0
    while done < (size or 2**39) and number <= S3_LIMITS.most:
        wanted = (16 if number % 100 else 5) * MIB  # As where many files are written for a while.
        planned = part_size(S3_LIMITS, wanted, size, number, done)
        largest = max(largest, planned)
        ended = may_end_early(S3_LIMITS, wanted, size, number + 1, done + S3_LIMITS.least)
        early += ended
        number, done = number + 1, done + (S3_LIMITS.least if ended else planned)
    assert number <= S3_LIMITS.most
    assert early >= 900
    assert size is None or largest <= max(16 * MIB, size // 9000 + 1)


@pytest.mark.parametrize(
    ("path", "path_style", "key", "url"),
    [
        ("", True, "", "https://s3.example.org:8333/bucket"),
        ("/", True, "a b/%2F", "https://s3.example.org:8333/bucket/a%20b/%252F"),
        ("", False, "", "https://bucket.s3.example.org:8333/"),
        ("", False, "ü", "https://bucket.s3.example.org:8333/%C3%BC"),
        ("/s3/", True, "", "https://s3.example.org:8333/s3/bucket"),
        ("/s3", True, "f", "https://s3.example.org:8333/s3/bucket/f"),
        ("/s3", False, "f", "https://bucket.s3.example.org:8333/s3/f"),
    ],
)
def test_addresses(path: str, path_style: bool, key: str, url: str) -> None:
    """A bucket stands in the path, behind that of the endpoint, or before the host."""
    address = BucketAddress(WebUrl.parse(f"https://s3.example.org:8333{path}"), "bucket", path_style)
    assert address.url(key).text == url


def test_amazons_addresses() -> None:
    """Those of China end in another name."""
    assert amazon("us-east-1") == "https://s3.us-east-1.amazonaws.com"
    assert amazon("cn-north-1") == "https://s3.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("s3://bucket", True),
        ("s3://bucket/a/b%20c/", True),
        ("s3://my.bucket_1/x", True),
        ("s3:///x", False),
        ("s3://bucket/a/../b", False),
        ("s3://bucket/%00", False),
        ("s3://bucket/%ff", False),
        ("s3://bucket?x", False),
        ("s3://key@bucket/x", False),
        ("s3://bucket:80/x", False),
    ],
)
def test_urls(url: str, good: bool) -> None:
    """A bucket and a prefix, nothing else."""
    if good:
        S3.check_url(url)
    else:
        with pytest.raises(ValueError, match="s3://BUCKET"):
            S3.check_url(url)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("endpoint", "https://s3.example.org/?path"),
        ("endpoint", "ftp://s3.example.org"),
        ("region", "eu/west"),
        ("part_size", "1MiB"),
        ("access_key_id", "two words"),
        ("encryption", "rot13"),
        ("encryption_key_id", "alone"),
        ("path_style", "yes"),
    ],
)
def test_options(key: str, value: str, tmp_path: Path) -> None:
    """A key of the table that cannot be used is refused."""
    table = {"access_key_id": "AKID", "secret_key_file": tmp_path / "secret"}
    S3.options.model_validate(table)
    with pytest.raises(ValueError, match=r"expected|Input"):
        S3.options.model_validate({**table, key: value})


SINCE = 1_700_000_000.0
"""2023-11-14T22:13:20Z"""


@pytest.mark.parametrize(
    ("key", "initiator", "initiated", "since", "swept"),
    [
        ("in/f", "me", "2023-11-14T22:13:21.000Z", SINCE, True),
        ("in/f", "me", "2023-11-14T22:00:00Z", SINCE, True),
        ("in/f", "me", "2023-11-14T21:50:00.000Z", SINCE, False),
        ("in/f", "me", "yesterday", SINCE, False),
        ("in/f", "me", "2023-11-14T22:13:21.000Z", None, False),
        ("in/f", "somebody", "2023-11-14T22:13:21.000Z", SINCE, False),
        ("in/f", "", "2023-11-14T22:13:21.000Z", SINCE, False),
        ("in/f2", "me", "2023-11-14T22:13:21.000Z", SINCE, False),
    ],
)
@pytest_twisted.ensureDeferred
async def test_swept_only_where_all_fits(
    bucket: Rehearsal, key: str, initiator: str, initiated: str, since: float | None, swept: bool
) -> None:
    """An upload whose number nobody has is aborted only where key, initiator and time are those of the transfer."""
    pending = (
        "<Upload><Key>{}</Key><UploadId>{}</UploadId><Initiator><ID>{}</ID></Initiator>"
        f"<Initiated>{initiated}</Initiated></Upload>"
    )
    aborted: list[str] = []
    probes: list[str] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "DELETE":
            aborted.append(request.target.partition("uploadId=")[2])
            exchange.answer(204)
        elif request.method == "POST":
            probes.append(request.path.removeprefix("/bucket/"))
            exchange.answer(200, [], b"<R><UploadId>own</UploadId></R>")
        else:
            uploads = [pending.format(key, "u", initiator), *(pending.format(each, "own", "me") for each in probes)]
            body = f"<ListMultipartUploadsResult>{''.join(uploads)}</ListMultipartUploadsResult>"
            exchange.answer(200, [], body.encode())

    bucket.web.otherwise = serve
    await bucket.writing.sweep("f", "1", check=lambda: None, since=since)
    assert ("u" in aborted) is swept
    assert set(aborted) <= {"u", "own"}


@pytest_twisted.ensureDeferred
async def test_swept_page_by_page(bucket: Rehearsal) -> None:
    """What a page of uploads tells is dealt with before the next is asked for: there may be millions."""
    assert isinstance(bucket.writing, S3Place)
    asked: list[str] = []
    for number in (1, 2):
        bucket.writing._bucket.made.add(f"u{number}", "1")

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        more = "key-marker=" not in request.target
        asked.append("page" if request.method == "GET" else request.target.partition("uploadId=")[2])
        told = f"<Upload><Key>in/f</Key><UploadId>u{1 if more else 2}</UploadId></Upload>"
        markers = "<NextKeyMarker>in/f</NextKeyMarker><NextUploadIdMarker>u1</NextUploadIdMarker>"
        told += f"<IsTruncated>true</IsTruncated>{markers}" if more else ""
        body = f"<ListMultipartUploadsResult>{told}</ListMultipartUploadsResult>".encode()
        exchange.answer(200 if request.method == "GET" else 204, [], body if request.method == "GET" else b"")

    bucket.web.otherwise = serve
    await bucket.writing.sweep("f", "1", check=lambda: None)
    assert asked == ["page", "u1", "page", "u2"]


@pytest_twisted.ensureDeferred
async def test_left_over_the_question_who_we_are(bucket: Rehearsal) -> None:
    """Uploads that were made to ask for the initiator, or to test, are removed once they are old, if this login's."""
    made: list[str] = []
    aborted: list[str] = []
    old = [("me", "00:00"), ("somebody", "00:00"), ("me", "22:13")]

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "DELETE":
            aborted.append(unquote(request.target.partition("uploadId=")[2]))
            exchange.answer(204)
        elif request.method == "POST":
            made.append(request.path.removeprefix("/bucket/"))
            exchange.answer(200, [], b"<R><UploadId>own</UploadId></R>")
        else:
            uploads = [("in/f", "stray", "me", "21:00"), ("in/g", "foreign", "somebody", "21:00")]
            for kind in ("probe", "test"):
                beginning = f"in/.datamover-{kind}-001122334455667"
                uploads += [(f"{beginning}{n}", f"{kind} {n}", who, when) for n, (who, when) in enumerate(old)]
                uploads.append((f"{beginning}-like", f"like a {kind}", "me", "00:00"))
            uploads += [(key, "own", "me", "22:20") for key in made]
            told = [
                f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId><Initiator><ID>{who}</ID></Initiator>"
                f"<Initiated>2023-11-14T{when}:00Z</Initiated></Upload>"
                for key, upload, who, when in uploads
                if key.startswith(unquote(request.target.partition("prefix=")[2].partition("&")[0]))
                and upload not in aborted
            ]
            body = f"<ListMultipartUploadsResult>{''.join(told)}</ListMultipartUploadsResult>"
            exchange.answer(200, [], body.encode())

    bucket.web.otherwise = serve
    assert isinstance(bucket.pool, TellsUploads)
    told = await bucket.pool.unfinished_uploads()
    assert aborted == ["own", "probe 0", "test 0"]
    assert [each.upload for each in told] == ["like a probe", "like a test", "stray", "probe 2", "test 2"]


@pytest.mark.parametrize("trouble", ["a reset", "an error", "no number", "a refusal"])
@pytest_twisted.ensureDeferred
async def test_begun_and_not_told(bucket: Rehearsal, trouble: str) -> None:
    """An upload that a service may have begun, and did not tell of, is aborted where it can be nobody else's."""
    aborted: list[str] = []
    uploads = [
        ("in/f", "lost", "me", "2123-11-14"),
        ("in/f", "old", "me", "2013-11-14"),
        ("in/f2", "g", "me", "2123-11-14"),
    ]
    uploads += [("in/f", "foreign", "somebody", "2123-11-14")]

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "DELETE":
            aborted.append(request.target.partition("uploadId=")[2])
            exchange.answer(204)
        elif "probe" in request.path:
            uploads.append((request.path.removeprefix("/bucket/"), "own", "me", "2123-11-14"))
            exchange.answer(200, [], b"<R><UploadId>own</UploadId></R>")
        elif request.method == "GET":
            told = [
                f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId><Initiator><ID>{who}</ID></Initiator>"
                f"<Initiated>{when}T00:00:00Z</Initiated></Upload>"
                for key, upload, who, when in uploads
            ]
            exchange.answer(
                200, [], f"<ListMultipartUploadsResult>{''.join(told)}</ListMultipartUploadsResult>".encode()
            )
        elif trouble == "a reset":
            exchange.reset()
        elif trouble == "a refusal":
            exchange.answer(403, [], error("AccessDenied"))
        else:
            exchange.answer(500 if trouble == "an error" else 200, [], error("InternalError"))

    bucket.web.otherwise = serve
    upload = bucket.writing.begin("f", KEY)
    with pytest.raises(DataMoverError):
        await upload.open()
    assert (upload.token is None) is (trouble == "a refusal")
    await upload.close()
    await upload.abort()
    assert "lost" not in aborted if trouble == "a refusal" else set(aborted) == {"own", "lost"}
    assert upload.token is None
