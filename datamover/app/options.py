"""The options of ``twistd datamover`` and ``twist datamover``: the configuration they name, and where the log goes."""

import sys
from functools import partial
from typing import Any, TextIO

from twisted.application.app import ServerOptions
from twisted.logger import FileLogObserver, ILogObserver
from twisted.python import usage

from datamover import __version__
from datamover.config.load import find, load
from datamover.config.schema import Config
from datamover.datasets.configured import CONFIG
from datamover.errors import ConfigError
from datamover.monitor.log_level import Level
from datamover.monitor.logs import json_observer, log_file
from datamover.monitor.text_logs import TextLines
from datamover.runtime.mistakes import Check, load_whole


class Options(usage.Options):
    """The options of ``twistd datamover``; everything else is in the configuration file."""

    longdesc = "Move files for other programs: they ask over XML-RPC, get a job id, and the file arrives."
    optParameters = [  # noqa: N815, RUF012 - usage.Options reads it from the class
        [
            "config",
            "c",
            None,
            "The configuration file [default: $DATAMOVER_CONFIG, ./datamover.toml, /etc/datamover/datamover.toml]",
        ]
    ]

    config: Config

    def opt_version(self) -> None:
        """Print the version, and exit."""
        print(f"datamover {__version__}")
        raise SystemExit(0)

    def postOptions(self) -> None:  # noqa: N802
        """Read the configuration; exits with a line for each mistake if it cannot be used."""
        try:
            self.config = read_config(self["config"])
        except ConfigError as error:
            raise SystemExit(f"datamover: {error.message}") from None
        told = any(each.partition("=")[0] == "--log-format" for each in sys.argv)
        if self.parent is not None and "logFormat" in self.parent and not told:
            # twist writes JSON where its output is no terminal.
            self.parent["fileLogObserverFactory"] = partial(_observing, self.config.log.format)


def read_config(explicit: str | None = None, *checks: Check) -> Config:
    """Find and read the configuration; raises ConfigError, which tells every mistake in it.

    ``checks`` go further, and are done for a configuration that has mistakes already.
    """

    def read() -> Config:
        return load(find(explicit), CONFIG)

    try:
        return read()
    except ConfigError:
        from twisted.internet import reactor

        from datamover.api import check_callers

        return load_whole(read, reactor, check_callers, *checks)


def observer(options: Options, reactor: Any, level: Level) -> ILogObserver | None:
    """Return the log observer, None where twistd's options name another, or where another runner makes it."""
    runner = options.parent
    if not isinstance(runner, ServerOptions) or runner["logger"] or runner["syslog"]:
        return None
    file = log_file(runner, reactor.callFromThread)
    return level.filter(_observing(options.config.log.format, file))


def _observing(form: str, file: TextIO) -> ILogObserver:
    return json_observer(file) if form == "json" else FileLogObserver(file, TextLines())
