"""Changes by clients and administrators: cancel, pause, resume and retry jobs; hold and release destinations; drain.

Every change is a transaction that locks the job first. The files of a large job follow in further transactions
(``upkeep.changes``). Every method raises Unavailable while the database is away, and has then changed nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

from datamover.bounds.calls import LARGEST_JOB_ID
from datamover.errors import ExpiredJob, InvalidRequest, InvalidState, Unavailable, UnknownJob
from datamover.jobs import notifications
from datamover.jobs.endpoints import endpoint_key
from datamover.jobs.history import notify, write_events
from datamover.jobs.upkeep.changes import JobChanges
from datamover.jobs.values import State
from datamover.jobs.work import Remark
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import QUERIES


class JobControl:
    """Changes jobs, destinations and nodes. ``owner`` None is an administrator, who may change any job."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = JobChanges(database)

    async def cancel_job(self, id: int, owner: str | None) -> None:
        """Cancel the files that have not ended; running ones end soon after. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> bool:
            state = State((await self._locked(cursor, id, owner))["state"])
            if state is State.CANCELLED:
                return False
            self._check_unfinished(id, state, "cancelled")
            await cursor.post(QUERIES["mark_cancelled"], {"job": id})
            return await self._changes.follow(cursor, id)

        await self._change(id, do)

    async def pause_job(self, id: int, owner: str | None) -> None:
        """Take a job out of the queue; running transfers stop soon after. Raises like ``cancel_job``."""

        async def do(cursor: Cursor) -> bool:
            locked = await self._locked(cursor, id, owner)
            self._check_unfinished(id, State(locked["state"]), "paused")
            if locked["cancelled"]:
                raise InvalidState(f"job {id} is being cancelled and can no longer be paused")
            if not await self._set_paused(cursor, id, True):
                return False
            await self._tell(cursor, id, "paused", {"by": owner or "administrator"})
            return await self._changes.follow(cursor, id)

        await self._change(id, do)

    async def resume_job(self, id: int, owner: str | None) -> None:
        """Put a paused job back in the queue, and end the pauses before its files' next attempts.

        Transfers resume from their checkpoints. Raises like ``cancel_job``.
        """

        async def do(cursor: Cursor) -> bool:
            self._check_unfinished(id, State((await self._locked(cursor, id, owner))["state"]), "resumed")
            paused = await self._set_paused(cursor, id, False)
            if not paused and not await cursor.fetch(QUERIES["read_put_off"], {"job": id}):
                return False
            await self._tell(cursor, id, "resumed_by", {"by": owner or "administrator"})
            return await self._changes.follow(cursor, id)

        await self._change(id, do)

    async def retry_job(self, id: int, owner: str | None) -> None:
        """Put failed files back in the queue; history stays, a deadline is removed. Raises like ``cancel_job``."""

        async def do(cursor: Cursor) -> bool:
            locked = await self._locked(cursor, id, owner)
            state, failed = State(locked["state"]), locked["files_failed"]
            if state not in (State.FAILED, State.PARTIAL):
                raise InvalidState(f"job {id} is {state.value}: only a job that is FAILED or PARTIAL can be retried")
            if not failed:
                raise InvalidState(f"no file of job {id} failed; its missing files were stopped: submit them again")
            await cursor.post(QUERIES["reopen_job"], {"job": id})
            await self._tell(cursor, id, "retrying", {"by": "client", "files": failed})
            return await self._changes.retry(cursor, id, locked["files_total"])

        await self._change(id, do)

    async def renotify_job(self, id: int, owner: str | None) -> None:
        """Send the notice of a job's end once more, with all attempts. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> None:
            state = State((await self._locked(cursor, id, owner))["state"])
            if not state.terminal:
                raise InvalidState(f"job {id} is {state.value}: its notice is sent when it has ended")
            if not await cursor.fetch(QUERIES["renotify"], {"job": id}):
                raise InvalidState(f"job {id} was submitted without notify: there is no URL to send a notice to")
            await self._tell(cursor, id, "renotified", {"by": owner or "administrator"})
            await notify(cursor, notifications.NOTICE)

        await self._database.transaction(do)

    async def hold(self, destination: str, reason: str) -> None:
        """Start no transfer to or from a destination until ``release``; those that run go on."""
        await self._database.execute(QUERIES["hold"], {"name": endpoint_key(destination), "reason": reason})

    async def release(self, destination: str) -> None:
        """End a hold, and reset the destination's breakers."""

        async def do(cursor: Cursor) -> None:
            await cursor.post(QUERIES["release"], {"name": endpoint_key(destination)})
            await notify(cursor, notifications.WORK)

        await self._database.transaction(do)

    async def drain(self, node: str | None = None, *, draining: bool = True) -> None:
        """Let all running processes, or those of one name, take no new work; with ``draining`` False, take it again.

        Processes that start later take work. Raises InvalidRequest for a name that no process has.
        """

        async def do(cursor: Cursor) -> None:
            found = await cursor.fetch(QUERIES["drain"], {"node": node, "draining": draining})
            if node is not None and not found:
                raise InvalidRequest(f"node: no process is called {node!r}: service.status names those that run")
            if not draining:
                await notify(cursor, notifications.WORK)

        await self._database.transaction(do)

    # Shared parts ---------------------------------------------------------------------------------------------

    async def _change(self, job: int, do: Callable[[Cursor], Awaitable[bool]]) -> None:
        """Run ``do`` in a transaction; if it returns True, more files are to follow: bring the change to them."""
        if await self._database.transaction(do):
            with suppress(Unavailable):  # The change is stored: engines continue it.
                await self._changes.complete(job)

    async def _set_paused(self, cursor: Cursor, job: int, paused: bool) -> bool:
        return bool(await cursor.fetch(QUERIES["pause_job"], {"job": job, "paused": paused}))

    async def _locked(self, cursor: Cursor, job: int, owner: str | None) -> Row:
        found = await cursor.fetch_one(QUERIES["lock_job"], {"job": job}) if 0 < job <= LARGEST_JOB_ID else None
        if found is None or owner not in (None, found["owner"]):
            await self._refuse(cursor, job, owner)
        if State(found["state"]).terminal and await cursor.fetch(QUERIES["find_retiring"], {"job": job}):
            await self._refuse(cursor, job, owner)
        return found

    async def _refuse(self, cursor: Cursor | Database, job: int, owner: str | None) -> NoReturn:
        """Raise ExpiredJob for a job that the caller may know to have expired, UnknownJob for any other."""
        if 0 < job <= LARGEST_JOB_ID:
            expired = await cursor.fetch_one(QUERIES["read_expired_job"], {"job": job})
            if expired is not None and owner in (None, expired["owner"]):
                raise ExpiredJob(f"job {job} ended so long ago that its history is gone")
        raise UnknownJob(f"there is no job {job}")

    @staticmethod
    def _check_unfinished(job: int, state: State, what: str) -> None:
        if state.terminal:
            raise InvalidState(f"job {job} is {state.value} and can no longer be {what}")

    async def _tell(self, cursor: Cursor, job: int, kind: str, details: Mapping[str, Any]) -> None:
        await write_events(cursor, [(job, None, Remark(kind, details))])
