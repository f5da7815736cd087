"""Shorten what messages quote."""

from datamover.bounds.calls import LONGEST_QUOTED, LONGEST_QUOTED_URL


def cut(text: str, longest: int = LONGEST_QUOTED) -> str:
    """Return text; one longer than ``longest`` is shortened to that length, an ellipsis included."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def short_source(source: str) -> str:
    """Return a source, shortened to the length that messages allow."""
    return cut(source, LONGEST_QUOTED_URL)


def quoted(text: str) -> str:
    """Return text in quotation marks with control characters escaped, shortened to ``LONGEST_QUOTED``.

    The text is cut before it is quoted, so that the cost does not grow with its length.
    """
    return cut(repr(text[:LONGEST_QUOTED]))
