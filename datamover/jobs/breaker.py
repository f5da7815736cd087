"""When a destination or a source host is left alone, because everyone's transfers there fail. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datamover.errors import Scope
from datamover.jobs.values import State, place_side, source_host
from datamover.jobs.work import Outcome

FOR_EVERYONE = frozenset({"CONNECT_FAILED", "TIMED_OUT", "AUTHENTICATION_FAILED", "HOST_KEY_MISMATCH", "TLS_FAILED"})
"""Codes of errors that every transfer there would meet."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a side is left alone: after ``patience`` failures one after the other."""

    patience: int = 5
    base: float = 5.0
    """Seconds until the first probe; each that fails doubles them."""
    cap: float = 600.0
    """Seconds at most."""


USUAL = Breaker()


def judge(outcomes: Sequence[Outcome]) -> tuple[dict[str, Any], set[str]]:
    """Return the sides that failed for everyone, with what was met there; and those where something went well."""
    broken: dict[str, Any] = {}
    mended: set[str] = set()
    for one in outcomes:
        sides = {
            Scope.SOURCE: source_host(one.leader.source),
            Scope.DESTINATION: place_side(one.leader.destination),
        }
        failed = sides.get(one.error.scope) if one.error and one.error.code in FOR_EVERYONE else None
        if failed is not None and one.error is not None:
            broken[failed] = one.error.as_dict()
        if one.state is State.COMPLETED or (one.checkpoint and failed is None):
            mended |= set(sides.values())
    return broken, mended
