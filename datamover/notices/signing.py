"""What a notice of a job's end looks like on the wire, and how it is signed. Pure.

The signature covers the time and the id as well as the body: a receiver who checks it, and refuses what is old or has
an id that it knows, cannot be told a thing twice by somebody who listened in.
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
    """One attempt to deliver a notice."""

    headers: dict[str, str]
    body: bytes


def letter(notice: Notice, secret: str, now: float) -> SignedNotice:
    """Return what is sent at ``now``, POSIX seconds."""
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
    """Return the signature of a body, as its header tells it."""
    signed = f"{timestamp}.{id}.".encode() + body
    return "sha256=" + hmac.new(secret.encode("utf-8"), signed, hashlib.sha256).hexdigest()
