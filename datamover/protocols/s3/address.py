"""Where a bucket is: the URL of each of its keys, in path style or as a virtual host. Pure."""

import posixpath
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from datamover.protocols.s3.signing import encoded
from datamover.web.url import WebUrl

LONGEST_KEY = 1024
"""Bytes, of any key (Amazon S3 User Guide, "Naming Amazon S3 objects")."""


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """One bucket at one endpoint."""

    endpoint: WebUrl
    bucket: str
    path_style: bool

    @property
    def host(self) -> str:
        return self.endpoint.host if self.path_style else f"{self.bucket}.{self.endpoint.host}"

    def url(self, key: str, query: str = "") -> WebUrl:
        """Return the URL of a key, "" for the bucket's own."""
        path = f"/{encoded(self.bucket)}/" if self.path_style else "/"
        path = f"{path}{encoded(key, '/')}" if key or not self.path_style else path.rstrip("/")
        return WebUrl(self.endpoint.scheme, self.host, self.endpoint.port, path, query or None)


def bucket_of(url: str) -> str:
    """Return the bucket of ``s3://BUCKET/PREFIX``, as it is spelt."""
    return unquote(urlsplit(url).netloc)


def prefix_of(url: str) -> str:
    """Return the prefix of ``s3://BUCKET/PREFIX``, without "/" at either end."""
    path = unquote(urlsplit(url).path).strip("/")
    return posixpath.normpath(path) if path else ""
