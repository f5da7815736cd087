"""A dataset as the source of a request -> the files that it is made of. Pure.

One source of a request becomes one file for each of the dataset's, with the names that the dataset gives them, in the
directory that the request names. What a dataset is made of is its own business (``datamover.datasets``).
"""

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from datamover.datasets.base import Subject
from datamover.datasets.configured import DECLARED
from datamover.errors import InvalidRequest, SourceNotAllowed, UnsupportedScheme
from datamover.jobs.values import DatasetSource, Naming, NewFile, SourceRef

SCHEMES = frozenset(each.name for each in DECLARED)
"""Those that this version can read, configured or not."""

KINDS = {f"{scheme}://": scheme for scheme in SCHEMES}
"""Their schemes by what a client's ``sources`` call them."""


class Named(Protocol):
    """What of a dataset is needed to check a request."""

    def subject(self, url: str) -> Subject: ...

    def names(self, subject: Subject) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Datasets:
    """The datasets that are configured, by their scheme."""

    by_scheme: Mapping[str, Named]
    permitted: Collection[str] | None = None
    """The schemes that whoever asks may ask for; None: all."""

    def check(self, scheme: str, key: str) -> None:
        """Raise SourceNotAllowed for a kind of dataset that is not to be asked for."""
        if self.permitted is not None and scheme not in self.permitted:
            raise SourceNotAllowed(f"{key}: {scheme}:// datasets are not allowed to this client; ask the administrator")

    def source(self, url: str, key: str) -> DatasetSource:
        """Return a URL of one of ``SCHEMES`` as a source; raises UnsupportedScheme and InvalidRequest."""
        scheme = url.partition(":")[0].strip().lower()
        if scheme not in self.by_scheme:
            raise UnsupportedScheme(
                f"{key}: {scheme}:// datasets are not configured here: have the administrator add [{scheme}]"
            )
        self.check(scheme, key)
        url = url.strip()
        try:
            self.by_scheme[scheme].subject(url)
        except InvalidRequest as error:
            raise InvalidRequest(f"{key}: {error.message}") from None
        return DatasetSource(url, 0)

    def expanded(self, file: NewFile, *, archive: bool) -> list[NewFile]:
        """Return the files that one file of a request stands for: itself, but for a dataset."""
        source = file.source
        if not isinstance(source, DatasetSource):
            return [file]
        dataset = self.by_scheme[source.url.partition(":")[0].lower()]
        names = dataset.names(dataset.subject(source.url))
        if archive:
            return [replace(file, source=replace(source, member=number)) for number in range(len(names))]
        return [
            replace(
                file,
                source=replace(source, member=number),
                path=posixpath.join(file.path, name),
                naming=Naming.EXACT,
            )
            for number, name in enumerate(names)
        ]


def check_expectations(source: SourceRef, file: NewFile, prefix: str) -> None:
    """Raise InvalidRequest where a dataset, which is made only now, is expected to have a size or a digest."""
    if isinstance(source, DatasetSource):
        for key, value in (("checksum", file.checksum), ("size", file.size)):
            if value is not None:
                raise InvalidRequest(f"{prefix}{key}: a dataset is made when it is asked for: leave it out")
