"""The names of a taxon."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taxon:
    """A taxon's names."""

    name: str
    """The scientific name, without its author if the source has it so: "Macropus rufus"."""
    common_name: str | None

    @property
    def shown(self) -> str:
        return f"{self.common_name} ({self.name})" if self.common_name else self.name
