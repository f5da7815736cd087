"""Methods that wait, or look at much: how many of their calls are under way at once, and how many of one caller's."""

from collections.abc import Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from datamover.api.context import Caller, Context
from datamover.api.methods.table import Method
from datamover.concurrency.fair_share import FairShare


def shared(methods: Mapping[str, Method], shares: Mapping[str, tuple[FairShare, str]]) -> dict[str, Method]:
    """Return the methods, with those that ``shares`` names held to a share of it; ``str`` is the key of ``[limits]``.

    Who calls one too many is refused with Unavailable.
    """
    return {**methods, **{name: _held(methods[name], *share) for name, share in shares.items()}}


def _held(method: Method, share: FairShare, key: str) -> Method:
    refusal = (
        f"{method.name}: as many calls as may are under way, or as many of yours ([limits] {key}): "
        "let some end, or ask again in a while"
    )

    @wraps(method.run)
    async def run(context: Context, caller: Caller, *parameters: Any) -> Any:
        with share.held(caller.key, refusal):
            return await method.run(context, caller, *parameters)

    return replace(method, run=run)
