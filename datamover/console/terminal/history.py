"""The history of the lines that an operator typed, over sessions: one file for each operator, for its owner alone.

Only lines that ran are kept, so that what was typed into the wrong field is not, and no line that shows a secret. A
line that begins with a blank is left out, as in a shell.
"""

import os
from pathlib import Path
from urllib.parse import quote

from twisted.logger import Logger

from datamover.audit.trail import masked
from datamover.bounds.console import MOST_HISTORY_LINES
from datamover.security.secret_files import Unusable, make, read, replace
from datamover.text.printable import one_line

log = Logger()


class History:
    """The history of one operator, shared by all sessions of this process; an error of the disk is logged once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[str] = []
        self._unusable = False
        try:
            self.lines = read(path).decode("utf-8", "replace").splitlines() if path.exists() else []
        except (OSError, Unusable) as error:
            self._tell(error)
        self._stored = len(self.lines)
        del self.lines[:-MOST_HISTORY_LINES]

    def add(self, line: str) -> None:
        """Keep a line, unless it is the last one again or is not to be kept; blocks for a moment."""
        if not kept(line) or self.lines[-1:] == [line]:
            return
        self.lines.append(line)
        del self.lines[:-MOST_HISTORY_LINES]
        if self._unusable:
            return
        try:
            self._store(line)
        except (OSError, Unusable) as error:
            self._tell(error)

    def _store(self, line: str) -> None:
        if not self._path.exists():
            make(self._path, b"")
            self._path.parent.chmod(0o700)
            self._stored = 0
        if self._stored >= 2 * MOST_HISTORY_LINES:
            replace(self._path, "".join(f"{each}\n" for each in self.lines).encode())
            self._stored = len(self.lines)
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
        self._stored += 1

    def _tell(self, error: OSError | Unusable) -> None:
        self._unusable = True
        why = error.reason if isinstance(error, Unusable) else error.strerror
        log.warn("the console's history is not kept: {path}: {why}", path=str(self._path), why=why)


def kept(line: str) -> bool:
    """Tell whether a line may be kept: it is not empty, shows no secret and does not begin with a blank."""
    return bool(line.strip()) and not line.startswith(" ") and masked(line) == line and one_line(line) == line


class Histories:
    """The histories of all operators, in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[str, History] = {}

    def of(self, who: str) -> History:
        """Return an operator's history, read when it is first asked for; blocks for a moment."""
        if who not in self._known:
            self._known[who] = History(self._directory / quote(who, safe="")[:200])
        return self._known[who]


class Recall:
    """Recalls earlier lines at one prompt: up, down, and the search of Ctrl-R."""

    def __init__(self, history: History) -> None:
        self._own: list[str] = list(history.lines)
        self._history = history
        self._position = len(self._own)
        self._typed = ""

    def keep(self, line: str) -> None:
        """Store a line for later sessions."""
        self._history.add(line)

    def add(self, line: str) -> None:
        """Remember a line in this session."""
        if line.strip() and self._own[-1:] != [line]:
            self._own.append(line)
            del self._own[:-MOST_HISTORY_LINES]
        self._position = len(self._own)

    def older(self, line: str) -> str | None:
        """Return the line before; ``line`` is the one that is left."""
        if self._position == len(self._own):
            self._typed = line
        if not self._position:
            return None
        self._position -= 1
        return self._own[self._position]

    def newer(self) -> str | None:
        """Return the line after, at last what was being typed."""
        if self._position == len(self._own):
            return None
        self._position += 1
        return self._own[self._position] if self._position < len(self._own) else self._typed

    def search(self, text: str, before: int | None = None) -> tuple[int, str] | None:
        """Return the newest line that holds a text, and its place; one before a place, if that is given."""
        for place in range((len(self._own) if before is None else before) - 1, -1, -1):
            if text in self._own[place]:
                return place, self._own[place]
        return None
