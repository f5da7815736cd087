"""Outcomes in the bodies of answers whose status was sent before the work was done. Pure.

Source: Swift's API, "Static Large Objects": ``heartbeat=on``, and ``multipart-manifest=delete`` as a bulk deletion.
"""

import re
from dataclasses import replace
from typing import Any

from datamover.protocols.http.answers import Head
from datamover.protocols.http_place.json_documents import short_json
from datamover.protocols.http_place.refused import Refused, Unreadable

ASKED = {"Accept": "application/json"}
"""The header that requests the outcome as JSON."""

_STATUS = re.compile(r"(\d{3})\b")


def outcome_of(head: Head, body: bytes) -> dict[str, Any]:
    """Return the outcome of a request that succeeded. Raises Refused if it did not, and Unreadable.

    ``body`` may begin with the spaces that the service sent while it worked.
    """
    try:
        told = short_json(body)
    except ValueError:
        raise Unreadable("its outcome is not JSON") from None
    status = _STATUS.match(str(told.get("Response Status"))) if isinstance(told, dict) else None
    if status is None:
        raise Unreadable("it tells no outcome")
    failed = told.get("Errors") or []
    code = int(status[1])
    if not 200 <= code < 300 or failed:
        said = " ".join([str(told.get("Response Body") or ""), *map(_words, failed)]).strip()
        raise Refused(replace(head, status=_worst(code, failed)), message=said)
    return dict(told)


def _words(failed: Any) -> str:
    return f"{failed[0]}: {failed[1]}" if isinstance(failed, list) and len(failed) > 1 else str(failed)


def _worst(code: int, failed: Any) -> int:
    """Return the status of the first object that failed, if the whole outcome is "400 Bad Request"."""
    if code != 400:
        return code if code >= 300 else 400
    for each in failed:
        status = _STATUS.match(str(each[1])) if isinstance(each, list) and len(each) > 1 else None
        if status is not None:
            return int(status[1])
    return code
