"""What is for administrators alone, and what others are told in its place. Pure.

Clients name a destination and never learn where it is: no host, port, directory or account of the other side, nor a
server's words that may hold them. What happened to others' jobs there is theirs.
"""

import re
from collections.abc import Mapping
from typing import Any

from datamover.text.bounds import LONGEST_MESSAGE, cut

NOT_DELIVERED = {"code": "NOT_DELIVERED", "message": "the notice could not be delivered"}
"""Of a notice: what answered, or did not, would tell of hosts and ports that are none of the client's."""
ANOTHERS = "another client's job"

_IN_WORDS = {
    "CONNECT_FAILED": "there is no connection to it",
    "CONNECTION_LOST": "the connection to it broke",
    "TIMED_OUT": "it did not answer in time",
    "STALLED": "it does not answer any more",
    "RATE_LIMITED": "it asked for a pause",
    "SERVER_ERROR": "it answers with an error of its own",
    "AUTHENTICATION_FAILED": "datamover is not let in there: the administrator has to mend its login",
    "HOST_KEY_MISMATCH": "it does not show the key that is known of it: the administrator has to look at it",
    "TLS_FAILED": "its certificate does not hold: the administrator has to look at it",
}
_HARMLESS = re.compile(r"[A-Za-z ,'()-]{0,200}\.?")


def in_words(code: str, otherwise: str = "transfers there fail") -> str:
    """Return what happened at some place, by the code of what its connections meet alone."""
    return _IN_WORDS.get(code, otherwise)


def harmless(words: str) -> str:
    """Return a server's words where they hold nothing but words: no path, no address, no name with a dot; else ""."""
    return words if _HARMLESS.fullmatch(words) else ""


def told(error: Mapping[str, Any], *, administrator: bool) -> dict[str, Any]:
    """Return what a row keeps of an error, as it may be told."""
    plain = dict(error)
    full = plain.pop("full", None)
    if administrator and full is not None:
        plain["message"] = full
    if isinstance(plain.get("message"), str):
        # What an earlier version kept may be longer.
        plain["message"] = cut(plain["message"], LONGEST_MESSAGE)
    return plain


def breaker(error: Mapping[str, Any] | None, *, administrator: bool) -> dict[str, Any] | None:
    """Return why a place is left alone: what was met there is another's, but for its kind."""
    if error is None or administrator:
        return None if error is None else told(error, administrator=True)
    code = str(error.get("code", ""))
    return {**told(error, administrator=False), "message": in_words(code)}
