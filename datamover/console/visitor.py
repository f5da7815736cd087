"""Who is at the console, on what, and who receives them."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol

from datamover.console.tables import Page, Screen


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is at the console."""

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


class Desk(Protocol):
    """Where visitors are received."""

    def check(self, username: str, password: str, origin: str) -> Awaitable[bool]:
        """Tell whether a name and a password are the operator's; recorded, whichever they are."""
        ...

    def came(self, who: str, origin: str, *, let_in: bool) -> None:
        """Record that somebody was let in, or was not."""
        ...

    def shell(self, visitor: Visitor, view: View) -> Any:
        """Return the ``Shell`` in which a visitor's lines are run."""
        ...
