"""What is declared of the console's commands, held against what is written for people."""

import ast
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from datamover.config.load import load
from datamover.config.schema import Config
from datamover.console.commands import COMMANDS, kinds
from datamover.console.commands.places import lacks_of
from datamover.console.commands.registry import Command
from datamover.console.commands.service import section_lines
from datamover.protocols.base import Ability
from datamover.registry.destinations import Registry

PAGE = (Path(__file__).parents[2] / "docs/console.md").read_text()


@pytest.mark.parametrize("command", COMMANDS.by_name.values(), ids=lambda command: command.name)
def test_each_command_is_documented(command: Command) -> None:
    """The page shows every example of a command, and names each argument that an example does not give by its place."""
    for example in command.examples:
        assert f"`{example}`" in PAGE
    [row] = [line for line in PAGE.splitlines() if line.startswith("| `") and f"`{command.examples[0]}`" in line]
    for argument in command.arguments:
        if argument.named:
            assert argument.name in row


@pytest.mark.parametrize("command", COMMANDS.by_name.values(), ids=lambda command: command.name)
def test_examples_are_calls(command: Command) -> None:
    """An example is a call of its command with arguments that it has."""
    names = {argument.name for argument in command.arguments}
    for example in command.examples:
        call = ast.parse(example, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        assert call.func.id == command.name
        assert len(call.args) <= sum(not argument.named for argument in command.arguments)
        assert {keyword.arg for keyword in call.keywords} <= names


@pytest.mark.parametrize("command", COMMANDS.by_name.values(), ids=lambda command: command.name)
def test_help_fits_a_line(command: Command) -> None:
    """What help() says of a command has room in one line of eighty cells."""
    assert command.help
    assert len(command.help) <= 58


def test_the_configuration_is_shown_without_secrets() -> None:
    """Every value that is a secret, or holds one, is withheld; files are named, rules stand as they are."""
    settings = Config.model_validate(
        {
            "database": {"url": "postgresql://datamover@h/db?password=hidden1"},
            "http": {"proxy": "http://me:hidden2@proxy:3128/"},
            "sources": {
                "allow": ["http://127.0.0.1:*/"],
                "credentials": [{"url": "https://h/?sig=hidden3", "token_file": "/etc/token"}],
            },
            "clients": {"portal": {"password_hash": "hidden4"}},
            "destinations": {
                "cloud": {"url": "s3://u:hidden5@b", "secret_key": "hidden6", "secret_key_file": "/etc/k"}
            },
            "console": {"password_hash": "hidden7"},
        }
    )
    shown = "\n".join(
        line for name in type(settings).model_fields for line in section_lines(name, getattr(settings, name))
    )
    assert "hidden" not in shown
    assert "[[sources.credentials]]" in shown
    assert 'token_file = "/etc/token"' in shown
    assert 'secret_key_file = "/etc/k"' in shown
    assert "http://127.0.0.1:*/" in shown
    assert "[clients.portal]\npassword_hash = (withheld)" in shown
    assert "[service]\nlisten" in shown


def test_a_destination_before_its_first_connection(tmp_path: Path) -> None:
    """Nothing is said to be lacking, keep_free neither, before the server was asked once; what was learnt is told."""
    file = tmp_path / "datamover.toml"
    file.write_text(
        '[destinations.wire]\nurl = "sftp://me@wire.example.org/srv"\nknown_hosts_file = "/k"\npassword_file = "/p"\n'
        'keep_free = "1GiB"\n'
    )
    wire = Registry.from_config(load(file), reactor).get("wire")
    assert lacks_of(wire) == ["wire: there was no connection yet"]
    wire.learnt.learn(Ability.SET_MODE, "refused")
    assert sorted(lacks_of(wire)) == ["wire: mode not set: refused", "wire: there was no connection yet"]


@pytest.mark.parametrize("typed", ["0001-01-01T00:00+14:00", "soon", 10**400, "9999999d", None])
def test_moments_that_cannot_be(typed: object) -> None:
    """A time before the first or after the last that Python knows is refused like any other text."""
    context: Any = None
    with pytest.raises(kinds.Unfit):
        kinds.MOMENT.read(typed, context)
