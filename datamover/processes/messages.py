"""The messages between an engine process and its parent: one JSON object a line, over pipes.

The parent sends one line, the ``ChildConfig``. When that pipe closes, be it on purpose or because the parent died, the
engine process hands back its work and exits. The engine process sends status messages and the lines of its log; a log
line is the one that has a ``message``.
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
    """The configuration of an engine process: the settings its parent runs on, whatever the file says by now."""

    node: str
    share: ProcessShare
    settings: Config

    def line(self) -> str:
        settings = self.settings.model_dump(mode="json")
        fields = {"node": self.node, "number": self.share.number, "of": self.share.of, "settings": settings}
        return json.dumps(fields) + "\n"

    @classmethod
    def from_line(cls, line: bytes) -> "ChildConfig":
        """Read what ``line`` wrote; raises ConfigError for settings that cannot be used."""
        fields = json.loads(line)
        settings = fields["settings"]
        checked = check_table(CONFIG, settings, file=str(settings["path"] or "the built-in configuration"))
        return cls(fields["node"], ProcessShare(fields["number"], fields["of"]), checked)


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """The state of an engine process, sent twice a second."""

    working: bool
    """Whether it takes work."""
    counted: tuple[tuple[Any, ...], ...] = ()
    """The calls of ``Counts`` since the last message: a method's name and its arguments."""
    given_up: str | None = None
    """Why no engine process can ever work here, as a sentence; None: it can."""
    troubles: tuple[str, ...] = ()
    """A sentence for each of its loops that does not turn."""
    stuck: bool = False
    """Whether one of them hangs."""

    def line(self) -> str:
        fields = {
            "working": self.working,
            "counted": self.counted,
            "given_up": self.given_up,
            "troubles": self.troubles,
            "stuck": self.stuck,
        }
        return json.dumps(fields) + "\n"

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "StatusMessage":
        """Return the message of a decoded line; raises LookupError and TypeError for what is none."""
        counted = tuple(tuple(call) for call in fields["counted"])
        return cls(fields["working"], counted, fields["given_up"], tuple(fields["troubles"]), fields["stuck"])
