"""When a destination or a server that is read from is left alone, because transfers there fail. Pure.

Whose fail, theirs are left alone; everyone's, where several owners' do. A server is a scheme, a host and a port.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from datamover.errors import Scope
from datamover.jobs.endpoints import endpoint_key, source_host
from datamover.jobs.values import State
from datamover.jobs.work import Outcome

FOR_EVERYONE = frozenset({"CONNECT_FAILED", "TIMED_OUT", "AUTHENTICATION_FAILED", "HOST_KEY_MISMATCH", "TLS_FAILED"})
"""Codes of errors that every transfer of the same owner would meet there."""

Owned = tuple[str, str]
"""A endpoint and an owner."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a endpoint is left alone: after ``patience`` failures one after the other."""

    patience: int = 5
    base: float = 5.0
    """Seconds until the first probe; each that fails doubles them."""
    cap: float = 600.0
    """Seconds at most."""


USUAL = Breaker()


def judge(outcomes: Sequence[Outcome]) -> tuple[dict[Owned, Any], set[Owned]]:
    """Return the endpoints that failed for an owner, with what was met there; and those where something went well."""
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
