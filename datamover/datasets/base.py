"""The interface between the engine and the datasets.

A dataset is several files that become visible together. It makes them on the node's own disk from the answers of a
data service; the engine provides a ``Bench`` for that, and moves the files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

from datamover.protocols.base import Origin

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Subject:
    """The dataset that a URL names, checked."""

    dataset: str
    """The dataset's name, its URL's scheme."""
    key: str
    """Identifies the content in the dataset's own terms: an LSID, a number."""

    @property
    def shown(self) -> str:
        return f"{self.dataset}:{self.key}"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched to the bench."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MadeDataset:
    """The files of a dataset that was made, in the order of ``Dataset.names``, and details of how."""

    paths: tuple[Path, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    """For the job's history: rows kept, rows dropped by reason … Plain JSON values."""


def cleaning(told: Mapping[str, Any]) -> str:
    """Return the stage of a dataset that is cleaned, by what its process has told."""
    return f"cleaning: {told['rows']:,} rows" if "rows" in told else "cleaning"


class Bench(Protocol):
    """The means by which one attempt makes one dataset."""

    @property
    def directory(self) -> Path:
        """On this node's own disk, empty at first, removed when the attempt ends."""
        ...

    @property
    def owner(self) -> str:
        """Whose dataset it is: owners share what is limited."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """The paths that the files will have below the destination's root, in the order of ``Dataset.names``."""
        ...

    @property
    def memory(self) -> Mapping[str, Any]:
        """What earlier attempts passed to ``remember``."""
        ...

    async def remember(self, facts: Mapping[str, Any]) -> None:
        """Replace the memory by ``facts`` (JSON); completes when it is stored for later attempts."""
        ...

    def tell(self, stage: str) -> None:
        """Report in a few words what is being done; clients see it as the job's stage."""
        ...

    async def fetch(self, origin: Origin, name: str) -> Fetched:
        """Fetch a file into the directory as ``name``; it is verified and its progress shown, as of any transfer.

        Raises what a transfer raises, such as NoSpace. Cancelling stops it.
        """
        ...

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that blocks on files of the directory in a thread, and return what it returns.

        Raises NoSpace if the disk is full, and what the call raises. Cancelling does not stop the call.
        """
        ...

    async def run(
        self, module: str, request: Mapping[str, Any], progress: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """Run ``python -m module`` in a process of its own: ``request`` as JSON on its standard input.

        It waits until the owner's share has a place for it; ``progress`` is called with {} when the process starts.
        Each line of its standard output is a JSON object: ``{"progress": …}`` is handed to ``progress``,
        ``{"result": …}`` is returned, ``{"error": {"code": …, "message": …}}`` is raised as the error with that
        code. Cancelling kills the process.
        """
        ...


class Dataset(Protocol):
    """One kind of dataset, as configured."""

    def subject(self, url: str) -> Subject:
        """Read a URL such as ``ala://ala?lsid=…``; raises InvalidRequest with what was expected. Pure."""
        ...

    def names(self, subject: Subject) -> tuple[str, ...]:
        """Return the names of its files, in the order in which they are placed."""
        ...

    async def make(self, subject: Subject, bench: Bench) -> MadeDataset:
        """Make the files in the bench's directory; completes when every file is complete.

        Raises DatasetNotFound, DatasetEmpty, DatasetInvalid and what requests and fetching raise. Cancelling stops the
        work here; ``abandon`` tells the service.
        """
        ...

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        """Tell the service that the request which ``memory`` remembers is no longer wanted; never raises."""
        ...
