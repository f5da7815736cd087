"""The shell of one visitor: runs lines, records them, keeps their history and completes them, over telnet and SSH."""

from collections.abc import Callable

from datamover.console.commands import COMMANDS
from datamover.console.commands.context import CommandContext
from datamover.console.interpreter import Interpreter
from datamover.console.terminal.completion import Offer, offer
from datamover.console.terminal.history import History, Recall
from datamover.console.visitor import View


class Shell:
    """The lines of one session."""

    def __init__(self, context: CommandContext, view: View, history: History, typed: Callable[[str], None]) -> None:
        """``typed`` records a line, before it is run."""
        self._typed = typed
        self._names = COMMANDS.names(context)
        self._interpreter = Interpreter(self._names, view)
        self.recall = Recall(history)
        self._unfinished: list[str] = []
        """Lines that need more."""

    @property
    def left(self) -> bool:
        """Whether the visitor has ended the session."""
        return self._interpreter.left

    @property
    def live(self) -> bool:
        """Whether a live command runs, which "q" ends."""
        return self._interpreter.live

    @property
    def failed(self) -> bool:
        return self._interpreter.failed

    async def enter(self, line: str, *, remember: bool = True) -> bool:
        """Run a line and show its answers; return whether more lines are needed before it can be run.

        Cancelling ends what it waits for; raises CancelledError then.
        """
        self._typed(line)
        more = self._interpreter.enter(line)
        if remember:
            self._remember(line, more=more)
        await self._interpreter.answer()
        return more

    def _remember(self, line: str, *, more: bool) -> None:
        """Have the session remember a line, and its operator keep what was whole and understood."""
        self.recall.add(line)
        self._unfinished.append(line)
        if more:
            return
        if self._interpreter.understood:
            for each in self._unfinished:
                self.recall.keep(each)
        self._unfinished.clear()

    def drop(self) -> None:
        """Forget lines that need more."""
        self._unfinished.clear()
        self._interpreter.drop()

    async def offer(self, text: str) -> Offer:
        """Return what may stand at the end of a text."""
        return await offer(text, self._names, self._interpreter.locals)
