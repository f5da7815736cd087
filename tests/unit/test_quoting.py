"""What is long is cut before it is quoted, and looked at in time that grows with its length alone."""

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from datamover.api.methods import moves
from datamover.bounds.calls import LONGEST_QUOTED, LONGEST_QUOTED_URL
from datamover.errors import RequestError
from datamover.requests.coercion import told
from datamover.text.quoting import cut, quoted
from datamover.web.paths import check_path
from datamover.web.policy import Prefix
from datamover.web.url import WebUrl, shown

LONGEST = 8192
PIECES = [
    "a",
    "@",
    ":",
    "/",
    "./",
    "../",
    "%25",
    "%2e",
    "/%2e",
    "[",
    "é",
    ":a",
    "@:",
    "\\",
    "?",
    "=",
    "&",
    "\u00ad",
    "1.",
]


def matched(url: str) -> object:
    return Prefix.parse("https://example.org/open/%41/").matches(WebUrl.parse(url))


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("beginning", ["", "https://", "https://example.org/", "scp://", "urn:lsid:a:b:"])
@pytest.mark.parametrize(
    "read",
    [
        WebUrl.parse,
        matched,
        shown,
        told,
        moves.is_lsid,
        lambda text: moves._scp(text, "source"),
        lambda text: check_path(text, key="path", destination="archive"),
    ],
    ids=["url", "rule", "shown", "told", "lsid", "scp", "path"],
)
def test_reading_is_quick(read: Callable[[str], object], beginning: str, piece: str) -> None:
    """Whatever a text of the longest size is made of, it is read, or refused, in some milliseconds."""
    text = (beginning + piece * LONGEST)[:LONGEST]
    began = time.process_time()
    with suppress(RequestError):
        read(text)
    assert time.process_time() - began < 0.1


def test_cut_then_quoted() -> None:
    """No more than a piece is quoted, whatever its characters become."""
    assert cut("a" * LONGEST_QUOTED) == "a" * LONGEST_QUOTED
    assert cut("a" * (LONGEST_QUOTED + 1)) == "a" * (LONGEST_QUOTED - 1) + "…"
    assert quoted("\u2028" * 10**6) == "'" + "\\u2028" * 16 + "\\u…"
    assert len(quoted("\0" * 10**7)) == LONGEST_QUOTED


@pytest.mark.parametrize("login", ["user:s3cr3t", "s3cr3t", "user:" + "x" * 400 + "s3cr3t"])
@pytest.mark.parametrize("length", [0, 250, 295, 300, 10_000])
def test_a_long_url_tells_no_login(login: str, length: int) -> None:
    """Wherever it is cut."""
    for url in (
        f"https://{login}{'y' * length}@example.org/a?key=s3cr3t",
        f"https://example.org/{'z' * length}?k=s3cr3t",
    ):
        assert "s3cr3t" not in shown(url)
        assert len(shown(url)) <= LONGEST_QUOTED_URL + 1
