"""One visitor of the console: the name, the address, and the view in which answers are shown."""

from dataclasses import dataclass
from typing import Protocol

from datamover.console.tables import Page, Screen


@dataclass(frozen=True, slots=True)
class Visitor:
    """An operator at the console."""

    who: str
    origin: str
    """The way in and the address: "ssh 127.0.0.1"."""


class View(Protocol):
    """Where answers are shown."""

    @property
    def screen(self) -> Screen:
        """As it is now: a terminal may be given another size."""
        ...

    def write(self, text: str, *, error: bool = False) -> None:
        """Show text as it is, after what was shown before."""
        ...

    def show(self, page: Page) -> None:
        """Show a page, after what was shown before."""
        ...

    def redraw(self, page: Page) -> None:
        """Show a page in the place of the one before, on a screen that is ``addressable``."""
        ...
