"""Looking into the live service, and steering it: a prompt to log in to, and the few names a person types there."""

from datamover.console.backend import ConsoleBackend
from datamover.console.commands.context import ConsoleServices
from datamover.console.guarded import ConsoleBounds, ConsoleConnections
from datamover.console.keys import host_key
from datamover.console.ssh import Access, SshFactory
from datamover.console.telnet import TelnetFactory
from datamover.console.terminal.history import Histories

__all__ = [
    "Access",
    "ConsoleBackend",
    "ConsoleBounds",
    "ConsoleConnections",
    "ConsoleServices",
    "Histories",
    "SshFactory",
    "TelnetFactory",
    "host_key",
]
