"""What the tests of S3 share: a bucket looked at past datamover, and a pool for it."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor

from datamover import errors
from datamover.errors import Scope
from datamover.protocols.base import Origin
from datamover.protocols.place import DestinationPool, PlaceSettings
from datamover.protocols.s3 import S3
from datamover.protocols.upload import Saved, UploadKey
from tests.protocols.conformance import KEY, Outside, Premises, arrive, read, write
from tests.protocols.object_store import ObjectStoreConformance
from tests.servers.s3 import BUCKET, S3Account

PREFIX = "a/prefix"


class BucketOutside:
    """``conformance.Outside`` of a prefix of a bucket."""

    def __init__(self, server: S3Account, prefix: str = PREFIX) -> None:
        self._boto = server.boto
        self._prefix = prefix

    def read(self, path: str) -> bytes | None:
        try:
            body: bytes = self._boto.get_object(Bucket=BUCKET, Key=f"{self._prefix}/{path}")["Body"].read()
        except self._boto.exceptions.NoSuchKey:
            return None
        return body

    def lay(self, path: str, data: bytes, modified: float | None = None) -> None:
        metadata = {} if modified is None else {"mtime": str(modified)}
        self._boto.put_object(Bucket=BUCKET, Key=f"{self._prefix}/{path}", Body=data, Metadata=metadata)

    def names(self, directory: str = "") -> list[str]:
        prefix = f"{self._prefix}/{directory}/" if directory else f"{self._prefix}/"
        pages = self._boto.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = [each["Key"].removeprefix(prefix) for page in pages for each in page.get("Contents", ())]
        return sorted({key.partition("/")[0] for key in keys})

    def uploads(self) -> int:
        return len(self._uploads())

    def _uploads(self) -> Any:
        try:
            return self._boto.list_multipart_uploads(Bucket=BUCKET, Prefix=self._prefix).get("Uploads", ())
        except self._boto.exceptions.NoSuchUpload:  # So rclone says that there is none.
            return ()

    def clear(self) -> None:
        for page in self._boto.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for each in page.get("Contents", ()):
                self._boto.delete_object(Bucket=BUCKET, Key=each["Key"])
        for each in self._uploads():
            self._boto.abort_multipart_upload(Bucket=BUCKET, Key=each["Key"], UploadId=each["UploadId"])


def pool_of(server: S3Account, prefix: str = PREFIX, *, bucket: str = BUCKET, **options: Any) -> DestinationPool:
    """Return a pool for a prefix of the server's bucket, which its caller closes."""
    table = {**server.options, **options}
    settings = PlaceSettings("place", f"s3://{bucket}/{prefix}", 0o640, 0o750, 10.0, 10.0)
    return S3.open(settings, S3.options.model_validate(table), reactor)


@asynccontextmanager
async def opened(server: S3Account, prefix: str = PREFIX, **options: Any) -> AsyncIterator[DestinationPool]:
    """Give a pool, and close it afterwards."""
    pool = pool_of(server, prefix, **options)
    try:
        yield pool
    finally:
        await pool.close()


class S3Conformance(ObjectStoreConformance):
    """What S3 does besides; a subclass gives the fixture ``premises``."""

    honours = True
    """Whether a PUT is refused, on that condition, where something is."""
    removes: bool | None = True
    """Whether a DELETE is refused where something else is; None: that depends on the service's version."""

    @pytest_twisted.ensureDeferred
    async def test_replaced_as_it_was_compared(self, premises: Premises) -> None:
        """Only what was looked at before is replaced; what somebody else wrote meanwhile stays, as the upload does."""
        premises.outside.lay("f", b"compared")
        compared = (await premises.reading.origin("f").inspect()).identity
        upload, _ = await arrive(premises.writing, "f", b"new")
        premises.outside.lay("f", b"meanwhile")
        for over in (compared, ""):
            with pytest.raises(errors.DestinationExists, match="somebody else meanwhile") as caught:
                await upload.commit(replace=True, over=over)
            assert caught.value.retryable
        assert premises.outside.read("f") == b"meanwhile"
        meanwhile = (await premises.reading.origin("f").inspect()).identity
        await upload.commit(replace=True, over=meanwhile)
        assert premises.outside.read("f") == b"new"
        # Committed again, as where the answer was lost, it is found to be its own.
        assert (await upload.commit(replace=True, over=meanwhile)).size == 3

    @pytest_twisted.ensureDeferred
    async def test_stays_where_it_cannot_be_read_back(self, premises: Premises) -> None:
        """What cannot be read back now is not taken away: committed again, it is looked at again."""
        upload, _ = await arrive(premises.writing, "f", b"data")
        token = upload.token
        assert token is not None

        async def broken(origin: Origin) -> None:
            raise errors.ConnectionLost("the connection broke", scope=Scope.DESTINATION)

        with pytest.raises(errors.ConnectionLost):
            await upload.commit(replace=False, prove=broken)
        assert premises.outside.read("f") == b"data"

        async def right(origin: Origin) -> None:
            assert await read(origin) == (0, b"data")

        again = premises.writing.resume("f", Saved(4, token))
        assert (await again.commit(replace=False, prove=right)).size == 4

    @pytest_twisted.ensureDeferred
    async def test_written_by_another_while_it_is_read_back(self, premises: Premises) -> None:
        """What another wrote there after the commit stays, though it is not what was sent."""
        upload, _ = await arrive(premises.writing, "f", b"data")

        async def overtaken(origin: Origin) -> None:
            premises.outside.lay("f", b"another's")
            raise errors.ChecksumMismatch("it differs", scope=Scope.DESTINATION)

        with pytest.raises(errors.ChecksumMismatch):
            await upload.commit(replace=False, prove=overtaken)
        assert premises.outside.read("f") == b"another's"

    @pytest_twisted.ensureDeferred
    async def test_conditions_learnt(self, premises: Premises) -> None:
        """Before the first small file it is tried whether a service makes one only where none is; nothing is left."""
        conditions = premises.writing._tools.conditions  # type: ignore[attr-defined]
        for name in ("one", "two"):
            upload = premises.writing.begin(name, UploadKey("1", name))
            await upload.store(name.encode(), replace=False, commit=lambda: None)
            assert premises.outside.read(name) == name.encode()
            assert conditions.honoured is self.honours
            assert conditions.removes is self.removes or self.removes is None
        assert premises.outside.names() == ["one", "two"]
        with pytest.raises(errors.DestinationExists):
            await premises.writing.begin("one", KEY).store(b"other", replace=False, commit=lambda: None)
        assert premises.outside.read("one") == b"one"

    @pytest_twisted.ensureDeferred
    async def test_removed_as_it_was_found(self, premises: Premises) -> None:
        """What was found to be wrong is removed, where it is still that; what another wrote there stays."""
        await premises.pool.connect()
        tools = premises.writing._tools  # type: ignore[attr-defined]
        premises.outside.lay("f", b"wrong")
        wrong = await tools.store.head("f")
        premises.outside.lay("f", b"another's")
        assert wrong.age is not None
        await tools.conditions.remove(tools.store, "f", wrong)
        assert premises.outside.read("f") == b"another's"
        await tools.conditions.remove(tools.store, "f", await tools.store.head("f"))
        assert premises.outside.read("f") is None

    @pytest_twisted.ensureDeferred
    async def test_digest_kept(self, premises: Premises) -> None:
        """The digest of a file of parts is told of it from then on, where it was known before."""
        sha256 = hashlib.sha256(b"whole").hexdigest()
        upload = premises.writing.begin("f", KEY, size=5, sha256=sha256)
        await write(upload, b"whole")
        await upload.commit(replace=False)
        assert (await premises.reading.origin("f").inspect()).digests["sha256"] == sha256


class S3Premises(Premises):
    """A prefix of a server's bucket, empty at first."""

    unit = 6 * 2**20

    def __init__(self, server: S3Account) -> None:
        self.pool = pool_of(server)
        self._outside = BucketOutside(server)

    @property
    def outside(self) -> Outside:
        return self._outside
