"""Completion by Tab: names of commands, the arguments of the one that is being typed, and their values.

``cursor_context`` reads the line up to the cursor without running any of it; Python's own names and attributes come
from the standard library's completer.
"""

import builtins
import rlcompleter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import Any

from datamover.console.commands.registry import Argument, Command, Typed
from datamover.errors import DataMoverError


@dataclass(frozen=True, slots=True)
class CursorContext:
    """Where the cursor is."""

    word: str
    """What of a word stands before it, after the opening quote if there is one."""
    quote: str = ""
    """The quote that is open."""
    call: str = ""
    """The name before the innermost open parenthesis."""
    position: int = 0
    """Which of its arguments, counted from 0 without those that are named."""
    keyword: str = ""
    """The name of the argument, where it is given."""
    bracket: bool = False
    """Within other brackets, where nothing is known of what may stand there."""


def cursor_context(text: str) -> CursorContext:
    """Return the context of the end of a text."""
    stack: list[tuple[str, str, int]] = []  # The bracket, the name before it, and its arguments' number.
    quote, keyword, start, word, item, index = "", "", 0, 0, 0, 0
    while index < len(text):
        character = text[index]
        if quote:
            if character == "\\":
                index += 1
            elif character == quote:
                quote, word = "", index + 1
        elif character in "'\"":
            quote, start = character, index + 1
        elif character == "#":
            return CursorContext("", bracket=True)
        elif character in "([{":
            stack.append((character, text[word:index].strip() if character == "(" else "", 0))
            word, item, keyword = index + 1, index + 1, ""
        elif character in ")]}":
            if stack:
                stack.pop()
            word, keyword = index + 1, ""
        elif character == "=" and stack and text[item:index].strip().isidentifier():
            # "==" has its second sign right behind.
            keyword, word = ("" if text[index + 1 : index + 2] == "=" else text[item:index].strip()), index + 1
        elif character == ",":
            if stack and not keyword:
                stack[-1] = (*stack[-1][:2], stack[-1][2] + 1)
            word, item, keyword = index + 1, index + 1, ""
        elif not (character.isalnum() or character in "_."):
            word = index + 1
        index += 1
    shown = text[start if quote else word :]
    if not stack:
        return CursorContext(shown, quote)
    bracket, call, position = stack[-1]
    return CursorContext(shown, quote, call, position, keyword, bracket != "(")


@dataclass(frozen=True, slots=True)
class Offer:
    """What may stand in a word's place: each whole, with its quotes."""

    word: str
    """What stands there, with its opening quote."""
    choices: Sequence[str]

    @property
    def common(self) -> str:
        """What all choices begin with."""
        return commonprefix(list(self.choices))  # noqa: RUF071 - of characters is what is wanted


async def offer(text: str, names: Mapping[str, Typed], namespace: Mapping[str, Any]) -> Offer:
    """Return what may stand at the end of a text; nothing where what it would be is not at hand."""
    where = cursor_context(text)
    typed = names.get(where.call)
    if where.bracket:
        return Offer(where.word, ())
    if typed is not None:
        found = await _arguments(where, typed)
        if found.choices or where.quote or not where.word:
            return found
    if where.quote:
        return Offer(where.word, ())
    return Offer(where.word, _names(where.word, names, namespace, called=typed is None))


async def _arguments(where: CursorContext, typed: Typed) -> Offer:
    word = where.quote + where.word
    argument = _argument(typed.command, where)
    choices: list[str] = []
    if argument is not None:
        try:
            known = await argument.kind.candidates(typed.context)
        except DataMoverError:
            known = ()
        quoted = argument.kind.quoted
        # Labels are clients' own: what does not print must not be written to a terminal, nor into a line.
        choices = [
            _written(each, where.quote or ("'" if quoted else ""), each.endswith(":"))
            for each in known
            if each.isprintable()
        ]
        if not where.quote and quoted and where.word:
            choices = []  # A word without quotes is no text.
    if not where.quote and not where.keyword:
        choices += [f"{each.name}=" for each in typed.command.arguments if _free(each, typed.command, where)]
    return Offer(word, [each for each in choices if each.startswith(word)])


def _argument(command: Command, where: CursorContext) -> Argument | None:
    if where.keyword:
        return next((each for each in command.arguments if each.name == where.keyword), None)
    placed = [each for each in command.arguments if not each.named]
    return placed[where.position] if where.position < len(placed) else None


def _free(argument: Argument, command: Command, where: CursorContext) -> bool:
    """Tell whether an argument can be given by its name here: a required one is given by its place."""
    placed = [each.name for each in command.arguments if not each.named]
    return not argument.required and argument.name not in placed[: where.position]


def _written(value: str, quote: str, goes_on: bool) -> str:
    if not quote:
        return value
    escaped = value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{escaped}{'' if goes_on else quote}"


def _names(word: str, names: Mapping[str, Typed], namespace: Mapping[str, Any], *, called: bool) -> list[str]:
    if "." in word:
        try:
            found = rlcompleter.Completer(dict(namespace)).attr_matches(word)
        except Exception:  # It looks at what is there, which may do whatever it likes.
            return []
        return sorted({each.rstrip("(") for each in found})
    if called and (commands := [f"{name}(" for name in names if name.startswith(word)]):
        return commands
    if not word:
        return []
    return sorted({name for name in (*namespace, *dir(builtins)) if name.startswith(word) and name != "__builtins__"})
