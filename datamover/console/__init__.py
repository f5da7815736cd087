"""Looking into the live service: a terminal to log in to, and the few names a person types there."""

from datamover.console.names import Names
from datamover.console.telnet import telnet_factory

__all__ = ["Names", "telnet_factory"]
