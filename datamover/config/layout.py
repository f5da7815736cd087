"""What the service keeps in its data directory, by name: whoever makes something there takes its name from here."""

from dataclasses import dataclass
from pathlib import Path

_BESIDE_POSTGRESQL = "postgresql-"
_KEPT = frozenset({"postgresql", "staging", "key", "console_host_key", "console_history"})
_BECOMING = tuple(f".{name}-" for name in ("key", "console_host_key"))
"""How files begin that are given one of these names when they are whole (``secret_files``)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A data directory."""

    directory: Path

    @property
    def postgresql(self) -> Path:
        """Of the embedded database."""
        return self.directory / "postgresql"

    def beside_postgresql(self, what: str) -> Path:
        """Return what belongs to the embedded database, and is not in its own directory."""
        return self.directory / f"{_BESIDE_POSTGRESQL}{what}"

    @property
    def staging(self) -> Path:
        return self.directory / "staging"

    @property
    def key(self) -> Path:
        """Seals rows, unless ``service.key_file`` names another file."""
        return self.directory / "key"

    @property
    def console_host_key(self) -> Path:
        return self.directory / "console_host_key"

    @property
    def console_history(self) -> Path:
        """A file for each operator."""
        return self.directory / "console_history"

    @property
    def files(self) -> Path:
        """Where clients' files go if nothing is configured: the one directory here that is not the service's own."""
        return self.directory / "files"

    @property
    def kept(self) -> tuple[Path, ...]:
        """What is the service's own, of what may be a link to another disk."""
        return tuple(self.directory / name for name in sorted(_KEPT))

    @staticmethod
    def keeps(name: str) -> bool:
        """Tell whether a name in the data directory is the service's own, also where case makes no difference."""
        folded = name.casefold()
        return folded in _KEPT or folded.startswith((_BESIDE_POSTGRESQL, *_BECOMING))
