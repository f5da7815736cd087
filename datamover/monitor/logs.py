"""The log file, and the JSON log format: one object a line.

An object has ``time`` (RFC 3339, UTC), ``level``, ``namespace``, ``message`` (the text log's), ``fields`` (the event's
own, those with plain values), ``job`` and ``transfer`` if the event is about one, and ``traceback`` of a failure.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, TextIO, cast

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, LogLevel, formatEvent
from twisted.python.logfile import LogFile

LOG_MODE = 0o640
"""The mode of a new log file, whatever the umask: the log says which client asked for what."""

_LEGACY = frozenset({"message", "time", "system", "isError", "format", "printed", "why", "failure"})
"""Keys that Twisted's legacy log adds to events; they repeat the message."""


def line(event: LogEvent) -> str:
    """Return an event as one line of JSON.

    Values other than None, numbers and strings are left out: their representation might hold secrets.
    """
    level = event.get("log_level") or LogLevel.info
    fields = {
        name: value
        for name, value in event.items()
        if _is_plain(value) and not name.startswith("log_") and name not in _LEGACY
    }
    told: dict[str, Any] = {
        "time": datetime.fromtimestamp(event.get("log_time", 0.0), UTC).isoformat(timespec="milliseconds"),
        "level": level.name,
        "namespace": event.get("log_namespace") or event.get("log_system") or "-",
        "message": formatEvent(event),
        "fields": fields,
    }
    told |= {name: fields[name] for name in ("job", "transfer") if name in fields}
    failure = event.get("log_failure")
    if failure is not None:
        told["traceback"] = failure.getTraceback()
    return json.dumps(told) + "\n"


def event(told: Mapping[str, Any], process: int) -> LogEvent:
    """Return the event that engine process number ``process`` wrote as a line of JSON, to be logged here."""
    level, namespace = LogLevel.levelWithName(told["level"]), told["namespace"]
    found: LogEvent = {
        **told["fields"],
        "process": process,
        "log_time": datetime.fromisoformat(told["time"]).timestamp(),
        "log_level": level,
        "log_namespace": namespace,
        "log_system": f"{namespace}#{level.name},{process}",
        "log_format": "{log_message}",
        "log_message": told["message"],
    }
    if "traceback" in told:
        found["log_failure"] = _Told(told["traceback"])
    return found


class _Told:
    """A failure of another process, of which only the traceback's text is known."""

    def __init__(self, traceback: str) -> None:
        self._traceback = traceback

    def getTraceback(self) -> str:  # noqa: N802
        return self._traceback


def _is_plain(value: object) -> bool:
    return isfinite(value) if isinstance(value, float) else value is None or isinstance(value, str | int)


def json_observer(file: TextIO | None = None) -> ILogObserver:
    """Return an observer that writes JSON lines to a file or to standard output, for ``twistd --logger``."""
    return FileLogObserver(file or sys.stdout, line)


def log_file(options: Mapping[str, Any], later: Callable[[Callable[[], None]], object]) -> TextIO:
    """Return the file that twistd would log to with these options.

    As with twistd, SIGUSR1 rotates a file, unless the signal has a handler already; where the file has been renamed
    or removed (logrotate), it opens a new one instead. ``later`` runs a function outside the signal handler.
    """
    name = options["logfile"]
    if options["nodaemon"] and name in (None, "", "-"):
        return sys.stdout
    path = Path(name or "twistd.log").absolute()
    mode = None if path.exists() else LOG_MODE
    file: Any = LogFile.fromFullPath(str(path), defaultMode=mode)  # type: ignore[no-untyped-call]
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: later(partial(_renew, file)))
    return cast(TextIO, file)


def _renew(file: Any) -> None:
    """Rotate a log file, or open it anew if what has its name now is another file, or none."""
    try:
        there = os.path.samestat(os.stat(file.path), os.fstat(file._file.fileno()))
    except FileNotFoundError:
        there = False
    if there:
        file.rotate()
    else:
        file.reopen()
