"""Limit how many calls of a method run at once, in all and for each caller, where a call may take long."""

from collections.abc import Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from datamover.api.context import Caller, Context
from datamover.api.methods.table import Method
from datamover.concurrency.fair_share import FairShare


def limited(methods: Mapping[str, Method], shares: Mapping[str, tuple[FairShare, str]]) -> dict[str, Method]:
    """Return the methods, with those in ``shares`` limited by their FairShare; the str is its key in ``[limits]``.

    A call beyond the limit raises Unavailable.
    """
    return {**methods, **{name: _limit(methods[name], *share) for name, share in shares.items()}}


def _limit(method: Method, share: FairShare, key: str) -> Method:
    refusal = (
        f"{method.name}: too many calls are running, in all or from this client ([limits] {key}): "
        "let some end, or ask again in a while"
    )

    @wraps(method.run)
    async def run(context: Context, caller: Caller, *parameters: Any) -> Any:
        with share.held(caller.key, refusal):
            return await method.run(context, caller, *parameters)

    return replace(method, run=run)
