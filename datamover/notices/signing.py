"""The body and headers of a notice, and its signature. Pure.

The signature covers time, id and body. A receiver that checks it, and refuses old times and known ids, is safe from
replays.
"""

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from datamover.jobs.values import Notice
from datamover.text import redaction

ID = "Datamover-Id"
TIMESTAMP = "Datamover-Timestamp"
SIGNATURE = "Datamover-Signature"


@dataclass(frozen=True, slots=True)
class SignedNotice:
    """The request of one attempt."""

    headers: dict[str, str]
    body: bytes


def signed_notice(notice: Notice, secret: str, now: float) -> SignedNotice:
    """Return the request for a notice, signed at ``now`` (POSIX seconds)."""
    told: dict[str, Any] = {"id": notice.id, "job": notice.job, **notice.payload, "attempt": notice.attempt}
    if isinstance(told.get("error"), dict):
        told["error"] = redaction.visible_error(told["error"], administrator=False)
    body = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")
    timestamp = str(int(now))
    headers = {
        "Content-Type": "application/json",
        ID: notice.id,
        TIMESTAMP: timestamp,
        SIGNATURE: signature(secret, timestamp, notice.id, body),
    }
    return SignedNotice(headers, body)


def signature(secret: str, timestamp: str, id: str, body: bytes) -> str:
    """Return the value of the signature header."""
    signed = f"{timestamp}.{id}.".encode() + body
    return "sha256=" + hmac.new(secret.encode("utf-8"), signed, hashlib.sha256).hexdigest()
