"""The commands of the console: ``registry`` and ``kinds`` are how they are declared, the others what there is."""

from datamover.console.commands import changes, jobs, live, places, service
from datamover.console.commands.registry import Commands
from datamover.console.commands.session import session

_WORKING = Commands(jobs.COMMANDS, places.COMMANDS, live.COMMANDS, service.COMMANDS, changes.COMMANDS)
COMMANDS = Commands(_WORKING, session(_WORKING))
"""All of them."""
