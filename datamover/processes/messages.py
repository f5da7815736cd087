"""What an engine process and the one that started it say to each other: one JSON object a line, over pipes.

Downwards there is one line, the brief. When the pipe ends, whether it was closed or its writer died, the process hands
back its work and ends. Upwards go words, and the lines of the log, told apart by their ``message``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datamover.config.schema import Config
from datamover.config.types import check_table
from datamover.datasets.configured import CONFIG
from datamover.engine.share import ProcessShare


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """What a process is started for; the settings are those that its starter runs on, whatever the file says now."""

    node: str
    share: ProcessShare
    settings: Config

    def line(self) -> str:
        settings = self.settings.model_dump(mode="json")
        told = {"node": self.node, "number": self.share.number, "of": self.share.of, "settings": settings}
        return json.dumps(told) + "\n"

    @classmethod
    def from_line(cls, line: bytes) -> "ChildConfig":
        """Return what a line says; raises ConfigError for settings that cannot be used."""
        told = json.loads(line)
        settings = told["settings"]
        checked = check_table(CONFIG, settings, file=str(settings["path"] or "the built-in configuration"))
        return cls(told["node"], ProcessShare(told["number"], told["of"]), checked)


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """What a process says every so often."""

    working: bool
    """Whether it takes work."""
    counted: tuple[tuple[Any, ...], ...] = ()
    """What happened since: names of the methods of ``Counts``, and what they are to be called with."""
    given_up: str | None = None
    """Why it ends, for good."""
    troubles: tuple[str, ...] = ()
    """What loops of it do not turn, in words."""
    stuck: bool = False
    """One of them hangs."""

    def line(self) -> str:
        told = {
            "working": self.working,
            "counted": self.counted,
            "given_up": self.given_up,
            "troubles": self.troubles,
            "stuck": self.stuck,
        }
        return json.dumps(told) + "\n"

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> "StatusMessage":
        counted = tuple(tuple(call) for call in told["counted"])
        return cls(told["working"], counted, told["given_up"], tuple(told["troubles"]), told["stuck"])
