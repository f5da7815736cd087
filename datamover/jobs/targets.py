"""The target paths of a job's files, as far as the request determines them.

A server may give its file another name; the engine learns that when it opens the source. A target that is known before
is stored with the job: so files for the same path take turns from the start, and need no further statement.
"""

from dataclasses import dataclass, field

from datamover.errors import InvalidRequest
from datamover.jobs.values import DatasetSource, Naming, NewFile, PlaceSource
from datamover.text.quoting import quoted
from datamover.web.file_names import path_name


@dataclass(slots=True)
class Targets:
    """The targets of one job; no two files may have the same."""

    shared: bool = False
    """Whether the files go into one archive, and so share its path."""
    _seen: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, file: NewFile, where: str) -> None:
        """Add a file; raises InvalidRequest if another one has the same target."""
        target = None if self.shared else known_target(file)
        if target is None:
            return
        other = self._seen.setdefault((file.destination, target), where)
        if other != where:
            raise InvalidRequest(
                f"{where} and {other} have the same target {quoted(target)} at destination {file.destination!r}"
            )


def known_target(file: NewFile) -> str | None:
    """Return the target path that the request determines; None if it depends on the source's answer."""
    if file.naming is Naming.EXACT:
        return file.path
    if file.naming is Naming.PROBE:
        return None
    if isinstance(file.source, PlaceSource):
        name = file.source.path.rpartition("/")[2]
    elif isinstance(file.source, DatasetSource):
        return None
    else:
        name = "" if "?" in file.source.url else path_name(file.source.url)
    return f"{file.path}/{name}".lstrip("/") if name else None
