"""Reload the configuration while the service runs: it takes effect as a whole, or nothing changes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from datamover.config.load import load
from datamover.config.schema import Config
from datamover.errors import ConfigError
from datamover.registry.apart import check_apart
from datamover.runtime.diff import Changes, changes
from datamover.runtime.mistakes import find_mistakes, load_whole
from datamover.runtime.snapshot import Runtime, RuntimeHolder

log = Logger()


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The result of a reload; keys are written as "limits.queued" or "destinations.archive"."""

    changed: tuple[str, ...]
    """The keys whose new value is in force."""
    needs_restart: tuple[str, ...]
    """The keys whose value in the file is not in force."""


class Reload:
    """Reads the file again and puts a runtime that is built from it in force."""

    def __init__(
        self,
        runtimes: RuntimeHolder,
        reactor: Any,
        moved: Callable[[], None],
        check: Callable[[Config], None] = lambda _: None,
    ) -> None:
        """``moved`` is called after a new runtime is in force; ``check`` may raise ConfigError before."""
        self._runtimes = runtimes
        self._reactor = reactor
        self._moved = moved
        self._check = check

    def __call__(self) -> Reloaded:
        """Put the file's content in force; raises ConfigError, and changes nothing, where it cannot be used."""
        try:
            found, runtime = self._read()
        except ConfigError as error:
            log.warn("the configuration is left as it was: {error}", error=error.message)
            raise
        self._runtimes.swap(runtime)
        self._moved()
        log.info("the configuration was read again; changed: {keys}", keys=", ".join(found.changed) or "nothing")
        if found.restart:
            log.warn("these need a restart: {keys}", keys=", ".join(found.restart))
        return Reloaded(found.changed, found.restart)

    def _read(self) -> tuple[Changes, Runtime]:
        now = self._runtimes.now
        if now.settings.path is None:
            raise ConfigError("there is no configuration file to read again: start with --config FILE")
        path, model = now.settings.path, type(now.settings)
        read = load_whole(lambda: load(path, model), self._reactor, self._check)
        found = changes(now.settings, read)
        try:
            self._check(found.settings)
            runtime = Runtime.build(found.settings, self._reactor, before=now)
        except ConfigError as error:
            mistakes = find_mistakes(found.settings, self._reactor, self._check)
            raise ConfigError.of(mistakes or error.problems) from None
        # Keys that wait for a restart must let the service start then.
        check_apart(runtime.registry.directories, read, str(read.path))
        return found, runtime
