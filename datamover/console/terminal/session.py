"""One session at the prompt: reads keys into a line, runs it, and shows its answer before the next prompt.

The line is drawn in one row, moved sideways where it is longer; entered, it is shown whole. While a line runs, what is
typed waits for it, but for Ctrl-C. Nothing of what stands on the screen is ever cleared but by Ctrl-L.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from twisted.conch.insults.insults import TerminalProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.bounds.console import KEYS_IN_TURN, MOST_KEYS_AHEAD
from datamover.console.backend import ConsoleBackend
from datamover.console.shell import Shell
from datamover.console.tables import Page, Screen, render
from datamover.console.terminal.completion import Offer
from datamover.console.terminal.display import Display
from datamover.console.terminal.keys import UNREADABLE, Keys
from datamover.console.terminal.line import EditedLine
from datamover.console.terminal.search import Search
from datamover.console.visitor import Visitor

log = Logger()

GREETING = "datamover: help() lists what there is; Tab completes, Ctrl-D leaves.\n"


class ConsoleSession(TerminalProtocol):
    """One session. Satisfies ``visitor.View``."""

    def __init__(
        self,
        backend: ConsoleBackend,
        visitor: Visitor,
        size: tuple[int, int],
        kind: str,
        environment: Mapping[str, str],
    ) -> None:
        """``kind`` is what the terminal says it is (TERM), ``environment`` what else it says of itself."""
        self._backend = backend
        self._visitor = visitor
        self._size = size
        self._kind = kind
        self._environment = environment
        self._keys = Keys()
        self._waiting: deque[str] = deque()
        self._line = EditedLine()
        self._running: Deferred[Any] | None = None
        self._going_on = False
        self._next_turn: IDelayedCall | None = None
        self._until = 0.0
        """When the turn ends."""
        self._more = False
        self._completing = False
        self._search: Search | None = None
        self._tabbed = False
        self._ended = False
        self._handlers: dict[str, Callable[[], None]] = {
            "enter": self._enter,
            "interrupt": self._interrupt,
            "eof": self._eof,
            "tab": self._tab,
            "older": lambda: self._recall(self._shell.recall.older(self._line.text)),
            "newer": lambda: self._recall(self._shell.recall.newer()),
            "search": self._look,
            "clear": lambda: self._display.clear(),
        }

    # What conch tells -----------------------------------------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802
        self._display = Display(self.terminal.write, self._kind, self._environment)
        self._display.size = self._size
        self._shell: Shell = self._backend.shell(self._visitor, self)
        self._display.write(GREETING)
        self._draw()

    def connectionLost(self, reason: Failure) -> None:  # noqa: N802
        self._ended = True
        if self._running is not None:
            self._running.cancel()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None

    @property
    def busy(self) -> bool:
        """Whether keys wait that will be taken in the next turns of the event loop."""
        return self._next_turn is not None

    def terminalSize(self, width: int, height: int) -> None:  # noqa: N802
        """Take note of another size; only the line that is typed is drawn again."""
        self._display.size = (width, height)
        if self._running is None:
            self._draw()

    def terminalKind(self, kind: str) -> None:  # noqa: N802 - as conch's own are named
        """Take note of what the terminal is, where it says so after the session began."""
        self._display.kind = kind

    def beginTurn(self) -> None:  # noqa: N802
        """Take note that keys come, or are gone on with: from now on they may take a turn's time."""
        self._until = self._backend.clock.seconds() + KEYS_IN_TURN

    def keystrokeReceived(self, keyID: bytes, modifier: Any) -> None:  # noqa: N802, N803
        for key in self._keys.read(keyID, modifier):
            self._take(key)

    def unhandledControlSequence(self, sequence: bytes) -> None:  # noqa: N802
        self._take(self._keys.sequence(sequence))

    def allRead(self) -> None:  # noqa: N802
        """Draw what has come of all keys that came together."""
        if not self._ended and self._running is None and not self.busy:
            self._draw()

    def hangUp(self) -> None:  # noqa: N802
        """Take note that nothing more is typed: a live command is cancelled, and the session ends."""
        if self._running is not None and self._shell.live:
            self._running.cancel()
        self._waiting.extend(["interrupt", "eof"] if self._running is None else ["eof"])
        self.beginTurn()
        self._go_on()

    # The view -------------------------------------------------------------------------------------------------

    @property
    def screen(self) -> Screen:
        return self._display.screen

    def write(self, text: str, *, error: bool = False) -> None:
        if not self._ended:
            self._display.write(text)

    def show(self, page: Page) -> None:
        self.write(render(page, self.screen) + "\n")

    def redraw(self, page: Page) -> None:
        if not self._ended:
            self._display.picture(render(page, self.screen))

    # Keys -----------------------------------------------------------------------------------------------------

    def _take(self, key: str) -> None:
        if self._running is not None and (key == "interrupt" or (key == "q" and self._shell.live)):
            self._waiting.clear()
            if key == "interrupt" and not self._completing:
                self.write("^C\n" if not self._display.pictured else "")
            self._running.cancel()
            if not self._completing:
                return
        self._waiting.append(key)
        if len(self._waiting) > MOST_KEYS_AHEAD:
            self._waiting.clear()
            self._line.refused = "more was typed ahead than is kept"
        self._go_on()

    def _go_on(self) -> None:
        """Take the keys that wait, in turns, until one of them has a line run that does not end at once."""
        if self._going_on or self.busy:
            return
        clock = self._backend.clock
        self._going_on = True
        try:
            while self._waiting and self._running is None and not self._ended:
                if clock.seconds() >= self._until:
                    self._next_turn = clock.callLater(0, self._take_turn)
                    return
                key = self._waiting.popleft()
                if self._search is None or not self._search.take(key):
                    self._press(key)
                if self._search is not None and self._search.over:
                    self._search = None
        finally:
            self._going_on = False

    def _take_turn(self) -> None:
        self._next_turn = None
        self.beginTurn()
        self._go_on()
        self.allRead()

    def _press(self, key: str) -> None:
        tabbed, self._tabbed = self._tabbed, False
        if key in self._handlers:
            if key == "tab":
                self._tabbed = tabbed
            self._handlers[key]()
        elif self._line.press(key):
            pass
        elif len(key) == 1:
            self._line.insert(key)
            if key == UNREADABLE:
                self._line.refused = "the line has bytes that are not UTF-8: have your terminal send UTF-8"
        else:
            self._display.ring()

    def _enter(self) -> None:
        line, refused = self._line.text, self._line.refused
        self._display.finish(self._prompt, line)
        self._line.clear()
        if refused:
            self.show([f"{refused}; nothing of it was run"])
            self._more = False
            self._shell.drop()
            return
        self._begin(line)

    def _begin(self, line: str) -> None:
        running = Deferred.fromCoroutine(self._run(line))
        if not running.called:
            self._running = running
        running.addBoth(self._ran)

    async def _run(self, line: str) -> None:
        try:
            self._more = await self._shell.enter(line)
        except CancelledError:
            self._more = False
        finally:
            self._display.end_picture()

    def _ran(self, result: object) -> None:
        if isinstance(result, Failure):
            log.failure("a line of the console", result)
        self._running = None
        if self._ended:
            return
        if self._shell.left:
            self._leave()
            return
        self._display.fresh()
        if not self._going_on:
            self.beginTurn()
            self._go_on()
            self.allRead()

    def _interrupt(self) -> None:
        self._display.finish(self._prompt, self._line.text + "^C")
        self._line.clear()
        self._more = False
        self._shell.drop()

    def _eof(self) -> None:
        if self._line.text:
            self._line.delete()
            return
        self._display.write("\n")
        self._leave()

    def _leave(self) -> None:
        self._ended = True
        self.terminal.loseConnection()

    def _recall(self, line: str | None) -> None:
        if line is None:
            self._display.ring()
        else:
            self._line.set(line)

    def _look(self) -> None:
        self._search = Search(self._line, self._shell.recall, self._display.ring)

    # Completion -----------------------------------------------------------------------------------------------

    def _tab(self) -> None:
        before, after, again = self._line.before, self._line.after, self._tabbed
        if not before.strip():
            self._line.insert("    " if self._more else "")
            return

        def offered(found: Any) -> None:
            self._completing = False
            if isinstance(found, Failure):
                if not isinstance(found.value, CancelledError):
                    log.failure("completion", found)
            elif (self._line.before, self._line.after) == (before, after) and not self._ended:
                self._complete(found, again=again)
            self._ran(None)

        # What is typed meanwhile waits for it.
        self._completing = True
        running = Deferred.fromCoroutine(self._shell.offer(before))
        if not running.called:
            self._running = running
        running.addBoth(offered)

    def _complete(self, found: Offer, *, again: bool) -> None:
        common = found.common
        if len(common) > len(found.word):
            self._line.before = self._line.before[: len(self._line.before) - len(found.word)]
            self._line.insert(common)
            return
        if len(found.choices) > 1 and again:
            self._display.list(self._prompt, self._line, found.choices)
            return
        self._tabbed = True
        if len(found.choices) != 1:
            self._display.ring()

    # Drawing --------------------------------------------------------------------------------------------------

    @property
    def _prompt(self) -> str:
        if self._search is not None:
            return f"(search {self._search.text!r}): "
        return "... " if self._more else ">>> "

    def _draw(self) -> None:
        self._display.draw(self._prompt, self._line)
