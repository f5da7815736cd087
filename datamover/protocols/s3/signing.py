"""AWS Signature Version 4 for S3. Pure.

Source: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API Reference.
"""

import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

EMPTY = hashlib.sha256(b"").hexdigest()
"""The sha256 of a request without a body."""
UNSIGNED = "UNSIGNED-PAYLOAD"
"""Signed in place of a body's sha256, if another header has its digest."""
_ALGORITHM = "AWS4-HMAC-SHA256"
_DAYS = 64
"""Signing keys that are cached: one for each destination and day."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The signing key."""

    access_key_id: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


def encoded(text: str, safe: str = "") -> str:
    """Percent-encode all bytes of ``text`` in UTF-8 but letters, digits, "-", ".", "_", "~" and those of ``safe``."""
    return quote(text, safe=f"{safe}~", errors="surrogateescape")


def query_string(query: Iterable[tuple[str, str]]) -> str:
    """Return a query as it is sent and signed: encoded, and sorted by name and value."""
    return "&".join(f"{name}={value}" for name, value in sorted((encoded(n), encoded(v)) for n, v in query))


def signed(
    method: str,
    authority: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    sha256: str,
    credentials: SigningKey,
    region: str,
    now: float,
) -> dict[str, str]:
    """Return the headers of a request: ``headers``, all of which are signed, and those of the signature.

    ``path`` and ``query`` are encoded, as they are sent; ``sha256`` is the body's, in hex; ``now`` is in POSIX seconds.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    sent = {**headers, "x-amz-content-sha256": sha256, "x-amz-date": stamp}
    if credentials.session_token is not None:
        sent["x-amz-security-token"] = credentials.session_token
    lines = sorted([("host", authority), *((name.lower(), " ".join(value.split())) for name, value in sent.items())])
    names = ";".join(name for name, _ in lines)
    canonical = "\n".join([method, path, query, *(f"{name}:{value}" for name, value in lines), "", names, sha256])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = "\n".join([_ALGORITHM, stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    signature = _hmac(_key(credentials.secret_key, stamp[:8], region), text).hex()
    sent["Authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return sent


@lru_cache(_DAYS)
def _key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
