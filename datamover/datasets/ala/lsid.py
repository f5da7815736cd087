"""LSIDs, the names of taxa: check them, and read them from a URL. Pure."""

import re
from urllib.parse import unquote, urlsplit

from datamover.bounds.datasets import LONGEST_ATLAS_LSID
from datamover.datasets.base import Subject
from datamover.errors import InvalidRequest

SCHEME = "ala"

_PART = r"(?:[A-Za-z0-9()+,.=@;$_!*'~-]|%[0-9A-Fa-f]{2})+"
_LSID = re.compile(rf"urn:lsid:{_PART}:{_PART}:{_PART}(?::{_PART})?", re.IGNORECASE)
_LONGEST_SHOWN = 120


def check_lsid(text: str) -> str:
    """Return an LSID unchanged: ``urn:lsid:<authority>:<namespace>:<object>[:<revision>]``.

    Raises InvalidRequest for anything else.
    """
    if len(text) > LONGEST_ATLAS_LSID or not _LSID.fullmatch(text):
        shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
        raise InvalidRequest(
            f"{shown!r} is not an LSID: expected urn:lsid:<authority>:<namespace>:<object>[:<revision>], "
            f"at most {LONGEST_ATLAS_LSID} characters"
        )
    return text


def subject_of(url: str) -> Subject:
    """Read ``ala://ala?lsid=<LSID>``; raises InvalidRequest with what was expected."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _unlike() from None
    name, equals, value = parts.query.partition("=")
    place = (parts.scheme.lower(), parts.netloc.lower(), parts.path.strip("/"), parts.fragment)
    if place != (SCHEME, SCHEME, "", "") or name != "lsid" or not equals or not value:
        raise _unlike()
    return Subject(SCHEME, check_lsid(unquote(value)))


def _unlike() -> InvalidRequest:
    return InvalidRequest(
        "expected ala://ala?lsid=<LSID>, such as ala://ala?lsid=urn:lsid:biodiversity.org.au:afd.taxon:1"
    )
