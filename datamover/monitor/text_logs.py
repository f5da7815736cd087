"""The text log format: the lines of Twisted's own, formatted faster, with unprintable characters escaped.

A busy service writes a thousand lines a second. Twisted looks up the time zone for each and formats field by field in
Python; here the time stamp is formatted once a second, and a message by ``str.format_map`` where the result is equal.
"""

from twisted.logger import LogEvent, formatEventAsClassicLogText, formatTime

from datamover.text.printable import lines


class TextLines:
    """Formats an event as a line, for ``FileLogObserver``."""

    def __init__(self) -> None:
        self._second = -1
        self._stamp = ""

    def __call__(self, event: LogEvent) -> str | None:
        """Return the line, None for an event without a message."""
        text = _message(event)
        if text is None:
            whole = formatEventAsClassicLogText(event)
            return None if whole is None else lines(whole)
        if not text:
            return None
        line = f"{self._at(event['log_time'])} [{_system(event)}] {text}"
        return f"{line}\n" if line.isprintable() else lines(line.replace("\n", "\n\t")) + "\n"

    def _at(self, time: float) -> str:
        second = int(time)
        if second != self._second:
            self._second, self._stamp = second, formatTime(second)
        return self._stamp


def _message(event: LogEvent) -> str | None:
    """Return the message of a plain event; None for one that Twisted must format: failures, calls, errors."""
    template = event.get("log_format")
    if not isinstance(template, str) or "()" in template or "log_failure" in event or "log_flattened" in event:
        return None
    if not isinstance(event.get("log_time"), float):
        return None
    try:
        return template.format_map(event)
    except Exception:
        return None  # Twisted's formatter logs what cannot be formatted.


def _system(event: LogEvent) -> str:
    system = event.get("log_system")
    if system is not None:
        return str(system)
    level = event.get("log_level")
    return f"{event.get('log_namespace', '-')}#{'-' if level is None else level.name}"
