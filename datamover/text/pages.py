"""Pages of HTML, such as services and proxies answer errors with. Pure."""

import re

from datamover.bounds.servers import LARGEST_PAGE

# Each takes a time in proportion to the page: what is not closed ends with it.
_HIDDEN = re.compile(r"<(script|style|head)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")


def words_of(page: bytes) -> str:
    """Return the words at the beginning of a page, with single spaces between them."""
    return " ".join(_TAG.sub(" ", _HIDDEN.sub(" ", page[:LARGEST_PAGE].decode("utf-8", "replace"))).split())
