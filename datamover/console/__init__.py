"""The console of the running service: a prompt over telnet and SSH, and its commands."""

from datamover.console.backend import ConsoleBackend
from datamover.console.commands.context import ConsoleServices
from datamover.console.guarded import ConsoleConnections, ConsoleLimits
from datamover.console.keys import host_key
from datamover.console.ssh import ConsoleAccess, SshFactory
from datamover.console.telnet import TelnetFactory
from datamover.console.terminal.history import Histories

__all__ = [
    "ConsoleAccess",
    "ConsoleBackend",
    "ConsoleConnections",
    "ConsoleLimits",
    "ConsoleServices",
    "Histories",
    "SshFactory",
    "TelnetFactory",
    "host_key",
]
