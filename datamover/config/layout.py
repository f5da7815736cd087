"""The names of what the service keeps in its data directory."""

from dataclasses import dataclass
from pathlib import Path

_BESIDE_POSTGRESQL = "postgresql-"
_KEPT = frozenset({"postgresql", "staging", "key", "console_host_key", "console_history"})
_BECOMING = tuple(f".{name}-" for name in ("key", "console_host_key"))
"""Prefixes of the temporary files that ``secret_files`` renames to one of these names."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A data directory."""

    directory: Path

    @property
    def postgresql(self) -> Path:
        """The directory of the embedded database."""
        return self.directory / "postgresql"

    def beside_postgresql(self, what: str) -> Path:
        """Return the path of something of the embedded database that lies outside its directory."""
        return self.directory / f"{_BESIDE_POSTGRESQL}{what}"

    @property
    def staging(self) -> Path:
        return self.directory / "staging"

    @property
    def key(self) -> Path:
        """The key that encrypts rows, unless ``service.key_file`` names another file."""
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
        """The destination of the built-in configuration: the one directory here that is not the service's own."""
        return self.directory / "files"

    @property
    def kept(self) -> tuple[Path, ...]:
        """Those of the service's own that may be links to another disk."""
        return tuple(self.directory / name for name in sorted(_KEPT))

    @staticmethod
    def keeps(name: str) -> bool:
        """Tell whether a name in the data directory is the service's own, whatever its case."""
        folded = name.casefold()
        return folded in _KEPT or folded.startswith((_BESIDE_POSTGRESQL, *_BECOMING))
