"""``datasets.base.Bench`` on this node's staging directory: one attempt makes one dataset with it."""

import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from datamover.datasets.base import Fetched
from datamover.datasets.process import run_module
from datamover.engine.attempt import AttemptContext
from datamover.engine.groups.staging import StagingDirectory
from datamover.engine.lease import Lease, Parked
from datamover.engine.meter import Meter
from datamover.engine.transfer.spec import TransferSpec
from datamover.engine.transfer.transfer import fetch
from datamover.errors import DataMoverError, NoSpace, Scope
from datamover.jobs.values import Checkpoint, Naming, Overwrite, Transfer
from datamover.protocols.base import Origin
from datamover.text.quoting import short_source

P = ParamSpec("P")
T = TypeVar("T")


class StagingBench:
    """The bench of one dataset of a group; ``name`` is its directory below the attempt's."""

    def __init__(
        self,
        *,
        context: AttemptContext,
        stage: StagingDirectory,
        name: str,
        lease: Lease,
        transfers: Sequence[Transfer],
        meter: Meter,
        memory: Mapping[str, Any],
        remember: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        self._context = context
        self._stage = stage
        self._name = name
        self._lease = lease
        self._meter = meter
        self._leader = transfers[0]
        self._targets = tuple(transfer.path for transfer in transfers)
        self._memory = memory
        self._remember = remember

    @property
    def directory(self) -> Path:
        return self._stage.directory / self._name

    @property
    def owner(self) -> str:
        return self._leader.owner

    @property
    def targets(self) -> tuple[str, ...]:
        return self._targets

    @property
    def memory(self) -> Mapping[str, Any]:
        return self._memory

    async def remember(self, facts: Mapping[str, Any]) -> None:
        """See ``datasets.base.Bench``; raises Parked if the lease was lost, and Unavailable."""
        self._memory = dict(facts)
        await self._remember(self._memory)

    def tell(self, stage: str) -> None:
        self._meter.stage = stage

    async def fetch(self, origin: Origin, name: str) -> Fetched:
        """See ``datasets.base.Bench``; after a connection error it resumes, as long as each attempt gets further."""
        checkpoint: Checkpoint | None = None
        while True:
            try:
                fetched = await fetch(
                    self._spec(origin, name, checkpoint), self._lease, self._meter, self._context.tools
                )
            except DataMoverError as error:
                found = self._meter.checkpoint
                further = found is not None and found.offset > (checkpoint.offset if checkpoint else 0)
                if error.bounded or not error.retryable or not further or isinstance(error, Parked):
                    raise
                checkpoint = found
            else:
                self._meter.checkpoint = None
                return Fetched(self.directory / name, fetched.size, fetched.digests["sha256"])

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See ``datasets.base.Bench``."""
        try:
            return await self._context.tools.pools.staging.run(call, *args, **kwargs)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise NoSpace("no disk space is left to make a dataset on this node", scope=Scope.SERVICE) from None

    async def run(
        self, module: str, request: Mapping[str, Any], progress: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """See ``datasets.base.Bench``."""
        tools = self._context.tools
        return await run_module(
            tools.clock, partial(tools.pools.datasets.finish_shared, self.owner), module, request, progress
        )

    def _spec(self, origin: Origin, name: str, checkpoint: Checkpoint | None) -> TransferSpec:
        return self._context.spec(
            self._leader,
            self._lease,
            origin=origin,
            source=f"{short_source(self._leader.source.shown)} {name}",
            place=self._stage.place,
            path=f"{self._name}/{name}",
            naming=Naming.EXACT,
            overwrite=Overwrite.ALWAYS,
            checkpoint=checkpoint,
            sent=0,
            read_back=False,
            throttle=None,
            checksum=None,
            size=None,
        )
