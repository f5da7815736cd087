"""The seam between the engine and the datasets: what every source that must be made before it moves offers.

A dataset is several files that become visible together, made on a node's own disk from what a service elsewhere
answers. The dataset knows that service; the engine gives it a ``Bench`` to work at, and moves what it made.
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
    """What is asked of a dataset, checked: of ``ala://ala?lsid=urn:lsid:…`` the LSID."""

    dataset: str
    """The dataset's name, its URL's scheme."""
    key: str
    """What it is about, in the dataset's own terms."""

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
class Made:
    """What a dataset made: its files, in the order of ``Dataset.names``, and what is worth telling of the making."""

    paths: tuple[Path, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    """For the job's history: rows kept, rows dropped by reason … Plain JSON values."""


class Bench(Protocol):
    """Where one attempt makes one dataset."""

    @property
    def directory(self) -> Path:
        """On this node's own disk, empty at first, removed when the attempt ends."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """The paths that the files will have below the destination's root, in the order of ``Dataset.names``."""
        ...

    @property
    def memory(self) -> Mapping[str, Any]:
        """What earlier attempts remembered."""
        ...

    async def remember(self, facts: Mapping[str, Any]) -> None:
        """Replace the memory by ``facts`` (JSON); completes when that is on disk, for whoever goes on."""
        ...

    def tell(self, stage: str) -> None:
        """Say in words what is being done: clients see it as the job's stage."""
        ...

    async def fetch(self, origin: Origin, name: str) -> Fetched:
        """Fetch a file into the directory as ``name``, as any file is moved: verified, its progress shown.

        Raises what moving raises, NoSpace among it. Cancelling stops it.
        """
        ...

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what blocks on files of the directory, in a thread.

        Raises NoSpace where the disk is full, and what else the call raises. Cancelling lets go of the answer alone.
        """
        ...

    async def run(
        self, module: str, request: Mapping[str, Any], progress: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        """Run ``python -m module`` in a process of its own: ``request`` as JSON on its standard input.

        Each line of its standard output is a JSON object: ``{"progress": …}`` is handed to ``progress``,
        ``{"result": …}`` is returned, ``{"error": {"code": …, "message": …}}`` is raised as the error with that
        code. Cancelling kills the process.
        """
        ...


class Dataset(Protocol):
    """One kind of dataset."""

    def subject(self, url: str) -> Subject:
        """Read a URL such as ``ala://ala?lsid=…``; raises InvalidRequest with what was expected. Pure."""
        ...

    def names(self, subject: Subject) -> tuple[str, ...]:
        """Return what its files are called in a directory, in the order in which they are placed."""
        ...

    async def make(self, subject: Subject, bench: Bench) -> Made:
        """Ask, fetch and clean; completes when every file is whole on the bench.

        Raises DatasetNotFound, DatasetEmpty, DatasetInvalid and what asking and fetching raise. Cancelling stops the
        work here; ``abandon`` tells the service.
        """
        ...

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        """Tell the service that nobody wants any more what ``memory`` remembers; never raises."""
        ...
