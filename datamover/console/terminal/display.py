"""Drawing on a terminal: the line that is typed, answers, and tables that are redrawn.

The line has one row, and shows the part around the cursor where it is longer than that: so whatever size the terminal
is given, and however it breaks what stands on it, there is one row to draw again. A picture is drawn on the terminal's
other screen (xterm's mode 1049), and leaves this one as it was. A terminal that can do nothing of that (TERM=dumb) is
sent blanks and backspaces alone.
"""

from collections.abc import Callable, Mapping, Sequence

from datamover.bounds.console import LARGEST_TERMINAL, NARROWEST_TERMINAL
from datamover.console.tables import Screen
from datamover.console.terminal.line import EditedLine
from datamover.console.width import clusters, cut, padded, width

USUAL = (80, 24)
SIMPLE = frozenset({"", "dumb", "unknown", "network", "emacs"})
"""Types of terminals that cannot move the cursor, or of which nothing is known."""
LISTED = 100
"""Choices of a completion that are listed."""
MARGIN = 8
"""Cells beside the cursor that are shown of a line that is too long."""


class Display:
    """One terminal."""

    def __init__(self, write: Callable[[bytes], object], kind: str, environment: Mapping[str, str]) -> None:
        self._write = write
        self.kind = kind
        self._environment = environment
        self._size = USUAL
        self._left = 0
        """The first character of the line that is shown."""
        self._drawn = 0
        """Cells of the row that the line has."""
        self._shown: tuple[str, str] | None = None
        """What of the line stands in the row, before and behind the cursor; None: it is to be drawn."""
        self._within = False
        """An answer stands in the row."""
        self.pictured = False
        """The other screen is shown."""

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        columns, rows = size
        self._shown = None
        self._size = (
            min(max(columns, NARROWEST_TERMINAL), LARGEST_TERMINAL) if columns else USUAL[0],
            min(max(rows, 2), LARGEST_TERMINAL) if rows else USUAL[1],
        )

    @property
    def simple(self) -> bool:
        return self.kind.lower() in SIMPLE

    @property
    def screen(self) -> Screen:
        # https://no-color.org: present and not empty.
        colours = not self.simple and not self.kind.lower().startswith("vt") and not self._environment.get("NO_COLOR")
        return Screen(self._size[0], self._size[1], colours, not self.simple)

    def write(self, text: str) -> None:
        """Write text as it is."""
        if text:
            self._write(text.encode("utf-8", "replace"))
            self._within = not text.endswith("\n")
            self._drawn, self._shown = 0, None

    def ring(self) -> None:
        self._write(b"\a")

    def fresh(self) -> None:
        """Begin a row, where something stands in this one."""
        if self._within:
            self.write("\n")

    # The line -------------------------------------------------------------------------------------------------

    def draw(self, prompt: str, line: EditedLine) -> None:
        """Draw the line in its row, with the cursor where it is."""
        room = self._size[0] - 1
        prompt = cut(prompt, room // 2)
        before, after = self._window(line, room - width(prompt))
        if self._shown == (shown := (prompt + before, after)):
            return
        self._row("".join(shown))
        self._shown = shown
        back = width(after)
        if self.simple:
            self._write(b"\b" * back)
        elif back:
            self._write(b"\x1b[%dD" % back)

    def finish(self, prompt: str, text: str) -> None:
        """Show a line that was entered whole, and go to the next row."""
        self._row("")
        self._write(f"{prompt}{text}\n".encode("utf-8", "replace"))
        self._left, self._drawn, self._shown, self._within = 0, 0, None, False

    def list(self, prompt: str, line: EditedLine, choices: Sequence[str]) -> None:
        """Show what a completion may be, below the line."""
        self.finish(prompt, line.text)
        cells = max(map(width, choices[:LISTED])) + 2
        across = max(1, self._size[0] // cells)
        for start in range(0, len(choices[:LISTED]), across):
            row = "".join(padded(each, cells) for each in choices[:LISTED][start : start + across])
            self.write(cut(row.rstrip(), self._size[0]) + "\n")
        if choices[LISTED:]:
            self.write(f"… and {len(choices) - LISTED} more\n")

    def clear(self) -> None:
        """Clear the screen; the line is to be drawn again."""
        if not self.simple:
            self._write(b"\x1b[H\x1b[2J")
        self._drawn, self._shown, self._within = 0, None, False

    def _row(self, text: str) -> None:
        """Have the row show a text, and nothing else."""
        if self.simple:
            blanks = max(0, self._drawn - width(text))
            self._write(b"\r" + text.encode("utf-8", "replace") + b" " * blanks + b"\b" * blanks)
        else:
            self._write(b"\r" + text.encode("utf-8", "replace") + b"\x1b[K")
        self._drawn = width(text)

    def _window(self, line: EditedLine, room: int) -> tuple[str, str]:
        """Return what is shown of the line before and behind the cursor."""
        if width(line.text) <= room:
            self._left = 0
            return line.before, line.after
        before = list(clusters(line.before))
        if self._left > len(before) - 1:
            self._left = max(0, len(before) - MARGIN)
        cells = width("".join(before[self._left :]))
        while cells > room - 1:
            cells -= width("".join(before[self._left : self._left + MARGIN]))
            self._left += MARGIN
        shown = "".join(before[self._left :])
        left, behind = room - cells, ""
        for cluster in clusters(line.after):
            left -= width(cluster)
            if left < 0:
                break
            behind += cluster
        return shown, behind

    # Pictures -------------------------------------------------------------------------------------------------

    def picture(self, text: str) -> None:
        """Show text on the other screen, in the place of what is there."""
        begin = "" if self.pictured else "\x1b[?1049h"
        self.pictured = True
        rows = text.split("\n")[: self._size[1] - 1]
        self._write((begin + "\x1b[H" + "".join(f"{row}\x1b[K\n" for row in rows) + "\x1b[J").encode())

    def end_picture(self) -> None:
        """Show again what was there before."""
        if self.pictured:
            self.pictured, self._shown = False, None
            self._write(b"\x1b[?1049l")
