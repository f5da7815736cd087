"""Serial executors without threads."""

from collections.abc import Callable
from typing import Any

from datamover.concurrency.serial import SerialExecutor


def here() -> SerialExecutor:
    """Return an executor whose calls are made where they are asked for."""
    return SerialExecutor(lambda work: work(), _tell)


class Later:
    """A thread that works when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.executor = SerialExecutor(self.waiting.append, _tell)

    def work(self) -> None:
        while self.waiting:
            self.waiting.pop(0)()


def _tell(call: Callable[..., Any], *arguments: Any) -> None:
    call(*arguments)
