"""Write the man pages, from the command's own help and the commented sample: ``python docs/man.py``.

``docs/man/datamover-admin.1`` and ``docs/man/datamover.toml.5`` are what it writes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from datamover import __version__
from datamover.admin import parser

HERE = Path(__file__).parent
COMMAND = "datamover-admin.1"
FILE = "datamover.toml.5"


def pages() -> dict[str, str]:
    """Return the man pages by their names."""
    return {COMMAND: "\n".join(_command(parser())) + "\n", FILE: "\n".join(_file()) + "\n"}


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from _head("DATAMOVER-ADMIN", 1)
    yield from (".SH NAME", rf"datamover\-admin \- {_text(_lower(parser.description))}")
    yield from (".SH SYNOPSIS", r".B datamover\-admin", r".I COMMAND", "[options]")
    yield from (".SH COMMANDS",)
    for name, command in _commands(parser):
        yield from (".TP", rf".B {_text(name)}" + "".join(f" {_text(each)}" for each in _operands(command)))
        yield _text(command.description)
        for action in command._actions:
            if action.dest != "help" and action.help:
                told = ", ".join(action.option_strings) or str(action.metavar)
                value = f" {action.metavar}" if action.option_strings and action.metavar else ""
                yield from (".RS", ".TP", rf".B {_text(told + value)}", _text(action.help % vars(action)), ".RE")
    yield from (".SH EXIT STATUS", "0, or 1 with the reason on standard error, or 2 for a wrong command line.")
    yield from (".SH FILES", r".I /etc/datamover/datamover.toml", ".br", r".I ./datamover.toml")
    yield from (".SH SEE ALSO", r".BR datamover.toml (5),", r".BR twistd (1)")


def _file() -> Iterator[str]:
    yield from _head("DATAMOVER.TOML", 5)
    yield from (".SH NAME", r"datamover.toml \- the configuration of datamover, a service that moves files")
    yield ".SH DESCRIPTION"
    yield _text(
        "The service and datamover-admin read one file, in TOML: the one that --config names, else the one that "
        "$DATAMOVER_CONFIG names, else ./datamover.toml, else /etc/datamover/datamover.toml. Without a file the "
        "defaults hold. `datamover-admin check-config` checks it, and `datamover-admin sample-config` prints what "
        "follows."
    )
    yield from (".SH SAMPLE", ".nf")
    for line in (HERE.parent / "etc/datamover.toml").read_text(encoding="utf-8").splitlines():
        yield _text(line)
    yield from (".fi", ".SH FILES", ".I share/doc/datamover/configuration.md", "explains every key.")
    yield from (".SH SEE ALSO", r".BR datamover\-admin (1)")


def _head(title: str, section: int) -> Iterator[str]:
    yield rf'.TH {title} {section} "" "datamover {__version__}" "datamover"'


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _operands(parser: argparse.ArgumentParser) -> list[str]:
    return [str(action.metavar) for action in parser._actions if not action.option_strings and action.metavar]


def _lower(text: str | None) -> str:
    words = (text or "").rstrip(".")
    return words[:1].lower() + words[1:]


def _text(text: str | None) -> str:
    """Return text as roff shows it unchanged."""
    escaped = (text or "").replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> None:
    for name, page in pages().items():
        (HERE / "man" / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
