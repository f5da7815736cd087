"""A terminal emulated by pyte, with a program in it: Debian's ssh or telnet. Tests check the content of the screen."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from select import select
from typing import Any
from unicodedata import normalize

import pyte

from tests.servers.service import PATIENCE

COLUMNS, ROWS = 80, 24


class Emulated(pyte.HistoryScreen):
    """pyte's screen with xterm's alternate screen."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines, history=1000)
        self._kept: tuple[Any, Any] | None = None

    @property
    def alternate(self) -> bool:
        return self._kept is not None

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Resize as xterm does: rows are removed at the bottom, and at the top only if the cursor would be lost."""
        lines, columns = lines or self.lines, columns or self.columns
        for _ in range(max(0, self.cursor.y - lines + 1)):
            self.buffer.update({y: self.buffer[y + 1] for y in range(self.lines - 1)})
            self.buffer.pop(self.lines - 1, None)
            self.cursor.y -= 1
        for y in range(lines, self.lines):
            self.buffer.pop(y, None)
        for row in self.buffer.values():
            for x in [x for x in row if x >= columns]:
                del row[x]
        self.lines, self.columns = lines, columns
        self.cursor.x = min(self.cursor.x, columns - 1)
        self.set_margins()

    def set_mode(self, *modes: int, **keywords: Any) -> None:
        super().set_mode(*modes, **keywords)
        if 1049 in modes and keywords.get("private"):
            self._kept = deepcopy(self.buffer), deepcopy(self.cursor)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **keywords: Any) -> None:
        super().reset_mode(*modes, **keywords)
        if 1049 in modes and keywords.get("private") and self._kept is not None:
            buffer, self.cursor = self._kept
            self._kept = None
            self.buffer.clear()
            self.buffer.update(buffer)
            self.dirty.update(range(self.lines))


class Person:
    """A person at a terminal, in which a client runs."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        kind: str = "xterm-256color",
        columns: int = COLUMNS,
        rows: int = ROWS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``kind`` is TERM."""
        self.screen = Emulated(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        """Everything received."""
        self.over = False
        """Whether the client has ended."""
        self._typed_at = -1
        """How much had been received when a key was pressed last."""
        self._master, slave = pty.openpty()
        self._set_size()
        self._client = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": kind, **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    @property
    def status(self) -> int:
        """The client's exit status, once it has ended."""
        return self._client.wait(PATIENCE)

    def close(self) -> None:
        if self._client.poll() is None:
            self._client.terminate()
        self._client.wait(PATIENCE)
        os.close(self._master)

    def login(self, name: str, password: str) -> None:
        """Answer telnet's questions."""
        self.until(lambda person: "Username:" in person.text)
        self.enter(name)
        self.until(lambda person: "Password:" in person.text)
        self.enter(password)
        self.prompted()

    def type(self, text: str) -> None:
        self.press(text.encode())

    def enter(self, line: str) -> None:
        self.press(line.encode() + b"\r")

    def press(self, data: bytes) -> None:
        self.look(0.01)
        self._typed_at = len(self.raw)
        os.write(self._master, data)

    @property
    def rows(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        shown = [row.rstrip() for row in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    @property
    def words(self) -> str:
        """The screen as one line, since sentences are broken between words."""
        return " ".join(self.text.split())

    @property
    def whole(self) -> str:
        """The rows of the screen, and those that scrolled off its top."""
        above = ["".join(row[column].data for column in range(self.screen.columns)).rstrip() for row in self._above]
        return "\n".join([*above, *self.rows])

    @property
    def _above(self) -> Sequence[Any]:
        return list(self.screen.history.top)

    def until(self, shown: Callable[["Person"], Any], what: str = "") -> None:
        """Wait until the screen satisfies a condition."""
        deadline = time.monotonic() + PATIENCE
        while not shown(self):
            assert time.monotonic() < deadline, f"{what}: not on the screen:\n{self.text}"
            assert not self.over, f"{what}: the session is over:\n{self.text}"
            self.look(0.05)

    def prompted(self) -> None:
        """Wait until the typed line is answered, and the last row is an empty prompt."""
        self.until(lambda person: len(person.raw) > person._typed_at and person.rows[-1:] == [">>>"], "a prompt")
        self.look(0.05)
        assert self.rows[-1:] == [">>>"], self.text

    def ask(self, line: str) -> str:
        """Type a line; return the answer, once the next prompt is shown."""
        before, shown = len(self.raw), f">>> {line}"
        self.enter(line)
        self.until(lambda person: shown.encode() in person.raw[before:].replace(b"\r\n", b""), "the line")
        self.prompted()
        rows, first = self.whole.split("\n"), normalize("NFC", shown[: self.screen.columns]).rstrip()
        place = max(index for index, row in enumerate(rows) if row == first)
        return "\n".join(rows[place + -(-len(shown) // self.screen.columns) : -1])

    def look(self, seconds: float) -> None:
        """Process received bytes."""
        while data := self._receive(seconds):
            self.raw += data
            self._stream.feed(data)
            seconds = 0.01

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self._set_size()
        os.kill(self._client.pid, signal.SIGWINCH)

    def ended(self) -> None:
        """Wait until the client has ended."""
        deadline = time.monotonic() + PATIENCE
        while not self.over:
            assert time.monotonic() < deadline, self.text
            self.look(0.05)

    def _receive(self, seconds: float) -> bytes:
        """Return what is received; b"" after a time limit."""
        if not select([self._master], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self._master, 65536)
        except OSError:  # The client has ended.
            self.over = True
            return b""

    def _set_size(self) -> None:
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
