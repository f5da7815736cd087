"""Redact errors for clients: what only administrators may see, and what clients see in its place. Pure.

Clients name a destination and never learn where it is: not its host, port, directory or account, nor a server's words
that may hold them. Nor do they learn what happened to another client's jobs.
"""

import re
from collections.abc import Mapping
from typing import Any

from datamover.bounds.calls import LONGEST_MESSAGE
from datamover.text.quoting import cut

NOT_DELIVERED = {"code": "NOT_DELIVERED", "message": "the notice could not be delivered"}
"""The error of a notice. The real one would let a client probe which hosts and ports answer."""
ANOTHER_CLIENTS_JOB = "another client's job"

_MESSAGES = {
    "CONNECT_FAILED": "it cannot be connected to",
    "CONNECTION_LOST": "the connection to it broke",
    "TIMED_OUT": "it did not answer in time",
    "STALLED": "it does not answer any more",
    "RATE_LIMITED": "it asked for a pause",
    "SERVER_ERROR": "it answers with an error of its own",
    "AUTHENTICATION_FAILED": "it refuses datamover's login: the administrator has to correct it",
    "HOST_KEY_MISMATCH": "its host key is not the known one: the administrator has to check it",
    "TLS_FAILED": "its certificate is not valid: the administrator has to check it",
}
_SAFE = re.compile(r"[A-Za-z ,'()-]{0,200}\.?")


def public_message(code: str, otherwise: str = "transfers there fail") -> str:
    """Return a sentence about a destination's failure that depends on the error's code alone."""
    return _MESSAGES.get(code, otherwise)


def safe_words(words: str) -> str:
    """Return a server's words if they hold no path, no address and no name with a dot; else ""."""
    return words if _SAFE.fullmatch(words) else ""


def visible_error(error: Mapping[str, Any], *, administrator: bool) -> dict[str, Any]:
    """Return a stored error as a client, or an administrator, may see it."""
    plain = dict(error)
    full = plain.pop("full", None)
    if administrator and full is not None:
        plain["message"] = full
    if isinstance(plain.get("message"), str):
        # Rows of an earlier version may hold longer messages.
        plain["message"] = cut(plain["message"], LONGEST_MESSAGE)
    return plain


def visible_breaker_error(error: Mapping[str, Any] | None, *, administrator: bool) -> dict[str, Any] | None:
    """Return the error that opened a breaker.

    Clients see its code and a general sentence alone, since another client's job may have met it.
    """
    if error is None or administrator:
        return None if error is None else visible_error(error, administrator=True)
    code = str(error.get("code", ""))
    return {**visible_error(error, administrator=False), "message": public_message(code)}
