"""Running what is typed: commands, and any Python, as the manhole always could.

What a line shows (a command's call, a coroutine, a Deferred) is awaited, one after the other, before the line counts
as answered. What is wrong with the line itself is told in a sentence; an error of other Python with its traceback.
"""

import difflib
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from inspect import iscoroutine
from typing import Any

from twisted.conch.manhole import ManholeInterpreter
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from datamover.bounds.console import LONGEST_ANSWER
from datamover.console.commands.context import CommandError
from datamover.console.commands.registry import Call, Leave, Typed
from datamover.console.tables import render
from datamover.console.visitor import View
from datamover.errors import DataMoverError, ExpiredJob, UnknownDestination, UnknownJob
from datamover.text.printable import lines
from datamover.text.quoting import quoted

HINTS: Mapping[type[DataMoverError], str] = {
    UnknownJob: "jobs() lists those there are",
    ExpiredJob: "jobs() lists those there are",
    UnknownDestination: "destinations() lists those there are",
}


class Interpreter(ManholeInterpreter):
    """The lines of one session."""

    def __init__(self, names: Mapping[str, Typed], view: View) -> None:
        super().__init__(self, dict(names))
        self._names = names
        self._view = view
        self._waiting: list[Any] = []
        self.left = False
        """Whether the session is to end."""
        self.live = False
        """Whether a live command runs: it goes on until it is cancelled."""
        self.failed = False
        """Whether something of the last line went wrong."""
        self.understood = False
        """Whether the last line was valid Python without an unknown name."""

    def enter(self, line: str) -> bool:
        """Take a line; return whether more are needed before it can be run. ``answer`` is then to be awaited."""
        self.failed, self.understood = False, True
        return bool(self.push(line.encode("utf-8", "surrogatepass")))

    async def answer(self) -> None:
        """Show what the line has to show, whatever that is; completes when all of it was shown.

        Cancelling ends that; raises CancelledError then.
        """
        while self._waiting and not self.left:
            try:
                await self._one(self._waiting.pop(0))
            except CancelledError:
                self.drop()
                raise
            except Exception:  # Whatever it is, the visitor is told.
                self._tell(Failure())

    def drop(self) -> None:
        """Forget what was typed of a line that needs more, and what is still to be shown."""
        self.resetBuffer()
        for shown in self._waiting:
            if iscoroutine(shown):
                shown.close()
        self._waiting.clear()

    async def _one(self, shown: Any) -> None:
        answer: Any = await (shown.run() if isinstance(shown, Call) else shown)
        if isinstance(answer, Leave):
            self.left = True
        elif not isinstance(shown, Call):
            if answer is not None:
                self._view.write(_bounded(repr(answer)) + "\n")
        elif callable(answer):
            self.live = True
            try:
                await answer(self._view)
            finally:
                self.live = False
        else:
            self._view.write(_bounded(render(answer, self._view.screen), printable=False) + "\n")

    # What conch and Python call -------------------------------------------------------------------------------

    def displayhook(self, obj: Any) -> None:
        if isinstance(obj, Typed):
            if obj.command.bare:
                self._waiting.append(obj())
            else:
                self.failed = True
                self._say(repr(obj))
        elif isinstance(obj, Call) or iscoroutine(obj):
            self._waiting.append(obj)
        elif isinstance(obj, Deferred):
            self._waiting.append(_waited(obj))
        elif obj is not None:
            self.locals["_"] = obj
            self._view.write(_bounded(repr(obj)) + "\n")

    def runcode(self, *arguments: Any, **keywords: Any) -> None:
        try:
            super().runcode(*arguments, **keywords)
        except SystemExit:
            self.left = True

    def addOutput(self, data: str, isAsync: Any = None) -> None:  # noqa: N802, N803 - what conch calls it
        """Show what is printed."""
        self._view.write(_bounded(data))

    def showsyntaxerror(self, filename: str | None = None, **_: Any) -> None:
        self.failed, self.understood = True, False
        error = sys.exc_info()[1]
        text = error.text if isinstance(error, SyntaxError) and error.text else "\n".join(_text(self.buffer))
        word = re.match(r"\s*(\w+)", text)
        if word is not None and word[1] in self._names:
            command = self._names[word[1]].command
            self._say(f"{word[1]}: that cannot be read: {command.how}")
            return
        told = error.msg if isinstance(error, SyntaxError) else str(error)
        self._say(f"that is no Python: {told}; help() lists the commands")

    def showtraceback(self) -> None:
        failure = Failure()
        if isinstance(failure.value, NameError) and failure.value.name:
            self.failed, self.understood = True, False
            self._say(self._unknown(failure.value.name))
        else:
            self._tell(failure)

    def _tell(self, failure: Failure) -> None:
        self.failed = True
        self._say(told_of(failure).rstrip("\n"))

    def _say(self, told: str) -> None:
        """Show what is wrong."""
        text = render([_bounded(told)], self._view.screen)
        self._view.write(f"{text}\n", error=True)

    def _unknown(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._names, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        return f"there is no name {name}: {meant}Text is written in quotes, {quoted(name)}; help() lists the commands"


def told_of(failure: Failure) -> str:
    """Return what is shown of an error: its words and what to do, or a bug's traceback."""
    error = failure.value
    if isinstance(error, DataMoverError):
        hint = next((words for kind, words in HINTS.items() if isinstance(error, kind)), "")
        return f"{error.full}; {hint}" if hint else error.full
    if isinstance(error, CommandError):
        return str(error)
    return failure.getTraceback()


async def _waited(deferred: "Deferred[Any]") -> Any:
    """Return a Deferred's result, and leave that to whoever else waits for it; cancelling lets go of it."""
    answer: Deferred[Any] = Deferred()

    def deliver(result: Any) -> Any:
        if not answer.called:
            answer.callback(result)
            return None if isinstance(result, Failure) else result
        return result

    deferred.addBoth(deliver)
    return await answer


def _bounded(text: str, *, printable: bool = True) -> str:
    more = len(text) - LONGEST_ANSWER
    cut = text if more <= 0 else f"{text[:LONGEST_ANSWER]}\n… and {more} more characters"
    return lines(cut) if printable else cut


def _text(buffer: list[Any]) -> list[str]:
    with suppress(UnicodeDecodeError):
        return [each.decode() for each in buffer]
    return []
