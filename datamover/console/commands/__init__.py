"""The commands of the console: ``registry`` and ``kinds`` declare them, the other modules define them."""

from datamover.console.commands import changes, jobs, live, places, service
from datamover.console.commands.registry import Commands
from datamover.console.commands.session import session

_WORKING = Commands(jobs.COMMANDS, places.COMMANDS, live.COMMANDS, service.COMMANDS, changes.COMMANDS)
COMMANDS = Commands(_WORKING, session(_WORKING))
"""All of them."""
