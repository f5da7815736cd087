"""Errors that keep the process from starting, or from using a new configuration."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from datamover.errors.base import DataMoverError, Scope


class ConfigError(DataMoverError):
    """The configuration cannot be used; each problem names file, key, value and what was expected."""

    code = "INVALID_CONFIG"
    default_scope = Scope.SERVICE

    def __init__(self, message: str, **rest: Any) -> None:
        super().__init__(message, **rest)
        self.problems: tuple[str, ...] = (message,)
        """A sentence for each mistake; ``message`` has a line for each."""
        self.usable: Any = None
        """What is left of a file's configuration without its mistakes, for checks that go further; or None."""

    @classmethod
    def of(cls, problems: Iterable[str]) -> "ConfigError":
        """Return one error for several mistakes, each told once."""
        told = tuple(dict.fromkeys(problems))
        error = cls("\n".join(told))
        error.message = error.full = "\n".join(told)
        error.problems = told
        return error


class Problems:
    """Collects the mistakes in a configuration, so that they are told together."""

    def __init__(self, found: Iterable[str] = ()) -> None:
        self.found = list(found)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep the mistakes of a ConfigError that the block raises, and go on behind it."""
        try:
            yield
        except ConfigError as error:
            self.found += error.problems

    def check(self) -> None:
        """Raise a ConfigError that tells everything that was collected, if anything was."""
        if self.found:
            raise ConfigError.of(self.found)


class StartError(DataMoverError):
    """The service cannot run in this environment; the message says what to do."""

    code = "CANNOT_START"
    default_scope = Scope.SERVICE
