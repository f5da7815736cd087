"""The registry of commands: each with its arguments, its help and its examples, declared once.

How a command is called, what is wrong with a call, the help and the completion are all made from what is declared.
"""

import difflib
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamover.console.commands.context import CommandContext, CommandError
from datamover.console.commands.kinds import Kind, Unfit
from datamover.console.tables import Page
from datamover.console.visitor import View
from datamover.text.quantities import count
from datamover.text.quoting import quoted

Live = Callable[[View], Coroutine[Any, Any, None]]
"""An answer that goes on until it ends by itself, or is cancelled."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The answer that ends the session."""


Answer = Page | Live | Leave
Run = Callable[..., Coroutine[Any, Any, Answer]]


class WrongUse(CommandError):
    """A wrong call of a command; the message says how it is called."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a command."""

    name: str
    kind: Kind
    required: bool
    default: Any
    named: bool
    """Given by its name alone."""

    def __str__(self) -> str:
        return self.name if self.required else f"{self.name}={self.default!r}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    help: str
    """One line."""
    examples: Sequence[str]
    arguments: Sequence[Argument]
    run: Run
    bare: bool
    """Runs when its name alone is typed."""

    @property
    def usage(self) -> str:
        shown = [str(each) for each in self.arguments]
        named = next((index for index, each in enumerate(self.arguments) if each.named), None)
        if named is not None:
            shown.insert(named, "*")
        return f"{self.name}({', '.join(shown)})"

    @property
    def how(self) -> str:
        """How it is called, as a sentence."""
        return f"call it as {' or '.join(self.examples)}; help({self.name}) tells more"

    def bind(self, given: Sequence[Any], named: Mapping[str, Any], context: CommandContext) -> dict[str, Any]:
        """Return what the command runs with; raises WrongUse."""
        placed = [each for each in self.arguments if not each.named]
        if len(given) > len(placed):
            takes = count(len(placed), "argument") if placed else "no arguments"
            more = " without a name" if len(placed) < len(self.arguments) else ""
            raise self._wrong(f"takes {takes}{more}, and {count(len(given), 'is', 'are')} given")
        values = {each.name: value for each, value in zip(placed, given, strict=False)}
        known = {each.name: each for each in self.arguments}
        for name, value in named.items():
            if name not in known:
                raise self._wrong(f"has no argument {name}{_meant(name, known)}")
            if name in values:
                raise self._wrong(f"is given {name} twice")
            values[name] = value
        bound = {}
        for argument in self.arguments:
            if argument.name not in values:
                if argument.required:
                    raise self._wrong(f"needs {argument.name}, {argument.kind.expected}")
                bound[argument.name] = argument.default
                continue
            value = values[argument.name]
            if value is None and not argument.required:
                bound[argument.name] = None
                continue
            try:
                bound[argument.name] = argument.kind.read(value, context)
            except Unfit as error:
                told = str(error) or f"expected {argument.kind.expected}"
                how = f" {self.how[0].upper()}{self.how[1:]}" if told.endswith("?") else f"; {self.how}"
                raise WrongUse(f"{self.name}: {argument.name} is {_told(value)}: {told}{how}") from None
        return bound

    def _wrong(self, what: str) -> WrongUse:
        return WrongUse(f"{self.name} {what}: {self.how}")


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A command with its arguments, that is run once it is shown or awaited."""

    command: Command
    context: CommandContext
    given: tuple[Any, ...]
    named: Mapping[str, Any]

    async def run(self) -> Answer:
        return await self.command.run(self.context, **self.command.bind(self.given, self.named, self.context))

    def __await__(self) -> Any:
        return self.run().__await__()

    def __repr__(self) -> str:
        return f"<{self.command.name}, which runs when it is typed by itself>"


@dataclass(frozen=True, slots=True, eq=False)
class Typed:
    """What a command's name stands for at the prompt."""

    command: Command
    context: CommandContext

    def __call__(self, *given: Any, **named: Any) -> Call:
        return Call(self.command, self.context, given, named)

    def __repr__(self) -> str:
        return f"{self.command.name} is a command: {self.command.how}"


class Commands:
    """Several commands, in the order in which help() lists them."""

    def __init__(self, *parts: "Commands") -> None:
        self.by_name: dict[str, Command] = {name: one for part in parts for name, one in part.by_name.items()}

    def command(self, *examples: str, bare: bool = False, **kinds: Kind) -> Callable[[Run], Run]:
        """Register an ``async`` function under its name: its first parameter is the context, ``kinds`` the others'.

        The first line of its docstring is its help.
        """

        def register(run: Run) -> Run:
            _, *parameters = inspect.signature(run).parameters.values()
            name = run.__name__.rstrip("_")
            arguments = [
                Argument(
                    each.name,
                    kinds[each.name],
                    each.default is each.empty,
                    each.default,
                    each.kind is each.KEYWORD_ONLY,
                )
                for each in parameters
            ]
            text = (inspect.getdoc(run) or "").splitlines()[0]
            self.by_name[name] = Command(name, text, examples, arguments, run, bare)
            return run

        return register

    def names(self, context: CommandContext) -> dict[str, Typed]:
        """Return what a visitor may type."""
        return {name: Typed(command, context) for name, command in self.by_name.items()}


def _meant(name: str, known: Mapping[str, Argument]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    if close:
        return f" (did you mean {close[0]}?)"
    return f" (it has {', '.join(known)})" if known else ""


def _told(value: Any) -> str:
    if isinstance(value, Typed):
        return f"the command {value.command.name}"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a very large number"  # Python does not write those of thousands of digits.
    if isinstance(value, bool | int | float | None):
        return quoted(str(value)).strip("'")
    return f"of type {type(value).__name__}"
