"""Where the files of a job go, as far as it is known before any of them is looked at.

A server may call its file otherwise; then the engine has its name. What is known here is kept with the job: files for
one path take turns from the beginning, and nothing is left to be written when the file turns out to be called so.
"""

from dataclasses import dataclass, field

from datamover.errors import InvalidRequest
from datamover.jobs.values import DatasetSource, Naming, NewFile, PlaceSource
from datamover.text.bounds import quoted
from datamover.web.file_names import path_name
from datamover.web.url import WebUrl


@dataclass(slots=True)
class Targets:
    """The targets of one job: no two files have the same."""

    shared: bool = False
    """The files go into one archive; that they share its path is right."""
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, file: NewFile, where: str) -> None:
        """Take note of a file; raises InvalidRequest where another has its target."""
        target = None if self.shared else known_target(file)
        if target is None:
            return
        other = self._seen.setdefault((file.destination, target), where)
        if other != where:
            raise InvalidRequest(
                f"{where} and {other} have the same target {quoted(target)} at destination {file.destination!r}"
            )


def known_target(file: NewFile) -> str | None:
    """Return the path that a file will have, by all that its request tells; None where only its source can tell."""
    if file.naming is Naming.EXACT:
        return file.path
    if file.naming is Naming.PROBE:
        return None
    if isinstance(file.source, PlaceSource):
        name = file.source.path.rpartition("/")[2]
    elif isinstance(file.source, DatasetSource):
        return None
    else:
        url = WebUrl.parse(file.source.url)
        name = path_name(url.path) if url.query is None else ""
    return f"{file.path}/{name}".lstrip("/") if name else None
