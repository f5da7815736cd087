"""What clients and administrators change of what was asked: cancel, pause, resume, retry; hold, release, drain.

Every change is a transaction that begins by locking the job. The files of a large one follow in others (changes.py).
Every method raises Unavailable while the database is away, and has then changed nothing.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from datamover.errors import ExpiredJob, InvalidRequest, InvalidState, UnknownJob
from datamover.jobs import notifications
from datamover.jobs.endpoints import endpoint_key
from datamover.jobs.history import notify, write_events
from datamover.jobs.upkeep.changes import JobChanges
from datamover.jobs.values import State
from datamover.jobs.work import Remark
from datamover.postgres.database import Cursor, Database, Row
from datamover.postgres.named_queries import NamedQueries

MOST_IDS = 2**31 - 1


class JobControl:
    """Pausing, cancelling, retrying. ``owner`` None: an administrator, who may change any job."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes = JobChanges(database)
        self._queries = NamedQueries.load()

    async def cancel_job(self, id: int, owner: str | None) -> None:
        """Cancel what has not ended; running transfers end soon after. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> bool:
            state = State((await self._locked(cursor, id, owner))["state"])
            if state is State.CANCELLED:
                return False
            self._check_unfinished(id, state, "cancelled")
            await cursor.post(self._queries["mark_cancelled"], {"job": id})
            return await self._changes.follow(cursor, id)

        await self._change(id, do)

    async def pause_job(self, id: int, owner: str | None) -> None:
        """Take a job out of the queue; running transfers stop at their next good moment. Raises as ``cancel_job``."""

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
        """Put a paused job back, and have no file of a job wait for its next attempt. Raises as ``cancel_job``.

        What had arrived is gone on with.
        """

        async def do(cursor: Cursor) -> bool:
            self._check_unfinished(id, State((await self._locked(cursor, id, owner))["state"]), "resumed")
            paused = await self._set_paused(cursor, id, False)
            if not paused and not await cursor.fetch(self._queries["read_put_off"], {"job": id}):
                return False
            await self._tell(cursor, id, "resumed_by", {"by": owner or "administrator"})
            return await self._changes.follow(cursor, id)

        await self._change(id, do)

    async def retry_job(self, id: int, owner: str | None) -> None:
        """Put what failed back in the queue; history stays, a deadline does not. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> bool:
            locked = await self._locked(cursor, id, owner)
            state, failed = State(locked["state"]), locked["files_failed"]
            if state not in (State.FAILED, State.PARTIAL):
                raise InvalidState(f"job {id} is {state.value}: only a job that is FAILED or PARTIAL can be retried")
            if not failed:
                raise InvalidState(f"no file of job {id} failed: what is missing was stopped, ask for it again")
            await cursor.post(self._queries["reopen_job"], {"job": id})
            await self._tell(cursor, id, "retrying", {"by": "client", "files": failed})
            return await self._changes.retry(cursor, id, locked["files_total"])

        await self._change(id, do)

    async def renotify_job(self, id: int, owner: str | None) -> None:
        """Have a job's end told once more, from the first attempt on. Raises UnknownJob and InvalidState."""

        async def do(cursor: Cursor) -> None:
            state = State((await self._locked(cursor, id, owner))["state"])
            if not state.terminal:
                raise InvalidState(f"job {id} is {state.value}: its notice is sent when it has ended")
            if not await cursor.fetch(self._queries["renotify"], {"job": id}):
                raise InvalidState(f"job {id} was asked for without notify: there is nobody to tell")
            await self._tell(cursor, id, "renotified", {"by": owner or "administrator"})
            await notify(cursor, notifications.NOTICE)

        await self._database.transaction(do)

    async def hold(self, destination: str, reason: str) -> None:
        """Let nothing new go to, or come from, a destination until it is released; what runs goes on."""
        await self._database.execute(self._queries["hold"], {"name": endpoint_key(destination), "reason": reason})

    async def release(self, destination: str) -> None:
        """End a hold, and forget what failed there."""

        async def do(cursor: Cursor) -> None:
            await cursor.post(self._queries["release"], {"name": endpoint_key(destination)})
            await notify(cursor, notifications.WORK)

        await self._database.transaction(do)

    async def drain(self, node: str | None = None, *, draining: bool = True) -> None:
        """Have every process that runs now, or those of one name, take nothing new; or take work again.

        Processes that are started later take work. Raises InvalidRequest for a name that no process has.
        """

        async def do(cursor: Cursor) -> None:
            found = await cursor.fetch(self._queries["drain"], {"node": node, "draining": draining})
            if node is not None and not found:
                raise InvalidRequest(f"node: no process is called {node!r}: service.status names those that run")
            if not draining:
                await notify(cursor, notifications.WORK)

        await self._database.transaction(do)

    # What they share ------------------------------------------------------------------------------------------

    async def _change(self, job: int, do: Callable[[Cursor], Awaitable[bool]]) -> None:
        """Run ``do``; where it tells that more files are to follow, have them do so."""
        if await self._database.transaction(do):
            await self._changes.complete(job)

    async def _set_paused(self, cursor: Cursor, job: int, paused: bool) -> bool:
        return bool(await cursor.fetch(self._queries["pause_job"], {"job": job, "paused": paused}))

    async def _locked(self, cursor: Cursor, job: int, owner: str | None) -> Row:
        found = await cursor.fetch_one(self._queries["lock_job"], {"job": job}) if 0 < job <= MOST_IDS else None
        if found is None or owner not in (None, found["owner"]):
            await self._refuse(cursor, job, owner)
        assert found is not None
        if State(found["state"]).terminal and await cursor.fetch(self._queries["find_retiring"], {"job": job}):
            await self._refuse(cursor, job, owner)
        return found

    async def _refuse(self, cursor: Cursor | Database, job: int, owner: str | None) -> None:
        """Raise ExpiredJob for a job that was the caller's, UnknownJob for any other."""
        if 0 < job <= MOST_IDS:
            expired = await cursor.fetch_one(self._queries["read_expired_job"], {"job": job})
            if expired is not None and owner in (None, expired["owner"]):
                raise ExpiredJob(f"job {job} ended so long ago that its history is gone")
        raise UnknownJob(f"there is no job {job}")

    @staticmethod
    def _check_unfinished(job: int, state: State, what: str) -> None:
        if state.terminal:
            raise InvalidState(f"job {job} is {state.value} and can no longer be {what}")

    async def _tell(self, cursor: Cursor, job: int, kind: str, details: Mapping[str, Any]) -> None:
        await write_events(cursor, [(job, None, Remark(kind, details))])
