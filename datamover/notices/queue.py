"""The queue of notices: claim them, write their outcomes.

A notice falls due in the statement that ends its job. A claim is a lease with a number; every later statement names the
number, so an engine whose lease has run out changes nothing. Every method raises Unavailable while the database is
unavailable. A notice that cannot be read, or that the database refuses to change, is set aside: it is sent again only
after ``jobs.renotify``.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure

from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import DataMoverError, InternalError, NotNow, Unavailable
from datamover.jobs import rows
from datamover.jobs.history import write_events
from datamover.jobs.upkeep.quarantine import Quarantine, take_or_isolate
from datamover.jobs.values import Notice
from datamover.jobs.work import Remark
from datamover.postgres.database import Cursor, Database, Json, Row
from datamover.postgres.named_queries import QUERIES

LEASE = 30.0
"""Seconds of a claim; longer than an attempt takes."""
TOLD_ALL = 10
TOLD_EVERY = 100
"""The history shows the first ten failures, then every hundredth: a receiver may be gone for good."""


_Event = Callable[[Row], tuple[str, Mapping[str, Any]] | None]
"""Returns kind and details of the event for a changed row, None for no event."""
_Way = tuple[Mapping[str, Any], _Event]
"""The parameters of a change, and its event."""


class Notices:
    """The notices of all jobs."""

    def __init__(
        self,
        database: Database,
        cipher: rows.Seal,
        lease: float = LEASE,
        *,
        refused: OnRefusal = log_refusal,
    ) -> None:
        """``lease``: seconds until a claimed notice without an outcome may be claimed again."""
        self._database = database
        self._cipher = cipher
        self._lease = lease
        self._refused = refused
        self._aside = Quarantine(time.monotonic)

    async def claim(self, room: int, per_host: int, per_owner: int, sending: Sequence[Notice] = ()) -> list[Notice]:
        """Claim at most ``room`` due notices: for each host, and of each owner, so many less those being sent."""
        hosts, owners = Counter(notice.host for notice in sending), Counter(notice.owner for notice in sending)
        parameters = {
            "room": room,
            "per_host": per_host,
            "busy": list(hosts),
            "counts": list(hosts.values()),
            "per_owner": per_owner,
            "owners": list(owners),
            "owned": list(owners.values()),
            "lease": self._lease,
            "only": None,
            "passed_over": self._aside.ids,
        }

        async def claim(only: Sequence[int] | None) -> dict[int, Row]:
            found = await self._database.fetch(QUERIES["claim_notices"], {**parameters, "only": only})
            return {row["job"]: row for row in found}

        taken, refused = await take_or_isolate(
            claim, lambda: self._database.fetch(QUERIES["claim_notices.chosen"], parameters)
        )
        for row, failure in refused:
            await self._pass_over(row, failure)
        notices = []
        for row in taken.values():
            try:
                notices.append(rows.notice(row, self._cipher))
            except Exception as error:  # The other claimed notices are sent all the same.
                self._refused("notices", f"the notice of job {row['job']}", Failure())  # type: ignore[no-untyped-call]
                told = error if isinstance(error, InternalError) else InternalError()
                await self._set_aside(row["job"], row["lease"], told)
        return notices

    async def delivered(self, notice: Notice) -> None:
        """Write that a notice was acknowledged."""
        await self._write(notice, "deliver_notice", [({}, lambda _: ("notified", {})), ({}, _untold)])

    async def put_off(self, notice: Notice, error: DataMoverError, pause: float) -> None:
        """Write that a notice was not acknowledged and is sent again after ``pause`` seconds."""

        def way(error: DataMoverError) -> _Way:
            told = {"code": error.code, "message": error.message}

            def event(row: Row) -> tuple[str, dict[str, Any]] | None:
                if notice.attempt > TOLD_ALL and notice.attempt % TOLD_EVERY:
                    return None
                at = row["next_attempt_at"].strftime("%Y-%m-%dT%H:%M:%SZ")
                return "notify_failed", {"error": told, "next_retry_at": at}

            return {"pause": pause, "error": Json(told)}, event

        bare = way(InternalError())  # Without the receiver's answer.
        await self._write(notice, "put_off_notice", [way(error), bare, (bare[0], _untold)])

    async def release(self, notices: Sequence[Notice]) -> None:
        """Release notices, so that they can be claimed at once."""
        parameters = {"jobs": [one.job for one in notices], "leases": [one.lease for one in notices]}
        await self._database.execute(QUERIES["release_notices"], parameters)

    async def _write(self, notice: Notice, query: str, ways: Sequence[_Way]) -> None:
        """Write an outcome in the first of several ways that the database accepts; else set the notice aside."""
        fence = {"job": notice.job, "lease": notice.lease}
        for parameters, event in ways:
            try:
                await self._change(query, {**fence, **parameters}, notice.attempt, event)
            except (CancelledError, Unavailable):
                raise
            except Exception:
                what = f"the outcome of the notice of job {notice.job}"
                self._refused("notices", what, Failure())  # type: ignore[no-untyped-call]
            else:
                return
        await self._set_aside(notice.job, notice.lease, InternalError())

    async def _pass_over(self, row: Row, failure: Failure) -> None:
        """Skip a notice that the database refuses to claim for a while; the second time, set it aside."""
        times = self._aside.add(row["id"])
        if isinstance(failure.value, NotNow):
            return
        self._refused("notices", f"the notice of job {row['id']}", failure)
        if times > 1:
            await self._set_aside(row["id"], row["lease"], InternalError())

    async def _set_aside(self, job: int, lease: int, error: DataMoverError) -> None:
        """Stop sending a notice; if the database refuses to write that, skip it for a while."""
        told = {"code": error.code, "message": error.message}
        parameters = {"job": job, "lease": lease, "error": Json(told)}
        for event in (lambda _: ("notify_failed", {"error": told}), _untold):
            try:
                await self._change("set_aside_notice", parameters, None, event)
            except CancelledError:
                raise
            except Exception:
                self._refused("notices", f"setting aside the notice of job {job}", Failure())  # type: ignore[no-untyped-call]
            else:
                self._aside.release(job)
                return
        self._aside.add(job)

    async def _change(self, query: str, parameters: Mapping[str, Any], attempt: int | None, event: _Event) -> None:
        async def do(cursor: Cursor) -> None:
            found = await cursor.fetch(QUERIES[query], parameters)
            told = event(found[0]) if found else None
            if told is not None:
                kind, details = told
                attempted = {"attempt": attempt} if attempt is not None else {}
                await write_events(cursor, [(parameters["job"], None, Remark(kind, {**attempted, **details}))])

        await self._database.transaction(do)


def _untold(_: Row) -> None:
    """Return no event."""
