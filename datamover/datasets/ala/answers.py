"""What the Atlas's answers say. Pure: nothing is asked here.

Any field may be null, missing or of another type than it should be; what is refused is refused in the Atlas's words.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

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
from datamover.web.amounts import MOST
from datamover.web.url import WebUrl

RATE_WINDOW = 300.0
"""Seconds over which the Atlas counts an address's requests."""
LONGEST_WORDS = 300

_TOO_MANY = re.compile(r"too many|rate.?limit|quota|throttl", re.IGNORECASE)
_WORDS = ("message", "error", "errorMessage", "error_description", "detail", "title")


class Stage(Enum):
    """Where a download is, whatever it is called this year."""

    QUEUED = "inqueue"
    RUNNING = "running"
    FINISHED = "finished"
    UNTOLD = ""
    """No status, or null."""
    GONE = "gone"
    """invalidId or unavailable: the Atlas does not know the request, or has thrown the download away."""
    ENDED = "ended"
    """Anything else: tooLarge, cancelled, skipped, or a word that nobody knows yet."""


_STAGES = {
    **{stage.value: stage for stage in (Stage.QUEUED, Stage.RUNNING, Stage.FINISHED, Stage.UNTOLD)},
    "invalidid": Stage.GONE,
    "unavailable": Stage.GONE,
}


@dataclass(frozen=True, slots=True)
class Status:
    """How far the Atlas is with a download."""

    stage: Stage
    word: str
    """The status as it stood there."""
    total: int | None
    """Records there are."""
    records: int | None
    """Records that are ready."""
    ahead: int | None
    """Downloads that wait before this one."""
    status_url: str | None
    cancel_url: str | None
    search_url: str | None
    download_url: str | None
    failed: bool
    """There is an error."""
    words: str
    """Message and error, ready to be appended; "" where there is neither."""

    @property
    def shown(self) -> str:
        """The stage, for people."""
        if self.stage is Stage.QUEUED:
            return "ALA: queued" + ("" if self.ahead is None else f", {self.ahead:,} ahead")
        if self.records is not None and self.total:
            return f"ALA: running, {self.records:,} of {self.total:,} records"
        return "ALA: running" if self.stage is Stage.RUNNING else "ALA: preparing the records"


def status_of(body: bytes, url: WebUrl) -> Status:
    """Read a download's status, which ``url`` answered.

    Raises ServerError for what is no JSON object, DatasetInvalid for a URL in it that is none.
    """
    found = object_of(body)
    word = _text(found.get("status"))
    said = (quoted(_text(found.get(key))) for key in ("message", "error"))
    return Status(
        stage=_STAGES.get("".join(char for char in word.casefold() if char.isalnum()), Stage.ENDED),
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
    """Return an answer's JSON object; raises ServerError for anything else, such as a page that says sorry."""
    found = json_of(body)
    if not isinstance(found, dict):
        raise ServerError(f"ALA answered with something else than a JSON object{words(body)}", scope=Scope.SOURCE)
    return found


def json_of(body: bytes) -> Any:
    """Return an answer's JSON, None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def refusal_of(head: Head, body: bytes, about: str) -> DataMoverError:
    """Return the error that a status other than 200 stands for; ``about`` is what was asked for."""
    status, said, pause = head.status, words(body), retry_after(head)
    told = f"{status} {_phrase(status)}".rstrip() + said
    # A 403 is also what an address gets that asks too often, and only the words tell the one from the other.
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
    """Return what a body says, quoted and ready to be appended; "" where that is nothing for people."""
    found = json_of(body)
    if isinstance(found, dict):
        return quoted(next(filter(None, (_text(found.get(key)) for key in _WORDS)), ""))
    text = body.decode("utf-8", "replace")
    text = re.sub(r"(?is)<(script|style|head)\b.*?</\1>", " ", text)
    return quoted(re.sub(r"<[^>]*>", " ", text))


def quoted(text: str) -> str:
    line = plain(text, LONGEST_WORDS)
    return f': "{line}"' if line else ""


def plain(text: str, longest: int) -> str:
    """Return a text as one printable line of at most ``longest`` characters."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
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
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST else None


def _url(url: WebUrl, found: dict[str, Any], key: str) -> str | None:
    text = _text(found.get(key))
    if not text:
        return None
    try:
        return url.join(text).text
    except (InvalidRequest, UnsupportedScheme) as error:
        raise DatasetInvalid(f"ALA's {key} cannot be followed: {error.message}") from None
