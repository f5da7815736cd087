"""The search of Ctrl-R in the history, the newest line first: each key narrows it."""

from collections.abc import Callable

from datamover.console.terminal.history import Recall
from datamover.console.terminal.line import EditedLine


class Search:
    """One search, from its Ctrl-R to the key that ends it."""

    def __init__(self, line: EditedLine, recall: Recall, ring: Callable[[], None]) -> None:
        """``line`` shows what is found; ``ring`` is called where nothing is."""
        self._line = line
        self._recall = recall
        self._ring = ring
        self._left = line.text
        self._place: int | None = None
        """Of the line that was found."""
        self.text = ""
        self.over = False

    def take(self, key: str) -> bool:
        """Take a key; return False for one that ends the search and is to be taken as ever."""
        if key in ("abort", "interrupt"):
            self._line.set(self._left)
            self.over = True
        elif key == "search":
            self._find(self.text, self._place)
        elif key == "backspace":
            self._find(self.text[:-1], None)
        elif len(key) == 1:
            self._find(self.text + key, None if self._place is None else self._place + 1)
        else:
            self.over = True
            return False
        return True

    def _find(self, text: str, before: int | None) -> None:
        self.text = text
        found = self._recall.search(text, before) if text else None
        if found is not None:
            self._place, line = found
            self._line.set(line, line.index(text))
        elif text:
            self._ring()
