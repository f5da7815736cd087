"""The audit trail: who did what, from where, and what came of it. Only added to.

Every deed is logged first and then stored; what cannot be stored while the database is away is kept for a while and
stored with the next. A line that the database refuses twice, and no other, is in the log alone.
Refusals and wrong logins, which anybody can cause, are stored a few a minute for each origin.
"""

import re
from collections import Counter, deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.batcher import Batch, piecemeal
from datamover.concurrency.loops import Refused, tell_refused
from datamover.errors import DataMoverError, NotPermitted, Unavailable
from datamover.jobs.feed import Feed
from datamover.postgres.database import Database, Json
from datamover.postgres.named_queries import Queries

log = Logger()

T = TypeVar("T")

OK = "ok"
LONGEST = 500
"""Characters of a subject."""
TOGETHER = 64
"""Deeds that are stored together, at most."""
KEPT = 1000
"""Deeds that wait for a database that is away."""
WINDOW = 60.0
"""Seconds in which …"""
REFUSALS = 20
"""… so many refusals of one kind and origin are stored, and …"""
ORIGINS = 1000
"""… so many origins are told apart."""

_QUERY = re.compile(r"([?&;][^=&\s'\"]*=)[^&\s'\"]+")
_LOGIN = re.compile(r"(://[^/@\s'\"]*:)[^/@\s'\"]+(?=@)")
_NAMED = re.compile(r"(?i)((?:password|passphrase|secret|token|key)\w*['\"]?\s*[=:,]\s*['\"])[^'\"]+")


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What somebody did, or was refused."""

    who: str
    origin: str
    """An address, with "telnet" or "ssh" before it at the console."""
    action: str
    """A method's name, "login", or "console"."""
    subject: str = ""
    """A job's id, a destination, the line that was typed."""
    outcome: str = OK
    """"ok", or the code of the refusal."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A deed in the trail."""

    cursor: int
    at: datetime
    deed: AuditEvent


def masked(text: str) -> str:
    """Return a typed line without what looks like a secret: a URL's query and login, a value named password."""
    for pattern in (_QUERY, _LOGIN, _NAMED):
        text = pattern.sub(r"\1***", text)
    return text


@dataclass(slots=True, eq=False)
class _Line:
    """A deed that is to be stored, and when it was done."""

    at: datetime
    deed: AuditEvent
    refused: bool = False
    """By itself, once."""


class Store(Protocol):
    """Where the trail is kept."""

    async def write(self, entries: Sequence[tuple[datetime, AuditEvent]]) -> None: ...

    async def read(self, *, after: int = 0, limit: int = 100) -> list[Entry]: ...

    async def newest(self, limit: int, *, logins: bool = True) -> list[Entry]: ...


class AuditStore:
    """In the database. Every method raises Unavailable while that is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = Queries.load()
        self._feed = Feed(database, "read_audit_horizon", "read_audit")

    async def write(self, entries: Sequence[tuple[datetime, AuditEvent]]) -> None:
        rows = [
            {
                "at": at.isoformat(),
                "who": deed.who,
                "origin": deed.origin,
                "action": deed.action,
                "subject": deed.subject,
                "outcome": deed.outcome,
            }
            for at, deed in entries
        ]
        await self._database.execute(self._queries["insert_audit"], {"deeds": Json(rows)})

    async def read(self, *, after: int = 0, limit: int = 100) -> list[Entry]:
        """Return what comes after a cursor, in order."""
        return [_entry(row) for row in await self._feed.read({"after": after, "limit": limit})]

    async def newest(self, limit: int, *, logins: bool = True) -> list[Entry]:
        """Return the newest, the last of them last; without those of logins where they are not wanted."""
        parameters = {"limit": limit, "logins": logins}
        found = await self._database.read(self._queries["read_newest_audit"], parameters)
        return [_entry(row) for row in reversed(found)]


def _entry(row: Any) -> Entry:
    deed = AuditEvent(row["who"], row["origin"], row["action"], row["subject"], row["outcome"])
    return Entry(row["cursor"], row["at"], deed)


class Audit:
    """What the interface and the console tell."""

    def __init__(self, store: Store, clock: IReactorTime, refused: Refused = tell_refused) -> None:
        self.store = store
        self._refused = refused
        self._clock = clock
        self._unstored: deque[_Line] = deque(maxlen=KEPT)
        self._writing: Batch[_Line, None] = Batch(self._write, TOGETHER)
        self._window = 0.0
        self._refusals: Counter[tuple[str, str]] = Counter()

    async def done(self, deed: AuditEvent, doing: Awaitable[T]) -> T:
        """Await what ``deed`` is, and record it with its outcome; raises what that raised.

        NotPermitted is not recorded here: whoever refuses does it.
        """
        outcome = "INTERNAL"
        try:
            result = await doing
        except NotPermitted:
            raise
        except DataMoverError as error:
            outcome = error.code
            await self.record(replace(deed, outcome=outcome))
            raise
        except BaseException:
            await self.record(replace(deed, outcome=outcome))
            raise
        await self.record(replace(deed, outcome=OK))
        return result

    async def record(self, deed: AuditEvent) -> None:
        """Log a deed and store it; completes when it is on disk, or the database away. Never raises for that."""
        deed = replace(deed, subject=masked(deed.subject)[:LONGEST])
        log.info(
            "{who} at {origin}: {action} {subject}: {outcome}",
            who=deed.who,
            origin=deed.origin,
            action=deed.action,
            subject=deed.subject,
            outcome=deed.outcome,
        )
        await self._writing.add(_Line(datetime.now(UTC), deed))

    async def refused(self, deed: AuditEvent) -> None:
        """Record what was refused, a few times a minute for each kind and origin; the log has the others' number."""
        now = self._clock.seconds()
        if now - self._window >= WINDOW:
            for (origin, action), count in self._refusals.items():
                if count > REFUSALS:
                    log.warn(
                        "{count} more of {action} from {origin} were refused within a minute, and not recorded",
                        count=count - REFUSALS,
                        action=action,
                        origin=origin,
                    )
            self._window = now
            self._refusals.clear()
        key = (deed.origin, deed.action)
        if key not in self._refusals and len(self._refusals) >= ORIGINS:
            key = ("elsewhere", deed.action)
        self._refusals[key] += 1
        if self._refusals[key] <= REFUSALS:
            await self.record(deed)

    async def _write(self, lines: Sequence[_Line]) -> Sequence[None]:
        self._unstored.extend(lines)
        waiting = sorted(self._unstored, key=lambda line: line.refused)
        answers = await piecemeal(self._store, waiting)
        self._unstored.clear()
        taken = not all(isinstance(answer, Failure) for answer in answers)
        for line, answer in zip(waiting, answers, strict=True):
            if not isinstance(answer, Failure):
                continue
            if line.refused and taken and not isinstance(answer.value, Unavailable):
                log.error("not in the audit trail: {deed} at {at}", deed=line.deed, at=line.at.isoformat())
                continue
            self._unstored.append(line)
            if not (line.refused or isinstance(answer.value, Unavailable)):
                line.refused = True
                self._refused("audit", f"a line of the audit trail ({line.deed})", answer)
        if self._unstored:
            log.warn("{count} lines of the audit trail are written later", count=len(self._unstored))
        return [None] * len(lines)

    async def _store(self, lines: Sequence[_Line]) -> Sequence[None]:
        await self.store.write([(line.at, line.deed) for line in lines])
        return [None] * len(lines)
