"""The commands of the session itself: help, and quit."""

from datamover.console.commands.context import CommandContext
from datamover.console.commands.kinds import Kind, Unfit
from datamover.console.commands.registry import Command, Commands, Leave, Typed
from datamover.console.tables import Column, Page, Part, Table

SHORT = 20
"""Characters of an example that help() has room for."""
_KEYS = (
    "Tab completes names, jobs and destinations. Up, Down and Ctrl-R look through what was typed before; "
    "Ctrl-A, E, U, K, W and L edit as in a shell. Ctrl-C drops a line or ends what goes on."
)


def session(others: Commands) -> Commands:
    """Return the commands of the session, which know the others."""
    commands = Commands()

    def read(value: object, context: CommandContext) -> Command:
        if isinstance(value, Typed):
            return value.command
        known = {**others.by_name, **commands.by_name}
        if not isinstance(value, str) or value.removesuffix("()") not in known:
            raise Unfit("help() lists the commands")
        return known[value.removesuffix("()")]

    async def names(context: CommandContext) -> tuple[str, ...]:
        return (*others.by_name, *commands.by_name)

    which = Kind("a command, such as jobs or 'jobs'", read, names)

    @commands.command("help()", "help(jobs)", bare=True, command=which)
    async def help(context: CommandContext, command: Command | None = None) -> Page:  # noqa: A001
        """This list; or a command's arguments and examples"""
        if command is not None:
            return _explained(command)
        known = [*others.by_name.values(), *commands.by_name.values()]
        return [Table((_COMMAND, _HELP), [(_short(each), each.help) for each in known], "there is no command"), _KEYS]

    @commands.command("exit()", bare=True)
    async def exit(context: CommandContext) -> Leave:  # noqa: A001
        """End the session, as Ctrl-D does"""
        return Leave()

    @commands.command("quit()", bare=True)
    async def quit(context: CommandContext) -> Leave:  # noqa: A001
        """End the session, as Ctrl-D does"""
        return Leave()

    return commands


def _explained(command: Command) -> Page:
    page: list[Part] = [command.usage, command.help]
    if command.arguments:
        page.append("")
        page += [
            f"  {each.name}: {each.kind.expected}{'' if each.required else ' (optional)'}" for each in command.arguments
        ]
    examples = "for example" if len(command.examples) == 1 else "examples"
    return [*page, "", f"{examples}: {', '.join(command.examples)}"]


def _short(command: Command) -> str:
    example = command.examples[0]
    return example if len(example) <= SHORT else f"{command.name}(…)"


_COMMAND = Column("command", flexible=True)
_HELP = Column("what it does", flexible=True)
