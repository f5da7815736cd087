"""What some providers' services do in their own way, each rehearsed."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.errors import DataMoverError, Scope
from datamover.protocols.s3.address import BucketAddress
from datamover.protocols.upload import Saved, Upload
from datamover.web.url import WebUrl
from tests.protocols.conformance import content
from tests.protocols.test_s3_service import KEY, MIB, Rehearsal, bucket, error, gives
from tests.servers.web import Exchange, Web

__all__ = ["bucket"]

DATA = content(27 * MIB + 3)


class Service:
    """A service with limits of its own.

    With ``even`` all parts of an upload but the last are of one size, and that is no larger (Cloudflare R2). There may
    be ``most`` parts (Scaleway).
    """

    def __init__(self, *, even: bool = False, most: int = 10_000) -> None:
        self._even = even
        self._most = most
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.object: bytes | None = None
        self.mark = ""
        self.completions = 0
        self._begun = 0

    def __call__(self, exchange: Exchange) -> None:
        request = exchange.request
        asked = dict(re.findall(r"[?&](\w+)=([^&]*)", request.target))
        upload = asked.get("uploadId", "")
        if "uploads" in asked:
            self._begun += 1
            self.uploads[f"u{self._begun}"] = {}
            self.mark = request.headers["x-amz-meta-datamover-upload"]
            exchange.answer(200, [], f"<R><UploadId>u{self._begun}</UploadId></R>".encode())
        elif upload and upload not in self.uploads:
            exchange.answer(404, [], error("NoSuchUpload"))
        elif request.method == "PUT" and int(asked["partNumber"]) > self._most:
            said = f"Part number must be an integer between 1 and {self._most}, inclusive"
            exchange.answer(400, [], error("InvalidArgument", said))
        elif request.method == "PUT":
            self.uploads[upload][int(asked["partNumber"])] = request.body
            exchange.answer(200, [("ETag", f'"{asked["partNumber"]}"')])
        elif request.method == "GET" and upload:
            part = "<Part><PartNumber>{0}</PartNumber><Size>{1}</Size><ETag>{0}</ETag></Part>"
            told = "".join(part.format(number, len(data)) for number, data in self.uploads[upload].items())
            exchange.answer(200, [], f"<ListPartsResult>{told}</ListPartsResult>".encode())
        elif request.method == "POST":
            self._complete(exchange, upload)
        elif request.method == "DELETE":
            self.uploads.pop(upload, None)
            exchange.answer(204)
        elif self.object is None:
            exchange.answer(404)
        else:
            exchange.answer(200, [("ETag", '"o-2"'), ("x-amz-meta-datamover-upload", self.mark)], self.object)

    def _complete(self, exchange: Exchange, upload: str) -> None:
        self.completions += 1
        parts = [self.uploads[upload][number] for number in sorted(self.uploads[upload])]
        sizes = [len(part) for part in parts]
        if self._even and (len(set(sizes[:-1])) > 1 or sizes[-1] > sizes[0]):
            exchange.answer(400, [], error("InvalidPart", "All non-trailing parts must have the same length."))
            return
        del self.uploads[upload]
        self.object = b"".join(parts)
        exchange.answer(200, [], b"<R><ETag>o-2</ETag></R>")


async def send(upload: Upload, data: bytes, *, pause_at: int) -> Saved:
    """Write data, with a checkpoint at a place where no part ends; return what is saved at the end."""
    await upload.open()
    for start, end in ((upload.offset, pause_at), (pause_at, len(data))):
        for begin in range(start, end, MIB):
            await upload.write(data[begin : min(begin + MIB, end)])
        if end == pause_at:
            await upload.flush()
    return await upload.finish()


@pytest_twisted.async_yield_fixture
async def small(tmp_path: Path) -> AsyncIterator[Rehearsal]:
    """A bucket whose uploads have small parts."""
    web = Web(reactor)
    await web.start()
    bucket = Rehearsal(web, tmp_path, part_size="5MiB")
    yield bucket
    await bucket.pool.close()
    await web.stop()


@pytest.mark.parametrize("size", [len(DATA), None], ids=["size known", "size unknown"])
@pytest_twisted.ensureDeferred
async def test_parts_of_one_size(small: Rehearsal, size: int | None) -> None:
    """Where a service wants parts of one size, that is learnt; the next attempt begins anew with such parts."""
    service, place = Service(even=True), small.writing
    small.answer("f", service)
    upload = place.begin("f", KEY, size=size)
    saved = await send(upload, DATA, pause_at=11 * MIB)
    with pytest.raises(errors.SizeMismatch, match="wants parts of one size; it is sent so next") as caught:
        await upload.commit(replace=False)
    assert caught.value.retryable
    assert service.uploads == {}
    assert not await place.resume("f", saved, size=size).exists()
    # The next attempt, which is interrupted, and goes on with the parts that were saved.
    upload = place.begin("f", KEY, size=size)
    await upload.open()
    for begin in range(0, 12 * MIB, MIB):
        await upload.write(DATA[begin : begin + MIB])
    saved = await upload.flush()
    await upload.close()
    assert saved.offset == 10 * MIB
    upload = place.resume("f", saved, size=size)
    assert await upload.exists()
    await send(upload, DATA, pause_at=19 * MIB)
    await upload.commit(replace=False)
    assert service.object == DATA
    assert service.completions == 2


@pytest_twisted.ensureDeferred
async def test_fewer_parts(small: Rehearsal) -> None:
    """Where a service takes fewer parts than Amazon, that is learnt; the next attempt sends larger ones."""
    service, place = Service(most=4), small.writing
    small.answer("f", service)
    said = "the service takes 4 parts of an upload; it is sent in larger ones next"
    upload = place.begin("f", KEY, size=len(DATA))
    with pytest.raises(errors.SizeMismatch, match=said) as caught:
        await send(upload, DATA, pause_at=11 * MIB)
    assert caught.value.retryable
    await upload.close()
    assert service.uploads == {}
    upload = place.begin("f", KEY, size=len(DATA))
    await send(upload, DATA, pause_at=len(DATA))
    await upload.commit(replace=False)
    assert service.object == DATA


@pytest.mark.parametrize(
    ("host", "even", "most"),
    [
        ("0123.r2.cloudflarestorage.com", True, 10_000),
        ("0123.eu.r2.cloudflarestorage.com", True, 10_000),
        ("s3.fr-par.scw.cloud", False, 1000),
        ("s3.example.org", False, 10_000),
    ],
)
def test_known_limits(host: str, even: bool, most: int) -> None:
    """A service that is known for other limits than Amazon's has them heeded from the first file on."""
    limits = BucketAddress(WebUrl.parse(f"https://{host}"), "bucket", True).limits
    assert (limits.even, limits.most) == (even, most)


@pytest.mark.parametrize(
    ("status", "code", "said", "kind", "words"),
    [
        (403, "AccessDenied", "Cannot upload files, storage cap exceeded.", errors.NoSpace, "raise it at the provider"),
        (403, "AccessDenied", "Transaction cap exceeded.", errors.RateLimited, "raise it at the provider"),
        (403, "AccessDenied", "No such permission", errors.DestinationForbidden, "give the key the permission"),
        (403, "UserSuspended", "", errors.AuthenticationFailed, "is suspended"),
        (400, "XMinioInvalidObjectName", "", errors.DestinationInvalid, "cannot be a key"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refused(
    bucket: Rehearsal, status: int, code: str, said: str, kind: type[DataMoverError], words: str
) -> None:
    """What providers refuse in words of their own is told as what it is, with what to do about it."""
    bucket.answer("f", gives(404), gives(status, error(code, said)))
    with pytest.raises(kind) as caught:
        await bucket.writing.begin("f", KEY).store(b"data", replace=False, commit=lambda: None)
    assert words in caught.value.message
    assert caught.value.scope is Scope.DESTINATION
