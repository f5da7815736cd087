"""An engine and a job store in this process, on a real database: what the service assembles, for tests to look into."""

import os
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from datamover.concurrency.loops import Loops
from datamover.concurrency.pools import Pools
from datamover.config.schema import Config, DestinationTable, Sources, Transfers
from datamover.datasets.base import Dataset
from datamover.engine.attempt import AttemptContext
from datamover.engine.dependencies import EngineDependencies
from datamover.engine.dispatcher import Dispatcher
from datamover.engine.groups.staging import Staging
from datamover.engine.recorder import Recorder
from datamover.engine.room.reservation import Rooms
from datamover.engine.room.survey import Surveys
from datamover.engine.room.volumes import Volumes
from datamover.engine.room.watch import RoomSettings, RoomWatch
from datamover.engine.share import ALONE, ProcessShare
from datamover.engine.throttle import Throttles
from datamover.engine.transfer.spec import TransferTools
from datamover.engine.worker import Worker
from datamover.jobs.installation import identify
from datamover.jobs.notifications import Notifications
from datamover.jobs.queue.cleanup import OrphanCleanup
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.queue.queue import Queue
from datamover.jobs.queue.reservations import Reservations
from datamover.jobs.store import JobStore
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.jobs.values import FileRecord, JobRecord, Naming, NewFile, NewJob, PlaceSource, SourceRef, UrlSource
from datamover.postgres.database import Database
from datamover.protocols import PLACES
from datamover.protocols.http import HttpClient
from datamover.protocols.place import PlaceProtocol
from datamover.registry.destinations import Registry
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import SourcePolicy
from datamover.web.url import shown
from tests.protocols.faulty import Faulty
from tests.servers import postgres

PATIENCE = 90.0
"""Seconds that a job of a test may take."""

QUICK = {"retry_base": "50ms", "retry_cap": "200ms", "idle_timeout": "30s"}


class Seal:
    """A key of the test's own."""

    def __init__(self) -> None:
        self.lose()

    def lose(self) -> None:
        """Have another key, which opens nothing that was sealed before."""
        self._fernet = Fernet(Fernet.generate_key())

    def seal(self, text: str) -> bytes:
        return self._fernet.encrypt(text.encode())

    def open(self, sealed: bytes) -> str:
        return self._fernet.decrypt(sealed).decode()


@dataclass
class Engine:
    """One node."""

    queue: Queue
    recorder: Recorder
    dispatcher: Dispatcher
    staging: Staging
    recording: "Deferred[None]"

    async def stop(self, grace: float = 5.0) -> None:
        await self.dispatcher.stop(grace)
        self.recorder.stop()
        await self.recording
        await self.staging.close()


class Rig:
    """A database of its own, destinations as in a configuration, and as many engines as a test starts."""

    def __init__(self, reactor: Any, directory: Path) -> None:
        self.reactor = reactor
        self.pools = Pools(reactor)
        self.directory = directory
        self.seal = Seal()
        self.engines: list[Engine] = []
        self.faulty = Faulty()
        self.datasets: dict[str, Dataset] = {}
        self.failures: list[str] = []
        """The loops that met what nobody foresaw, each time."""
        self._limited = True
        self.loops = Loops(reactor, self.failures.append)

    async def open(
        self,
        destinations: Mapping[str, Mapping[str, Any]],
        *,
        transfers: Mapping[str, Any] | None = None,
        limits: QueueLimits | None = None,
        protocols: Sequence[PlaceProtocol] = (),
    ) -> "Rig":
        """Open the database, and the destinations, which may also be of further ``protocols``."""
        self.url = await postgres.shared().migrated(self.reactor)
        self.settings = Config(
            destinations={name: DestinationTable.model_validate(table) for name, table in destinations.items()},
            sources=Sources(allow=("http://127.0.0.1:*/",)),
            transfers=Transfers.model_validate({**QUICK, **(transfers or {})}),
        )
        self.database = Database(self.reactor, postgres.address(self.url), 8, self.loops)
        await self.database.open()
        self.news = Notifications(self.database)
        await self.news.start()
        policy = SourcePolicy.from_config(self.settings.sources)
        http = HttpClient(self.reactor, self.settings.http, self.settings.transfers, policy, SourceCredentials())
        self.protocols = (*PLACES, self.faulty, *protocols)
        self.registry = Registry.from_config(self.settings, self.reactor, http, protocols=self.protocols)
        of_each = {name: self.registry.get(name).max_active for name in self.registry.names()}
        self.limits = replace(limits or QueueLimits(), destinations=of_each)
        refused = self.loops.refused
        self.store = JobStore(self.database, self.seal, self.news, self.reactor, lambda: self.limits, refused=refused)
        return self

    def reload(self, destinations: Mapping[str, Mapping[str, Any]]) -> None:
        """Have other settings for the same destinations, as after a reload of the configuration."""
        tables = {name: DestinationTable.model_validate(table) for name, table in destinations.items()}
        self.settings = self.settings.model_copy(update={"destinations": tables})
        self.registry = Registry.from_config(
            self.settings, self.reactor, self.registry.http, protocols=self.protocols, before=self.registry
        )

    def lift_limits(self) -> None:
        """Have every attempt that begins from now on go at any speed, once a test has met what it was slow for."""
        self._limited = False

    def _bandwidth(self, destination: str) -> int | None:
        return self.registry.get(destination).bandwidth if self._limited else None

    async def engine(
        self,
        *,
        lease: float = 30.0,
        max_active: int = 8,
        database: Database | None = None,
        share: ProcessShare = ALONE,
        telling: IReactorTime | None = None,
        room_interval: float = 0.2,
    ) -> Engine:
        """Start one more node, on a connection to the database of its own if one is given.

        By ``telling`` progress is written now and then; by a clock that stands still, only when it has to be.
        """
        node = str(uuid.uuid4())
        refused = self.loops.refused
        on = database or self.database
        queue = Queue(on, self.seal, node=node, name=node[:8], roles=["engine"], lease=lease, refused=refused)
        recorder = Recorder(queue, telling or self.reactor, loops=self.loops)
        staging = Staging(self.directory / "staging", node, self.reactor, self.pools.staging)
        await staging.open()

        throttles = Throttles(self.reactor, self._bandwidth)
        tools = TransferTools(
            self.reactor, self.pools, self.settings.transfers, await identify(self.database, self.seal)
        )
        reservations = Reservations(on, node)
        rooms = Rooms(
            Surveys(reservations.survey, Volumes(lambda: self.registry, self.reactor), time.monotonic), reservations
        )

        def context() -> AbstractContextManager[AttemptContext]:
            return nullcontext(AttemptContext(tools, self.registry, queue, throttles.of, rooms, self.datasets))

        dependencies = EngineDependencies(
            queue=queue,
            work=Worker(context, recorder, staging, random.random),
            limits=lambda: self.limits,
            throttles=throttles,
            upkeep=Upkeep(self.database, refused=refused),
            cleanup=OrphanCleanup(self.database, self.seal, refused=refused),
            room=RoomWatch(rooms, lambda: RoomSettings(self.registry, room_interval)),
            clock=self.reactor,
            monotonic=time.monotonic,
            loops=self.loops,
        )
        dispatcher = Dispatcher(dependencies, max_active=lambda: max_active, notifications=self.news, share=share)
        engine = Engine(queue, recorder, dispatcher, staging, Deferred.fromCoroutine(recorder.run()))
        dispatcher.start()
        self.engines.append(engine)
        return engine

    async def ask(self, *files: NewFile, **job: Any) -> int:
        """Submit one job; return its id."""
        submitted = await self.store.submit([NewJob(files=files, **{"owner": "tester", **job})])
        return submitted[0].id

    async def ended(self, job: int) -> JobRecord:
        """Wait until a job is terminal."""
        record = await self.store.wait(job, PATIENCE)
        assert record.state.terminal, f"job {job} is still {record.state}: {record.error}, {record.waiting_for}"
        return record

    async def moved(self, *files: NewFile, **job: Any) -> tuple[JobRecord, list[FileRecord]]:
        """Submit one job and wait for its end."""
        number = await self.ask(*files, **job)
        return await self.ended(number), await self.store.files(number)

    async def saved(self) -> bool:
        """Tell whether there is a checkpoint of anything that is moved."""
        return bool(await self.database.fetch("SELECT 1 AS one FROM transfers WHERE checkpoint IS NOT NULL"))

    async def kinds(self, job: int) -> list[str]:
        """Return the kinds of a job's events, in order."""
        return [event.kind for event in await self.store.events(job=job, limit=1000)]

    async def close(self) -> None:
        for engine in self.engines:
            await engine.stop()
        await self.registry.close()
        await self.database.close()


def url(text: str) -> UrlSource:
    return UrlSource(text, shown(text))


def file(source: SourceRef, destination: str, path: str, naming: Naming = Naming.EXACT, **more: Any) -> NewFile:
    return NewFile(source, destination, path, naming, **more)


def place(destination: str, path: str) -> PlaceSource:
    return PlaceSource(destination, path)


def parts(directory: Path) -> list[Path]:
    """Return the part files below a directory."""
    return [path for path in directory.rglob("*") if path.name.startswith(".datamover-")]


def random_bytes(size: int) -> bytes:
    """Return bytes that nobody foresees, some four times as quickly as the system makes them."""
    return Cipher(AES(os.urandom(16)), CTR(bytes(16))).encryptor().update(bytes(size))


@lru_cache(maxsize=2)
def large(size: int) -> bytes:
    """Return random bytes that are the same at every call, and made at the first: no test's import waits for them."""
    return random_bytes(size)
