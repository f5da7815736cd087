"""A download that the Atlas prepares: requested once, polled until it is ready, remembered over restarts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.bounds.datasets import LONGEST_POLL_PAUSE, MOST_FAILED_POLLS
from datamover.datasets.ala.answers import DownloadStage, DownloadStatus, status_of
from datamover.datasets.ala.client import AlaClient
from datamover.datasets.ala.section import AlaSection as Settings
from datamover.datasets.base import Bench
from datamover.errors import (
    DataMoverError,
    DatasetEmpty,
    DatasetInvalid,
    DatasetNotFound,
    Scope,
    ServerError,
    TimedOut,
)

log = Logger()

GROWTH = 1.3
LONGEST_INTERVAL = 12
"""Factor on the first interval."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the Atlas accepted, as it is remembered."""

    lsid: str
    since: float
    """POSIX seconds."""
    status_url: str | None = None
    cancel_url: str | None = None
    search_url: str | None = None
    download_url: str | None = None

    @classmethod
    def recalled(cls, memory: Mapping[str, Any]) -> "Asked | None":
        """Return the request in ``memory``, None if there is no usable one."""
        known = {field.name: memory.get(field.name) for field in fields(cls)}
        texts = {name: value for name, value in known.items() if name != "since"}
        if not isinstance(known["since"], int | float) or not isinstance(known["lsid"], str):
            return None
        if not all(value is None or isinstance(value, str) for value in texts.values()):
            return None
        found = cls(**known)  # type: ignore[arg-type]
        return found if found.status_url or found.download_url else None

    def remembered(self) -> dict[str, Any]:
        return asdict(self)

    def learning(self, status: DownloadStatus) -> "Asked":
        """Return this, updated with the URLs in ``status``."""
        return replace(
            self,
            status_url=status.status_url or self.status_url,
            cancel_url=status.cancel_url or self.cancel_url,
            search_url=status.search_url or self.search_url,
            download_url=(
                status.download_url if status.stage in (DownloadStage.FINISHED, DownloadStage.UNTOLD) else None
            )
            or self.download_url,
        )


class Offline:
    """Requests downloads and waits for them."""

    def __init__(self, settings: Settings, client: AlaClient, clock: IReactorTime, wall: Callable[[], float]) -> None:
        """``wall`` returns POSIX seconds: other processes read what is remembered, later."""
        self._settings = settings
        self._client = client
        self._clock = clock
        self._wall = wall

    async def ready(self, lsid: str, bench: Bench) -> tuple[Asked, bool]:
        """Return a request whose download is ready, and whether an earlier attempt had made it.

        Sends a request unless the bench remembers a live one, and waits. A request that failed at the Atlas is
        forgotten, so that the next attempt sends a new one. Raises DatasetEmpty, DatasetInvalid, TimedOut and what
        ``AlaClient.get`` raises. Cancelling stops waiting, not the Atlas: see ``abandon``.
        """
        asked = Asked.recalled(bench.memory)
        if asked is not None and asked.lsid == lsid:
            try:
                return await self._wait(asked, bench, pause=0.0), True
            except _Gone:
                await bench.remember({})
        try:
            return await self._wait(await self._ask(lsid, bench), bench, self._settings.poll_interval), False
        except _Gone as gone:
            await bench.remember({})
            raise ServerError(f"ALA lost the request that it had accepted: {gone}", scope=Scope.SOURCE) from None

    async def abandon(self, memory: Mapping[str, Any]) -> None:
        """Cancel the request in ``memory`` at the Atlas if it is still being prepared. Never raises."""
        asked = Asked.recalled(memory)
        if asked is None or asked.cancel_url is None or asked.download_url is not None:
            return
        try:
            await self._cancel(asked.cancel_url)
        except CancelledError:
            raise
        except DataMoverError as error:
            log.warn(
                "the request of {lsid} could not be cancelled at ALA: {error}", lsid=asked.lsid, error=error.message
            )
        except Exception:  # A bug here must not fail the cancellation.
            log.failure("the request of {lsid} could not be cancelled at ALA", lsid=asked.lsid)

    # The steps ------------------------------------------------------------------------------------------------

    async def _cancel(self, url: str) -> None:
        head, body = await self._client.get(url)
        if head.status >= 400:
            raise self._client.refusal(head, body, "the request")

    async def _ask(self, lsid: str, bench: Bench) -> Asked:
        bench.tell("ALA: asking for the records")
        head, body = await self._client.get(self._client.download_url("offline", lsid))
        if head.status not in (200, 201, 202):
            raise self._client.refusal(head, body, lsid)
        status = status_of(body, head.url)
        asked = Asked(lsid, self._wall()).learning(status)
        if asked.status_url or asked.download_url:
            await bench.remember(asked.remembered())
        await self._judge(status, asked, bench)
        if not asked.status_url and not asked.download_url:
            raise DatasetInvalid(f"ALA accepted the request without saying where to look for it{status.words}")
        return asked

    async def _wait(self, asked: Asked, bench: Bench, pause: float) -> Asked:
        failures, interval = 0, self._settings.poll_interval
        while asked.download_url is None:
            if self._wall() + pause - asked.since > self._settings.max_wait:
                await self._give_up(asked, bench)
            if pause:
                await deferLater(self._clock, pause)
            interval = min(interval * GROWTH, self._settings.poll_interval * LONGEST_INTERVAL)
            try:
                status = await self._look(asked)
            except DataMoverError as error:
                failures += 1
                if not error.retryable or failures > MOST_FAILED_POLLS:
                    raise
                pause = max(interval, min(error.retry_after or 0.0, LONGEST_POLL_PAUSE))
            else:
                failures, pause = 0, interval
                asked = await self._learn(asked, status, bench)
        return asked

    async def _look(self, asked: Asked) -> DownloadStatus:
        head, body = await self._client.get(asked.status_url or "")
        if head.status == 200:
            status = status_of(body, head.url)
            if status.stage is DownloadStage.GONE:
                raise _Gone(f"its status is {status.word!r}{status.words}")
            return status
        error = self._client.refusal(head, body, "the request")
        raise _Gone(error.message) if isinstance(error, DatasetNotFound) else error

    async def _learn(self, asked: Asked, status: DownloadStatus, bench: Bench) -> Asked:
        learned = asked.learning(status)
        await self._judge(status, learned, bench)
        if learned != asked:
            await bench.remember(learned.remembered())
        return learned

    async def _judge(self, status: DownloadStatus, asked: Asked, bench: Bench) -> None:
        """Report the stage; if the request ended without a download, forget it and raise why."""
        ended: DataMoverError | None = None
        if status.stage is DownloadStage.FINISHED and status.total == 0:
            ended = DatasetEmpty(f"ALA has no occurrence records of {asked.lsid}{status.words}")
        elif status.stage is DownloadStage.FINISHED and asked.download_url is None:
            ended = DatasetInvalid(f"ALA finished the request without saying where the download is{status.words}")
        elif status.stage in (DownloadStage.ENDED, DownloadStage.GONE):
            ended = DatasetInvalid(f"ALA ended the request with status {status.word!r}{status.words}")
        elif status.stage is DownloadStage.UNTOLD and status.failed and asked.download_url is None:
            ended = DatasetInvalid(f"ALA did not take the request{status.words}")
        if ended is not None:
            await bench.remember({})
            raise ended
        bench.tell(status.shown)

    async def _give_up(self, asked: Asked, bench: Bench) -> None:
        await self.abandon(asked.remembered())
        await bench.remember({})
        raise TimedOut(
            f"ALA did not prepare the records within {self._settings.max_wait:g} s ([ala] max_wait)",
            scope=Scope.SOURCE,
        )


class _Gone(Exception):
    """The Atlas no longer knows the request; ``args[0]`` is its message."""
