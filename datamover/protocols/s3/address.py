"""The URLs of a bucket and its keys, in path style or as a virtual host. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urljoin

from datamover.errors import DataMoverError
from datamover.protocols.object_store.limits import S3_LIMITS, PartLimits
from datamover.protocols.s3.signing import encoded, query_string
from datamover.web.url import WebUrl

Query = Sequence[tuple[str, str]]
"""Names and values, decoded."""

_LIMITS = {
    # "Multipart upload" in Cloudflare's documentation of R2.
    ".r2.cloudflarestorage.com": replace(S3_LIMITS, even=True),
    # "How to use multipart uploads" in Scaleway's documentation.
    ".scw.cloud": replace(S3_LIMITS, most=1000),
}
LONGEST_KEY = 1024
"""Bytes (Amazon S3 User Guide, "Naming Amazon S3 objects")."""


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """One bucket at one endpoint, which may have a path."""

    endpoint: WebUrl
    bucket: str
    path_style: bool

    @property
    def host(self) -> str:
        return self.endpoint.host if self.path_style else f"{self.bucket}.{self.endpoint.host}"

    @property
    def limits(self) -> PartLimits:
        """The limits of the parts of an upload, where the service is known for others than Amazon's."""
        return next((limits for end, limits in _LIMITS.items() if self.endpoint.host.endswith(end)), S3_LIMITS)

    def url(self, key: str, query: str = "") -> WebUrl:
        """Return the URL of a key, "" for the bucket's own."""
        root = self.endpoint.path.rstrip("/")
        path = f"{root}/{encoded(self.bucket)}/" if self.path_style else f"{root}/"
        path = f"{path}{encoded(key, '/')}" if key or not self.path_style else path.rstrip("/")
        return WebUrl(self.endpoint.scheme, self.host, self.endpoint.port, path, query or None)

    def redirected(self, key: str, query: Query, location: str) -> WebUrl | None:
        """Return the target of a redirect of a request for a key, with what it adds to the query.

        None unless it is this key of this bucket at the endpoint or one of its subdomains, since the login is sent to
        no other host ("Request routing", Amazon S3 User Guide).
        """
        if not location:
            return None
        try:
            there = WebUrl.parse(urljoin(self.url(key).text, location))
        except (DataMoverError, ValueError):
            return None
        below = there.host.endswith(f".{self.endpoint.host}") and self.endpoint.address is None
        if (there.scheme, there.port) != (self.endpoint.scheme, self.endpoint.port):
            return None
        if there.host != self.endpoint.host and not below:
            return None
        hosted = replace(self, path_style=not there.host.startswith(f"{self.bucket}."))
        path = hosted.url(key).path
        if unquote(there.path).rstrip("/") != unquote(path).rstrip("/"):
            return None
        own = {name for name, _ in query}
        added = [each for each in parse_qsl(there.query or "", keep_blank_values=True) if each[0] not in own]
        return WebUrl(there.scheme, there.host, there.port, path, query_string([*query, *added]) or None)


def amazon(region: str) -> str:
    """Return the address of Amazon's service in a region; the regions of China are a partition of their own."""
    return f"https://s3.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
