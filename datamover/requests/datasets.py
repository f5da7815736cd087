"""Datasets as sources of a request. Pure.

A source that is a dataset becomes one file of the job for each file of the dataset, under the names that the dataset
gives them, in the directory that the request names.
"""

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from datamover.datasets.base import Dataset
from datamover.datasets.configured import DECLARED
from datamover.errors import InvalidRequest, SourceNotAllowed, UnsupportedScheme
from datamover.jobs.values import DatasetSource, Naming, NewFile, SourceRef

SCHEMES = frozenset(each.name for each in DECLARED)
"""Those of all datasets of this version, configured or not."""

KINDS = {f"{scheme}://": scheme for scheme in SCHEMES}
"""The schemes, by what a client's ``sources`` call them."""


@dataclass(frozen=True, slots=True)
class Datasets:
    """The datasets that are configured, and those that a caller may use."""

    by_scheme: Mapping[str, Dataset]
    """The configured ones."""
    permitted: Collection[str] | None = None
    """The schemes that the caller may use; None: all."""

    def check(self, scheme: str, key: str) -> None:
        """Raise SourceNotAllowed for a scheme that the caller may not use."""
        if self.permitted is not None and scheme not in self.permitted:
            refusal = f"{key}: {scheme}:// datasets are not allowed to this client"
            raise SourceNotAllowed(
                f"{refusal}; ask the administrator", full=f'{refusal}; to allow them, add "{scheme}://" to its sources'
            )

    def source(self, url: str, key: str) -> DatasetSource:
        """Return a URL of one of ``SCHEMES`` as a source; raises UnsupportedScheme and InvalidRequest."""
        name, _, rest = url.strip().partition(":")
        scheme = name.lower()
        if scheme not in self.by_scheme:
            refusal = f"{key}: {scheme}:// datasets are not configured here"
            raise UnsupportedScheme(
                f"{refusal}: have the administrator add [{scheme}]",
                full=f"{refusal}: add [{scheme}] to the configuration, and reload",
            )
        self.check(scheme, key)
        url = f"{scheme}:{rest}"
        try:
            self.by_scheme[scheme].subject(url)
        except InvalidRequest as error:
            raise InvalidRequest(f"{key}: {error.message}") from None
        return DatasetSource(url, 0)

    def expanded(self, file: NewFile, *, archive: bool) -> list[NewFile]:
        """Return the files that one file of a request stands for: all those of a dataset, else itself."""
        source = file.source
        if not isinstance(source, DatasetSource):
            return [file]
        dataset = self.by_scheme[source.url.partition(":")[0]]
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
    """Raise InvalidRequest where a request expects a size or digest of a dataset, which does not exist yet."""
    if isinstance(source, DatasetSource):
        for key, value in (("checksum", file.checksum), ("size", file.size)):
            if value is not None:
                raise InvalidRequest(f"{prefix}{key}: a dataset is made when it is asked for: leave it out")
