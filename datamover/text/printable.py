"""Text of strangers as a terminal and a log may show it: what does not print is escaped, as ``\\x1b`` or ``\\u2028``.

Control characters move the cursor and ring the bell, line separators end a line where none ends, and those that change
the direction of writing show a name as another. Pure.
"""


def one_line(text: str) -> str:
    """Return text in which every character prints."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def lines(text: str) -> str:
    """Return text in which every character prints, but for the ends of its lines, and tabs."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in text.split("\n"))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
