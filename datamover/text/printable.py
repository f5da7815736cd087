"""Escape what does not print, as ``\\x1b`` or ``\\u2028``, so that a terminal or a log can show text from outside.

Control characters move the cursor, line separators fake a line's end, and characters that change the direction of
writing show a name as another. Pure.
"""


def one_line(text: str) -> str:
    """Return text on one line, with every character that does not print escaped."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def lines(text: str) -> str:
    """Return text with every character that does not print escaped, but for line ends and tabs."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
