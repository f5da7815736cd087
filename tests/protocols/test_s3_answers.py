"""S3 where what answers is no S3 service, or lies behind a proxy that takes away from its answers."""

from collections.abc import Awaitable
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.errors import ConfigError, DataMoverError, Scope
from datamover.protocols import again
from datamover.protocols.base import Ability
from datamover.protocols.object_store.seam import Part
from datamover.protocols.place import PlaceSettings
from datamover.protocols.s3 import S3
from datamover.protocols.s3.documents import Listing, error_of, listing_of, parts_of
from datamover.protocols.slices import result
from datamover.protocols.upload import UploadKey
from datamover.registry.probe import probe
from tests.protocols.conformance import read, write
from tests.protocols.test_s3_service import KEY, Rehearsal, bucket, error, gives
from tests.servers.web import Exchange, Web

__all__ = ["bucket"]

LOGIN = b"<!DOCTYPE html><html><head><title>x</title></head><body>Please <b>log in</b>\n to this network</body></html>"
PAST = "Sun, 29 Nov 2026 12:00:00 GMT"


async def refused(bucket: Rehearsal, side: Scope = Scope.DESTINATION) -> DataMoverError:
    """Return what reading or writing "f" meets."""
    if side is Scope.SOURCE:
        moving: Awaitable[object] = read(bucket.reading.origin("f"))
    else:
        moving = bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    with pytest.raises(DataMoverError) as caught:
        await moving
    return caught.value


@pytest_twisted.ensureDeferred
async def test_page_in_place_of_an_object(bucket: Rehearsal) -> None:
    """The page by which a network asks for a login is neither moved as the file, nor taken for one that is there."""
    bucket.answer("f", gives(200, LOGIN))
    for side in (Scope.SOURCE, Scope.DESTINATION):
        error = await refused(bucket, side)
        assert (error.code, error.scope, error.retryable) == ("SERVER_ERROR", side, True)
        assert "'f': what answers there is no object store" in error.message
        with pytest.raises(errors.ServerError, match="is no object store"):
            await bucket.pool.at(side).inspect("f")


@pytest.mark.parametrize(
    ("answered", "size"),
    [
        (gives(206, b"d", ETag='"e"', Content_Range="bytes 0-0/4"), 4),
        (gives(416, error("InvalidRange")), 0),
        (gives(200, b"data", ETag='"e"'), 4),
    ],
)
@pytest_twisted.ensureDeferred
async def test_head_without_a_length(bucket: Rehearsal, answered: object, size: int) -> None:
    """A proxy that compresses leaves out how long an object is: then a GET of one byte tells it."""

    def serve(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.write(exchange.head(200, [("ETag", '"e"'), ("x-amz-meta-datamover-upload", "1-a")]))
        else:
            assert callable(answered)
            answered(exchange)

    bucket.answer("f", serve)
    found = await bucket.reading.inspect("f")
    assert found is not None
    assert found.size == size


ODD = 'HTTP/1.1 {}\r\nETag: "e-2"\r\n{}\r\n'


@pytest.mark.parametrize(
    ("answered", "size", "said"),
    [
        (ODD.format("204 No Content", ""), 4, "could not do it (204)"),
        (ODD.format("202 Accepted", "Content-Length: 4\r\n") + "data", 4, "could not do it (202)"),
        (ODD.format("206 Partial Content", "Content-Length: 4\r\n") + "data", 8, "although all of it was asked for"),
        (ODD.format("200 OK", "Connection: close\r\n") + "data", 4, None),
        (ODD.format("200 OK", "Connection: close\r\n") + "data", 8, "changed while it was read"),
        (ODD.format("200 OK", "Connection: close\r\nContent-Encoding: gzip\r\n") + "data", 8, "compresses it unasked"),
        (ODD.format("200 OK", "Content-Length: 4\r\nContent-Encoding: gzip\r\n") + "data", 8, "compresses it unasked"),
        (ODD.format("200 OK", "Content-Length: 4\r\nContent-Encoding: gzip\r\n") + "data", 4, None),
    ],
)
@pytest_twisted.ensureDeferred
async def test_odd_answers_to_a_reader(bucket: Rehearsal, answered: str, size: int, said: str | None) -> None:
    """What is no answer with a file, ends early, or was compressed on its way is not moved as the object."""

    def serve(exchange: Exchange) -> None:
        if exchange.request.method == "HEAD":
            exchange.answer(200, [("ETag", '"e-2"')], bytes(size))
        else:
            exchange.write(answered.encode())
            exchange.close()

    bucket.answer("f", serve)
    if said is None:
        assert await read(bucket.reading.origin("f")) == (0, b"data")
    else:
        with pytest.raises(DataMoverError) as caught:
            await read(bucket.reading.origin("f"))
        assert said in caught.value.message
        assert caught.value.scope is Scope.SOURCE


@pytest_twisted.ensureDeferred
async def test_part_without_an_etag(bucket: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload of whose part no ETag is told cannot be completed: that is said, and not that it were gone."""
    monkeypatch.setattr(again, "BASE", 0.001)

    def serve(exchange: Exchange) -> None:
        begun = "uploads" in exchange.request.target
        exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>" if begun else b"")

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    with pytest.raises(errors.ServerError, match="tells no ETag of a part"):
        await write(upload, b"data")


@pytest.mark.parametrize(
    ("status", "body", "code", "words", "said"),
    [
        (404, LOGIN, "DESTINATION_INVALID", "is no S3 service; look at endpoint", " Please log in to this network"),
        (400, LOGIN, "SERVER_ERROR", "or a proxy before it, refuses", " Please log in to this network"),
        (400, error("A\x1b[31m", "one\n two\x1b"), "SERVER_ERROR", "(400)", " one two?, and"),
        (400, error("A", "one\n two\u2028&#10;end"), "SERVER_ERROR", "(A)", " A: one two end, and"),
        # What was cut off, or what holds what was signed.
        (
            404,
            error("NoSuchBucket", "x" * 70_000),
            "DESTINATION_INVALID",
            "its bucket does not exist",
            " NoSuchBucket, and",
        ),
        (403, b"<Error><Secret>s3cret</Secret><", "DESTINATION_FORBIDDEN", "may not be written", " names"),
        (
            302,
            LOGIN,
            "DESTINATION_INVALID",
            "another address",
            " Please log in to this network, and names https://a.example/?token=***)",
        ),
    ],
)
@pytest_twisted.ensureDeferred
async def test_words(bucket: Rehearsal, status: int, body: bytes, code: str, words: str, said: str) -> None:
    """A refusal's words are told administrators on one line, and nothing secret of them."""
    bucket.answer("f", gives(status, body, Location="https://user:pass@a.example/?token=s3cret"))
    error = await refused(bucket)
    assert error.code == code
    assert words in error.message
    assert f"(the service answers {status}{said}" in error.full
    assert error.full.isprintable()
    assert error.full.endswith("names https://a.example/?token=***)")
    assert "s3cret" not in error.full
    assert "pass" not in error.full


@pytest_twisted.ensureDeferred
async def test_answer_without_an_end(bucket: Rehearsal) -> None:
    """An answer that is longer than any of its kind is an error of the service, not of a dataset."""
    bucket.web.otherwise = gives(200, b"<ListBucketResult>" + bytes(9 * 2**20))
    with pytest.raises(errors.ServerError) as caught:
        await bucket.pool.connect()
    assert "the service's answer is too long" in caught.value.message
    assert not caught.value.retryable


@pytest_twisted.ensureDeferred
async def test_begun_once(bucket: Rehearsal) -> None:
    """The request that begins an upload is not sent again by itself: the service may have begun one for each."""
    asked: list[int] = []

    def serve(exchange: Exchange) -> None:
        if "uploads" in exchange.request.target and exchange.request.method == "POST":
            asked.append(exchange.request.turn)
            exchange.reset()
        else:
            exchange.answer(200, [("ETag", '"e"')])

    bucket.web.otherwise = serve
    assert await bucket.writing.inspect("f") is not None  # It leaves a connection.
    with pytest.raises(errors.ConnectionLost):
        await bucket.writing.begin("f", KEY).open()
    assert asked == [1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f", "application/octet-stream"),
        ("f.csv", "text/csv"),
        ("f.csv.gz", "application/gzip"),
        ("f.tar.xz", "application/x-xz"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_types(bucket: Rehearsal, name: str, expected: str) -> None:
    """Objects have the type that their names tell, whether they come whole or in parts."""
    bucket.answer(name, gives(503, error("SlowDown")))
    with pytest.raises(DataMoverError):
        await bucket.writing.begin(name, KEY).store(b"data", replace=True, commit=lambda: None)
    with pytest.raises(DataMoverError):
        await bucket.writing.begin(name, KEY).open()
    put, begun = bucket.asked(name)
    assert put.headers["content-type"] == begun.headers["content-type"] == expected


@pytest_twisted.ensureDeferred
async def test_completion_whose_answer_cannot_be_read(bucket: Rehearsal) -> None:
    """What a completion made counts, though its answer does not tell so."""

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(200, [("ETag", '"e-1"'), ("x-amz-meta-datamover-upload", "1-a")], b"data")
        elif "uploads" in request.target:
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        else:
            exchange.answer(204 if request.method == "DELETE" else 200, [("ETag", '"p"')])

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    await write(upload, b"data")
    assert (await upload.commit(replace=True)).size == 4


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (200, "InternalError"), (409, "OperationAborted")]
)
@pytest_twisted.ensureDeferred
async def test_completed_again(bucket: Rehearsal, status: int, code: str) -> None:
    """A completion that is refused for the moment is sent again, for the next attempt would read the source again."""
    completions: list[bytes] = []

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        if request.method == "HEAD":
            exchange.answer(200, [("ETag", '"e-1"'), ("x-amz-meta-datamover-upload", "1-a")], b"data")
        elif "uploads" in request.target:
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        elif request.method == "POST":
            completions.append(request.body)
            refused = len(completions) < 3
            exchange.answer(status if refused else 200, [], error(code) if refused else b"<R><ETag>e-1</ETag></R>")
        else:
            exchange.answer(200, [("ETag", '"p"')])

    bucket.answer("f", serve)
    upload = bucket.writing.begin("f", KEY)
    await write(upload, b"data")
    assert (await upload.commit(replace=True)).size == 4
    assert len(completions) == 3


@pytest_twisted.ensureDeferred
async def test_metadata_that_is_not_told(bucket: Rehearsal) -> None:
    """A file of which a service tells no metadata is stored, and it is told that its time is not kept."""
    bucket.answer("f", gives(200, b"data", Last_Modified=PAST))
    upload = bucket.writing.begin("f", KEY, modified=5.0)
    [lack] = (await upload.store(b"data", replace=True, commit=lambda: None)).without
    assert lack.ability is Ability.SET_MODIFIED


@pytest_twisted.ensureDeferred
async def test_trials_that_may_not_be_looked_at(bucket: Rehearsal) -> None:
    """What a test of the destination wrote is removed also where the key may write, and not read."""
    bucket.web.otherwise = gives(403, error("AccessDenied"))
    path = ".datamover-test-0123456789abcdef"
    with pytest.raises(errors.DestinationForbidden, match="s3:DeleteObject"):
        await bucket.writing.remove(path)
    assert [request.method for request in bucket.asked(path)][-1] == "DELETE"


LISTED = "<ListBucketResult>{}<Contents><Key> in/d/a</Key></Contents></ListBucketResult>"


@pytest.mark.parametrize(
    "more",
    [
        "<IsTruncated>\n true\n</IsTruncated><NextContinuationToken>\nt\n</NextContinuationToken>",
        "<IsTruncated>True</IsTruncated><NextContinuationToken>t</NextContinuationToken>",
        "<IsTruncated>1</IsTruncated><NextContinuationToken><![CDATA[t]]></NextContinuationToken>",
    ],
)
def test_listings_that_go_on(more: str) -> None:
    """A listing is not taken for all that there is, however its XML is laid out; keys are as they are written."""
    assert result(listing_of(b"\n " + LISTED.format(more).encode())) == Listing((" in/d/a",), (), "t")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('<s3:Error xmlns:s3="x"><s3:Code>\n SlowDown </s3:Code></s3:Error>', "SlowDown"),
        ("<ErrorResponse><Error><Code>SlowDown</Code></Error></ErrorResponse>", "SlowDown"),
        ("<Response><Errors><Error><Code>SlowDown</Code></Error></Errors></Response>", "SlowDown"),
        ("<!DOCTYPE x [<!ENTITY a 'SlowDown'>]><Error><Code>&a;</Code></Error>", None),
    ],
)
def test_errors_in_other_forms(body: str, code: str | None) -> None:
    """An error is known by its code in the forms of the gateways before a service, too; entities are not followed."""
    found = error_of(body.encode())
    assert (found and found.code) == code


def test_parts_laid_out() -> None:
    """ETags are known with and without quotes, weak, and with white space around them."""
    tags = ("e", '"e"', 'W/"e"', ' "e"\n', "&quot;e&quot;")
    item = "<Part><PartNumber> {} </PartNumber><Size>\n5\n</Size><ETag>{}</ETag></Part>"
    told = "".join(item.format(number, tag) for number, tag in enumerate(tags))
    parts, following, _ = result(parts_of(f"<ListPartsResult>{told}</ListPartsResult>".encode()))
    assert set(parts.values()) == {Part(5, "e")}
    assert (len(parts), following) == (len(tags), None)


@pytest_twisted.ensureDeferred
async def test_error_inside_with_a_prefix(bucket: Rehearsal) -> None:
    """An answer of status 200 with an error inside is one whatever its namespace is called."""
    bucket.answer("f", gives(200, b'<s3:Error xmlns:s3="x"><s3:Code>InternalError</s3:Code></s3:Error>', ETag='"e"'))
    with pytest.raises(errors.ServerError, match="could not do it"):
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)


@pytest_twisted.ensureDeferred
async def test_key_that_may_only_write(bucket: Rehearsal) -> None:
    """What may not be looked at is stored once at most; it is told that it stays, and which permission is lacking."""

    def serve(exchange: Exchange) -> None:
        request = exchange.request
        body = b"<R><UploadId>u</UploadId></R>" if request.method == "POST" else b""
        may = request.method in ("PUT", "POST")
        exchange.answer(200 if may else 403, [("ETag", '"e"')], body if may else error("AccessDenied"))

    bucket.web.otherwise = serve
    lacking = "'f' may not be read: have the administrator give the key the permission s3:GetObject"
    told = await probe(bucket.pool, S3.abilities, reactor)
    [failed] = [step for step in told["steps"] if not step["ok"]]
    assert failed["step"] == "write"
    assert failed["error"]["message"].endswith(lacking.partition(" ")[2])
    with pytest.raises(errors.DestinationForbidden) as caught:
        await bucket.writing.begin("f", KEY).store(b"data", replace=True, commit=lambda: None)
    assert caught.value.message.endswith(f"'f' was stored and stays there, but is not known to be whole: {lacking}")
    with pytest.raises(errors.DestinationForbidden) as caught:
        await bucket.writing.begin("g", KEY).store(b"data", replace=True, commit=lambda: None)
    assert caught.value.message.endswith(f"'g' is not stored, since it could not be checked: {lacking}")
    with pytest.raises(errors.DestinationForbidden, match="'h' is not stored"):
        await bucket.writing.begin("h", KEY).open()
    assert [request.method for request in bucket.asked("g") + bucket.asked("h")] == []


class Archive:
    """A service whose objects are archived once they are there."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.marks: dict[str, str] = {}
        self.part = b""
        self.classes: dict[str, str | None] = {}

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        path, method = request.path, request.method
        headers = [("ETag", '"e"'), ("Last-Modified", PAST)]
        if "uploads=" in request.target or (method == "PUT" and "?" not in request.target):
            self.classes[path] = request.headers.get("x-amz-storage-class")
            self.marks[path] = request.headers["x-amz-meta-datamover-upload"] if "probe" not in path else ""
        if "partNumber=" in request.target:
            self.part = request.body
            exchange.answer(200, headers)
        elif method == "PUT":
            if "if-none-match" in request.headers and path in self.objects:
                exchange.answer(412)
                return
            self.objects[path] = request.body
            exchange.answer(200, headers)
        elif method == "POST":
            if "uploads=" not in request.target:
                self.objects[path] = self.part
            exchange.answer(200, [], b"<R><UploadId>u</UploadId></R>")
        elif method == "DELETE":
            self.objects.pop(path, None)
            exchange.answer(204)
        elif path == "/bucket":
            exchange.answer(200, [], b"<ListBucketResult></ListBucketResult>")
        elif path not in self.objects:
            exchange.answer(404, [], error("NoSuchKey"))
        elif method == "HEAD":
            marks = [
                ("x-amz-storage-class", self.classes[path] or ""),
                ("x-amz-meta-datamover-upload", self.marks[path]),
            ]
            exchange.answer(200, [*headers, *marks], self.objects[path])
        else:
            exchange.answer(403, [], error("InvalidObjectState", "not valid for the object's storage class"))


@pytest_twisted.ensureDeferred
async def test_archived(tmp_path: Path) -> None:
    """Where objects are archived at once, a test looks at what it wrote and does not read it; that is told."""
    web, archive = Web(reactor), Archive()
    web.otherwise = archive
    await web.start()
    rehearsal = Rehearsal(web, tmp_path, storage_class="DEEP_ARCHIVE")
    try:
        told = await probe(rehearsal.pool, S3.abilities, reactor)
        assert told["ok"], told
        assert not archive.objects
        [lack] = rehearsal.pool.lacks
        assert lack.ability is Ability.READ
        assert "DEEP_ARCHIVE are read only once they were restored" in lack.sentence
        # What only shows how the service behaves is not archived, for that is paid for by the quarter of a year.
        assert {path.partition("/.datamover-")[2][:5]: kind for path, kind in archive.classes.items()} == {
            "probe": None,
            "test-": "DEEP_ARCHIVE",
        }
        await rehearsal.writing.begin("f", UploadKey("", "")).store(b"data", replace=True, commit=lambda: None)
        with pytest.raises(errors.SourceForbidden, match="keeps it archived: have the administrator restore it"):
            await read(rehearsal.reading.origin("f"))
    finally:
        await rehearsal.pool.close()
        await web.stop()


def test_archives_are_not_read_back(tmp_path: Path) -> None:
    """What is read only after it was restored is not to be read back after each transfer."""
    settings = PlaceSettings("place", "s3://bucket/in", 0o644, 0o755, 5.0, 5.0, read_back=True)
    table = {"access_key_id": "AKID", "secret_key_file": tmp_path / "secret", "storage_class": "GLACIER"}
    with pytest.raises(ConfigError, match=r'^destinations.place.verify: "read-back": expected "size"'):
        S3.open(settings, S3.options.model_validate(table), reactor)
