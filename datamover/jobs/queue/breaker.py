"""Circuit breakers: which endpoints get no new transfers, because those there fail. Pure.

A breaker opens for the owner whose transfers fail, and for all owners if those of several fail.
"""

from collections.abc import Sequence
from typing import Any

from datamover.errors import Scope
from datamover.jobs.endpoints import endpoint_key, source_host
from datamover.jobs.values import State
from datamover.jobs.work import Outcome

FOR_EVERYONE = frozenset({"CONNECT_FAILED", "TIMED_OUT", "AUTHENTICATION_FAILED", "HOST_KEY_MISMATCH", "TLS_FAILED"})
"""Codes of errors that every transfer of the same owner at the same endpoint would meet."""

Owned = tuple[str, str]
"""An endpoint's key and an owner."""


PATIENCE = 5
"""Failures in a row after which a breaker opens."""
BASE = 5.0
"""Seconds until the first probe; every probe that fails doubles them."""
CAP = 600.0
"""Seconds, at most, until the next probe."""


def judge(outcomes: Sequence[Outcome]) -> tuple[dict[Owned, Any], set[Owned]]:
    """Return the endpoints that failed, by owner, with the error; and the endpoints and owners that succeeded."""
    broken: dict[Owned, Any] = {}
    mended: set[Owned] = set()
    for one in outcomes:
        endpoints = {
            Scope.SOURCE: source_host(one.leader.source),
            Scope.DESTINATION: endpoint_key(one.leader.destination),
        }
        failed = endpoints.get(one.error.scope) if one.error and one.error.code in FOR_EVERYONE else None
        if failed is not None and one.error is not None:
            broken[failed, one.leader.owner] = one.error.as_dict()
        if one.state is State.COMPLETED or (one.checkpoint and failed is None):
            mended |= {(endpoint, one.leader.owner) for endpoint in endpoints.values()}
    return broken, mended
