"""What of a new configuration takes effect while the service runs, and what needs a restart. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datamover.config.checks import check_whole
from datamover.config.schema import Config

LIVE_SECTIONS = frozenset(
    {"destinations", "clients", "sources", "http", "transfers", "limits", "jobs", "audit", "ala", "gbif"}
)
LIVE_KEYS = frozenset(
    {
        "service.max_active",
        "service.hosts",
        "service.notify_secret_file",
        "console.username",
        "console.password_hash",
        "console.authorized_keys_file",
        "monitor.public",
        "monitor.clients",
    }
)
"""Of sections that otherwise need a restart, as everything does that is not named here."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload comes to."""

    settings: Config
    """The new configuration, with what needs a restart left as it is."""
    changed: tuple[str, ...]
    """Keys that take effect, as "limits.queued" or "destinations.archive"."""
    restart: tuple[str, ...]
    """Keys that are other in the file, and do not."""


def changes(running: Config, read: Config) -> Changes:
    """Return what takes effect; raises ConfigError where it does not go with what needs a restart."""
    before, after = _flat(running), _flat(read)
    differing = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    merged: dict[str, Any] = {"path": read.path}
    for section in set(Config.model_fields) - {"path"}:
        old, new = getattr(running, section), getattr(read, section)
        keys = [key.partition(".")[2] for key in LIVE_KEYS if key.startswith(f"{section}.")]
        if section in LIVE_SECTIONS:
            merged[section] = new
        elif keys:
            merged[section] = old.model_copy(update={key: getattr(new, key) for key in keys})
        else:
            merged[section] = old
    settings = running.model_copy(update=merged)
    check_whole(settings, str(settings.path))
    return Changes(
        settings,
        tuple(key for key in differing if _live(key)),
        tuple(key for key in differing if not _live(key)),
    )


def _live(key: str) -> bool:
    return key in LIVE_KEYS or key.partition(".")[0] in LIVE_SECTIONS


def _flat(settings: Config) -> dict[str, Any]:
    """Return the keys of a configuration, by their names; a dataset's section is one key."""
    flat: dict[str, Any] = {}
    for section in set(Config.model_fields) - {"path"}:
        value = getattr(settings, section)
        if isinstance(value, Mapping):
            flat |= {f"{section}.{name}": table for name, table in value.items()}
        elif section in ("ala", "gbif"):
            flat[section] = value
        else:
            flat |= {f"{section}.{key}": getattr(value, key) for key in type(value).model_fields}
    return flat
