"""What the tests of S3 share: a bucket looked at past datamover, and a pool for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet import reactor

from datamover.protocols.place import DestinationPool, PlaceSettings
from datamover.protocols.s3 import S3
from tests.protocols.conformance import Outside, Premises
from tests.servers.s3 import BUCKET, S3Server

PREFIX = "a/prefix"


class BucketOutside:
    """``conformance.Outside`` of a prefix of a bucket."""

    def __init__(self, server: S3Server, prefix: str = PREFIX) -> None:
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


def pool_of(server: S3Server, prefix: str = PREFIX, *, bucket: str = BUCKET, **options: Any) -> DestinationPool:
    """Return a pool for a prefix of the server's bucket, which its caller closes."""
    table = {**server.options, **options}
    settings = PlaceSettings("place", f"s3://{bucket}/{prefix}", 0o640, 0o750, 10.0, 10.0)
    return S3.open(settings, S3.options.model_validate(table), reactor)


@asynccontextmanager
async def opened(server: S3Server, prefix: str = PREFIX, **options: Any) -> AsyncIterator[DestinationPool]:
    """Give a pool, and close it afterwards."""
    pool = pool_of(server, prefix, **options)
    try:
        yield pool
    finally:
        await pool.close()


class S3Premises(Premises):
    """A prefix of a server's bucket, empty at first."""

    unit = 6 * 2**20

    def __init__(self, server: S3Server) -> None:
        self.pool = pool_of(server)
        self._outside = BucketOutside(server)

    @property
    def outside(self) -> Outside:
        return self._outside
