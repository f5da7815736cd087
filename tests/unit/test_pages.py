"""What is read of error pages, and what that costs."""

import time
from collections.abc import Callable

import pytest

from datamover.bounds.servers import LARGEST_PAGE
from datamover.protocols.dav.documents import said_in
from datamover.protocols.s3.documents import error_of
from datamover.text.pages import words_of


def test_words() -> None:
    """Scripts, styles, heads and comments are no words; a sign that begins no tag is one."""
    page = (
        b"<html><head><title>x</title></head><!-- a > b --><style>p {}</style><h1>Bad\n Gateway</h1><br/>1 < 2 <script>"
    )
    assert words_of(page) == "Bad Gateway 1 < 2"
    assert len(words_of(b"word " * LARGEST_PAGE)) <= LARGEST_PAGE


@pytest.mark.parametrize("read", [words_of, error_of, said_in])
@pytest.mark.parametrize(
    "unit",
    [b"<", b"<script ", b"<!--", b"</script ", b"<Error ", b"<x:Error>", b"<title", b"<title>", b"<a", b"x:", b" "],
)
def test_what_a_page_costs(read: Callable[[bytes], object], unit: bytes) -> None:
    """However a page is made, it is read in a time in proportion to its length."""
    page = unit * (4 * LARGEST_PAGE // len(unit))
    began = time.process_time()
    read(page)
    # Measured: 0.01 s; in the square of the length it was 6 to 40 s.
    assert time.process_time() - began < 2
