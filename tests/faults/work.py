"""What is asked of a cluster, and what must hold of it once everything has ended."""

import hashlib
import os
import random
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.faults.cluster import Cluster
from tests.waiting import wait_until

MIB = 2**20
BIG = 48 * MIB
ENDED = {"COMPLETED", "PARTIAL", "FAILED", "CANCELLED"}
TERMINAL = {"completed", "failed", "cancelled"}
RESENT = 64 * MIB
"""Bytes that may be sent twice for one interruption, at least; else a twentieth of the file."""
_LEFT = "SELECT id FROM transfers WHERE traces AND finished_at IS NOT NULL AND (late OR next_attempt_at <= now())"
"""What could not be removed when its transfer ended, or came later: it is swept once its destination answers.

Without those that are looked at once more later, only because a process may have written late.
"""


@cache
def _noise() -> bytes:
    """Return random bytes, for more files than one: to make them anew for each takes longer than to write it."""
    return os.urandom(BIG)


def write_noise(path: Path, size: int) -> None:
    """Write a file of random bytes, none like another: each begins elsewhere in the same noise."""
    noise = memoryview(_noise())
    with path.open("wb") as file:
        file.write(os.urandom(16))
        start, left = random.randrange(len(noise)), size - 16
        while left > 0:
            piece = noise[start : start + left]
            file.write(piece)
            start, left = 0, left - len(piece)
        file.truncate(size)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Asked:
    """One job."""

    job: int
    targets: tuple[Path, ...]
    """Its files', by index; the archive's alone."""
    sources: tuple[Path, ...]
    """What the files hold, by index."""
    size: int
    archive: bool = False

    def digests(self) -> list[str]:
        """Return the sha256 of each source."""
        return [sha256(path) for path in self.sources]


@dataclass(slots=True)
class Work:
    """Jobs that are under way in a cluster."""

    cluster: Cluster
    asked: list[Asked] = field(default_factory=list)

    def big(self) -> list[Asked]:
        """Ask for one file of ``BIG`` bytes each way: web to disk, web to SFTP, SFTP to disk, disk to SFTP."""
        ways = [
            (self._web(BIG), "archive"),
            (self._web(BIG), "visualiser"),
            (self._placed(BIG, "visualiser"), "archive-too"),
            (self._placed(BIG, "archive"), "visualiser-too"),
        ]
        return [self._ask(source, destination) for source, destination in ways]

    def tiny(self) -> list[Asked]:
        """Ask for many files of a few bytes, in one job, to both places."""
        sources = [self._web(100 + index) for index in range(20)]
        number = self._next()
        files, targets = [], []
        for index, (source, _) in enumerate(sources):
            destination = ("archive", "visualiser")[index % 2]
            files.append({"source": source, "destination": destination, "path": f"tiny-{number}/{index}"})
            targets.append(self._root(destination) / f"tiny-{number}/{index}")
        return [self._submit({"files": files}, targets, [path for _, path in sources])]

    def archive(self, *, size: int = 8 * MIB, destination: str = "archive") -> list[Asked]:
        """Ask for one archive of three files of ``size`` bytes."""
        sources = [self._web(size) for _ in range(3)]
        path = f"archive-{self._next()}.zip"
        files = [{"source": source, "destination": destination, "path": path} for source, _ in sources]
        target = self._root(destination) / path
        return [self._submit({"files": files, "archive": "zip"}, [target], [path for _, path in sources], archive=True)]

    def one(self, size: int, destination: str, **more: Any) -> Asked:
        """Ask for one file from the web."""
        return self._ask(self._web(size), destination, **more)

    def between(self, size: int, source: str, destination: str, **more: Any) -> Asked:
        """Ask for one file from one place to another."""
        return self._ask(self._placed(size, source), destination, **more)

    def _ask(self, source: tuple[Any, Path], destination: str, **more: Any) -> Asked:
        path = f"to/{self._next()}"
        request = {"source": source[0], "destination": destination, "path": path, **more}
        return self._submit(request, [self._root(destination) / path], [source[1]])

    def _submit(
        self, request: dict[str, Any], targets: list[Path], contents: list[Path], *, archive: bool = False
    ) -> Asked:
        # As a client would: the same request until it is answered.
        request = {"request_id": f"{self._next()}", **request}
        answer = wait_until(lambda: self.cluster.ask(lambda: self.cluster.mover.jobs.submit(request)), "an answer")
        size = sum(path.stat().st_size for path in contents)
        asked = Asked(answer["id"], tuple(targets), tuple(contents), size, archive)
        self.asked.append(asked)
        return asked

    def _web(self, size: int) -> tuple[str, Path]:
        name = f"from-{self._next()}"
        path = self.cluster.web.directory / name
        write_noise(path, size)
        return f"{self.cluster.web.url}/{name}", path

    def _placed(self, size: int, destination: str) -> tuple[dict[str, str], Path]:
        name = f"from-{self._next()}"
        path = self._root(destination) / name
        write_noise(path, size)
        return {"destination": destination, "path": name}, path

    def _root(self, destination: str) -> Path:
        cluster = self.cluster
        name = destination.removesuffix("-too")
        return cluster.sshd.root if name == "visualiser" else cluster.directory / name

    def _next(self) -> int:
        return next(self.cluster.numbers)

    # Watching -------------------------------------------------------------------------------------------------

    def status(self, asked: Asked) -> dict[str, Any]:
        """Return what the door tells of a job; {} while the database is away."""
        return self.cluster.ask(lambda: self.cluster.mover.jobs.status(asked.job)) or {}

    def midway(self, some: list[Asked], done: int = 36 * MIB) -> None:
        """Wait until every one of ``some`` has brought ``done`` bytes; there they stay until the gate is moved."""
        self.cluster.gate(done)
        wait_until(
            lambda: all(self.status(asked).get("bytes_done", 0) >= done for asked in some), f"{done} bytes of each"
        )

    def kept(self, some: list[Asked], done: int) -> None:
        """Wait until a checkpoint of ``done`` bytes, at least, is stored of every one of ``some``."""
        jobs = ", ".join(str(asked.job) for asked in some)
        without = f"job IN ({jobs}) AND coalesce((checkpoint ->> 'offset')::bigint, 0) < {done}"
        wait_until(
            lambda: not self.cluster.sql(f"SELECT id FROM transfers WHERE {without}"), f"checkpoints of {done} bytes"
        )

    def ended(self, asked: Asked) -> dict[str, Any]:
        """Wait until a job is terminal."""

        def told() -> dict[str, Any] | None:
            status = self.status(asked)
            return status if status.get("status") in ENDED else None

        try:
            found: dict[str, Any] = wait_until(told, f"the end of job {asked.job}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.status(asked)}\n{self.events(asked)}") from None
        return found

    def events(self, asked: Asked, kind: str | None = None) -> list[dict[str, Any]]:
        """Return a job's history."""
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            answer = self.cluster.mover.jobs.events({"job": asked.job, "limit": 1000, **after})
            found += answer["events"]
            after = {"after": answer["cursor"]}
            if not answer["events"]:
                return [event for event in found if kind in (None, event["kind"])]

    # What must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Wait for the end of everything, and assert that it is as it was asked for, once, with nothing left over."""
        for asked in self.asked:
            status = self.ended(asked)
            assert status["status"] == "COMPLETED", (status, self.events(asked))
            self._check_content(asked)
            self._check_history(asked)
        self.check_clean()

    def check_clean(self) -> None:
        """Assert that nothing is left: no part file, nothing staged, no lease."""
        wait_until(lambda: not self.cluster.sql("SELECT id FROM transfers WHERE node IS NOT NULL"), "all leases ended")
        wait_until(lambda: not self.cluster.staged(), f"nothing staged: {self.cluster.staged()}")
        wait_until(lambda: not self.cluster.sql(_LEFT), "what was left is swept")
        wait_until(lambda: not self.cluster.parts(), f"no part file: {self.cluster.parts()}")

    def _check_content(self, asked: Asked) -> None:
        digests = asked.digests()
        files = self.cluster.mover.jobs.files(asked.job)
        assert [file["status"] for file in files] == ["COMPLETED"] * len(digests)
        assert [file["digest"] for file in files] == [f"sha256:{digest}" for digest in digests]
        if not asked.archive:
            assert [sha256(target) for target in asked.targets] == digests
            return
        with zipfile.ZipFile(asked.targets[0]) as archive:
            held = [hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()]
        assert sorted(held) == sorted(digests)

    def _check_history(self, asked: Asked) -> None:
        events = self.events(asked)
        kinds = [event["kind"] for event in events]
        assert kinds[0] == "submitted", events
        assert kinds.count("submitted") == 1, events
        assert kinds[-1] == "completed", events
        assert "file" not in events[-1], events
        ends = Counter(event.get("file") for event in events if event["kind"] in TERMINAL)
        begun = {event.get("file") for event in events if event["kind"] in ("started", "preparing")}
        leaders = {0} if asked.archive else set(range(len(asked.targets)))
        assert begun == leaders, events
        assert ends == Counter([None, *leaders]), events
        for event in events:
            if event["kind"] == "resumed":
                assert event["resent"] <= max(RESENT, asked.size // 20), event
