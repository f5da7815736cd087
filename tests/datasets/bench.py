"""A bench for tests: a real directory, real fetching and processes, and a memory that another bench can go on with."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from twisted.internet import reactor

from datamover.concurrency.threads import Threads
from datamover.datasets.base import Fetched
from datamover.datasets.process import run_module
from datamover.protocols.base import Origin

P = ParamSpec("P")
T = TypeVar("T")


class TestBench:
    """Satisfies ``datasets.base.Bench``."""

    __test__ = False
    owner = "portal"

    def __init__(self, directory: Path, targets: tuple[str, ...], memory: Mapping[str, Any] | None = None) -> None:
        self.directory = directory
        self.targets = targets
        self.memory: Mapping[str, Any] = memory or {}
        self.memories: list[Mapping[str, Any]] = []
        """Everything that was remembered, oldest first."""
        self.stages: list[str] = []
        """Everything that was told, oldest first."""

    async def remember(self, facts: Mapping[str, Any]) -> None:
        self.memory = dict(facts)
        self.memories.append(self.memory)

    def tell(self, stage: str) -> None:
        self.stages.append(stage)

    async def fetch(self, origin: Origin, name: str) -> Fetched:
        path, digest, size = self.directory / name, hashlib.sha256(), 0
        source = await origin.open()
        try:
            with path.open("wb") as file:
                while data := await source.read():
                    file.write(data)
                    digest.update(data)
                    size += len(data)
        finally:
            await source.close()
        return Fetched(path, size, digest.hexdigest())

    async def run(
        self, module: str, request: Mapping[str, Any], progress: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        threads = Threads(reactor, "child", 1)
        try:
            return await run_module(reactor, threads.finish_hurried, module, request, progress)
        finally:
            await threads.close()

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)
