"""Parse the Atlas's answers. Pure.

Any field may be null, missing or of another type than documented. Errors quote the Atlas's message.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

from datamover.bounds.calls import LARGEST_FILE, LONGEST_URL
from datamover.bounds.datasets import LONGEST_WORDS
from datamover.bounds.servers import LARGEST_PAGE
from datamover.errors import (
    AuthenticationFailed,
    DataMoverError,
    DatasetInvalid,
    DatasetNotFound,
    InvalidRequest,
    RateLimited,
    Scope,
    ServerError,
    SourceForbidden,
    UnsupportedScheme,
)
from datamover.protocols.http.answers import Head, retry_after
from datamover.text.pages import words_of
from datamover.web.url import WebUrl

RATE_WINDOW = 300.0
"""Seconds over which the Atlas counts an address's requests."""

_TOO_MANY = re.compile(r"too many|rate.?limit|quota|throttl", re.IGNORECASE)
_WORDS = ("message", "error", "errorMessage", "error_description", "detail", "title")


class DownloadStage(Enum):
    """The stage of a download; the Atlas has changed its names over the years."""

    QUEUED = "inqueue"
    RUNNING = "running"
    FINISHED = "finished"
    UNTOLD = ""
    """No status, or null."""
    GONE = "gone"
    """invalidId or unavailable: the Atlas does not know the request, or has deleted the download."""
    ENDED = "ended"
    """Anything else: tooLarge, cancelled, skipped, or an unknown word."""


_STAGES = {
    **{
        stage.value: stage
        for stage in (DownloadStage.QUEUED, DownloadStage.RUNNING, DownloadStage.FINISHED, DownloadStage.UNTOLD)
    },
    "invalidid": DownloadStage.GONE,
    "unavailable": DownloadStage.GONE,
}


@dataclass(frozen=True, slots=True)
class DownloadStatus:
    """The status of a download."""

    stage: DownloadStage
    word: str
    """The status as the Atlas spells it."""
    total: int | None
    """Records in all."""
    records: int | None
    """Records that are ready."""
    ahead: int | None
    """Downloads queued before this one."""
    status_url: str | None
    cancel_url: str | None
    search_url: str | None
    download_url: str | None
    failed: bool
    """The status holds an error."""
    words: str
    """Message and error, to append to a sentence; "" for neither."""

    @property
    def shown(self) -> str:
        """The stage in words."""
        if self.stage is DownloadStage.QUEUED:
            return "ALA: queued" + ("" if self.ahead is None else f", {self.ahead:,} ahead")
        if self.records is not None and self.total:
            return f"ALA: running, {self.records:,} of {self.total:,} records"
        return "ALA: running" if self.stage is DownloadStage.RUNNING else "ALA: preparing the records"


def status_of(body: bytes, url: WebUrl) -> DownloadStatus:
    """Parse a download's status; URLs in it are relative to ``url``, which answered.

    Raises ServerError if it is not a JSON object, DatasetInvalid for an unusable URL in it.
    """
    found = object_of(body)
    word = _text(found.get("status"))
    said = (quoted(_text(found.get(key))) for key in ("message", "error"))
    return DownloadStatus(
        stage=_STAGES.get("".join(char for char in word.casefold() if char.isalnum()), DownloadStage.ENDED),
        word=plain(word, 60),
        total=_count(found.get("totalRecords")),
        records=_count(found.get("records")),
        ahead=_count(found.get("queueSize")),
        status_url=_url(url, found, "statusUrl"),
        cancel_url=_url(url, found, "cancelUrl"),
        search_url=_url(url, found, "searchUrl"),
        download_url=_url(url, found, "downloadUrl"),
        failed=bool(_text(found.get("error"))),
        words="".join(dict.fromkeys(said)),
    )


def object_of(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a body; raises ServerError for anything else, such as an error page."""
    found = json_of(body)
    if not isinstance(found, dict):
        raise ServerError(f"ALA answered with something else than a JSON object{words(body)}", scope=Scope.SOURCE)
    return found


def json_of(body: bytes) -> Any:
    """Return the JSON value in a body, None if it is not JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def refusal_of(head: Head, body: bytes, about: str) -> DataMoverError:
    """Return the error for an answer whose status is not 200; ``about`` names what was requested."""
    status, said, pause = head.status, words(body), retry_after(head)
    told = f"{status} {_phrase(status)}".rstrip() + said
    # An address that sends too many requests gets a 403, too; only the message tells them apart.
    too_often = status == 403 and (pause is not None or _TOO_MANY.search(said) is not None)
    if status == 429 or too_often or (status == 503 and pause is not None):
        if pause is None and too_often:
            pause = RATE_WINDOW
        return RateLimited(f"ALA asks to come again later: {told}", scope=Scope.SOURCE, retry_after=pause)
    if status in (404, 410):
        return DatasetNotFound(f"ALA does not know {about}: {told}")
    if status == 407:
        return AuthenticationFailed(f"the HTTP proxy asks for a login: {told}", scope=Scope.SOURCE)
    if status in (408, 425) or status >= 500:
        return ServerError(f"ALA failed: {told}", scope=Scope.SOURCE)
    if status >= 400:
        return SourceForbidden(f"ALA refused the request: {told}")
    return ServerError(f"ALA answered {told}", scope=Scope.SOURCE)


def words(body: bytes) -> str:
    """Return the message in a body, quoted, to append to a sentence; "" if there is none."""
    found = json_of(body[:LARGEST_PAGE])
    if isinstance(found, dict):
        return quoted(next(filter(None, (_text(found.get(key)) for key in _WORDS)), ""))
    return quoted(words_of(body))


def quoted(text: str) -> str:
    line = plain(text, LONGEST_WORDS)
    return f': "{line}"' if line else ""


def plain(text: str, longest: int) -> str:
    """Return a text as one printable line of at most ``longest`` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:LARGEST_PAGE]).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_FILE else None


def _url(url: WebUrl, found: dict[str, Any], key: str) -> str | None:
    text = _text(found.get(key))
    if not text:
        return None
    if len(text) > LONGEST_URL:
        raise DatasetInvalid(f"ALA's {key} cannot be followed: it has {len(text):,} characters")
    try:
        return url.join(text).text
    except (InvalidRequest, UnsupportedScheme) as error:
        raise DatasetInvalid(f"ALA's {key} cannot be followed: {error.message}") from None
