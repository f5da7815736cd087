"""Keep destinations on this machine apart from the service's own files.

A client that may use a destination may read and replace the files below its root. So no root may be, contain or be
below what the service keeps in its data directory, nor contain the configuration or a file that it names: keys,
passwords, certificates. Other directories in the data directory may be destinations, as ``files`` is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twisted.logger import Logger

from datamover.config.layout import Layout
from datamover.config.schema import Config
from datamover.config.types import named_files
from datamover.errors import ConfigError
from datamover.registry.locations import Location, find_all
from datamover.web.url import shown

log = Logger()


def check_apart(directories: Mapping[str, str], settings: Config, file: str) -> None:
    """Raise ConfigError for a destination that is not apart, naming file, key, value and what it collides with.

    ``directories``: the roots on this machine by the names of their destinations. One that does not answer is skipped
    with a warning: the service's own files are on disks that answer.
    """
    layout = Layout(settings.service.data_directory)
    own = tuple(_own(settings, layout))
    found = find_all([*directories.values(), *(str(each.path) for each in own)])
    for name, root in directories.items():
        if root not in found:
            log.warn("destination {name}: {root} does not answer, so it is not checked", name=name, root=root)
            continue
        collisions = (each.collision(found[root], found.get(str(each.path))) for each in own)
        for collision in filter(None, collisions):
            url = shown(settings.destinations[name].url)
            leads = "" if found[root].path == root else f"leads to {found[root].path}, which "
            raise ConfigError(
                f"{file}: destinations.{name}.url = {url!r}: {leads}{collision}: whoever may use the destination could "
                "read and replace what is there. "
                f"Name a directory that is apart from it, such as {layout.files / name}, or move it elsewhere"
            )


@dataclass(frozen=True, slots=True)
class _Own:
    """A file or directory of the service's own."""

    path: Path
    key: str
    """The key of the configuration that names it; "" for the configuration itself."""
    shared: bool = False
    """Whether it is the data directory, in which the names of ``Layout`` alone are the service's."""

    def collision(self, root: Location, here: Location | None) -> str | None:
        """Return how a root collides with this path, located at ``here``, for a message; None where it is apart."""
        if here is None:
            return None
        told = f"{self.path} ({self.key or 'this configuration'})"
        if root.is_way_to(here):
            return f"is {told}" if root.identity == here.identity else f"holds {told}"
        names = root.below(here)
        if names is None:
            return None
        if not self.shared:
            return f"lies in {told}"
        if not Layout.keeps(names[0]):
            return None
        relation = "lies in" if names[1:] else "is"
        return f"{relation} {self.path / names[0]}, which the service keeps for itself ({self.key})"


def _own(settings: Config, layout: Layout) -> Iterator[_Own]:
    yield _Own(layout.directory, "service.data_directory", shared=True)
    for path in layout.kept:  # they may be links to other disks
        yield _Own(path, "service.data_directory")
    yield _Own(settings.service.key_path, "service.key_file")
    if settings.path is not None:
        yield _Own(settings.path, "")
    for key, path in named_files(settings):
        if path.is_absolute():
            yield _Own(path, key)
