"""The audit trail: who did what, from where, and with what outcome. Append-only.

Every event is logged and then stored. Events that cannot be stored while the database is away wait in memory and are
stored with the next one. An event that the database refuses twice while it accepts others is only in the log. Of
refusals and failed logins, which anybody can cause, a few a minute are stored for each origin.
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

from datamover.bounds.calls import LONGEST_SUBJECT
from datamover.bounds.work import MOST_UNSTORED_EVENTS, REFUSALS_COUNTED_APART, REFUSALS_STORED, REFUSALS_WINDOW
from datamover.concurrency.batcher import Batch, bisect_batch
from datamover.concurrency.loops import OnRefusal, log_refusal
from datamover.errors import DataMoverError, NotPermitted, Unavailable
from datamover.jobs.feed import Feed
from datamover.postgres.database import Database, Json
from datamover.postgres.named_queries import QUERIES
from datamover.text.quantities import count

log = Logger()

T = TypeVar("T")

OK = "ok"
TOGETHER = 64
"""Events that one statement stores, at most."""

# In each what is repeated ends where the next match may begin: so a line of any form takes linear time.
_QUERY = re.compile(r"([?&;][^?&;=\s'\"]*=)[^&\s'\"]+")
_LOGIN = re.compile(r"""(://(?>\[[^]/]*\]|[^/:?#\s'"]*):)(?:[^/?#\s'"]+(?=@)|(?!\d*[/?#])(?:(?!://)[^\s'"])+(?=@))""")
"""A password ends at the last "@" of the authority; of a malformed one, as in ``user:pa/ss@host``, at the last "@"."""
_NAMED = re.compile(r"(?i)((?:password|passphrase|secret|token|key)\w{0,64}+['\"]?\s*[=:,]\s*['\"])[^'\"]+")


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One action of a client or an administrator, and its outcome."""

    who: str
    origin: str
    """The address it came from; from the console with "telnet" or "ssh" before it."""
    action: str
    """A method's name, "login", or "console"."""
    subject: str = ""
    """A job's id, a destination, or the line that was typed at the console."""
    outcome: str = OK
    """"ok", or the code of the error."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An event in the trail."""

    cursor: int
    at: datetime
    event: AuditEvent


def masked(text: str) -> str:
    """Return a typed line with everything masked that looks like a secret: URL queries and logins, passwords."""
    for pattern in (_QUERY, _LOGIN, _NAMED):
        text = pattern.sub(r"\1***", text)
    return text


@dataclass(slots=True, eq=False)
class _Line:
    """An event that is not stored yet, and when it happened."""

    at: datetime
    event: AuditEvent
    refused: bool = False
    """Whether the database has refused this event by itself."""


class TrailStore(Protocol):
    """Storage for the trail."""

    async def write(self, entries: Sequence[tuple[datetime, AuditEvent]]) -> None: ...

    async def read(self, *, after: int = 0, limit: int = 100) -> list[AuditEntry]: ...

    async def newest(self, limit: int, *, logins: bool = True) -> list[AuditEntry]: ...


class AuditStore:
    """The trail in the database. Every method raises Unavailable while the database is away."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._feed = Feed(database, "read_audit_horizon", "read_audit")

    async def write(self, entries: Sequence[tuple[datetime, AuditEvent]]) -> None:
        """Append events, with the times at which they happened."""
        rows = [
            {
                "at": at.isoformat(),
                "who": event.who,
                "origin": event.origin,
                "action": event.action,
                "subject": event.subject,
                "outcome": event.outcome,
            }
            for at, event in entries
        ]
        await self._database.execute(QUERIES["insert_audit"], {"events": Json(rows)})

    async def read(self, *, after: int = 0, limit: int = 100) -> list[AuditEntry]:
        """Return the entries after a cursor, in order."""
        return [_entry(row) for row in await self._feed.read({"after": after, "limit": limit})]

    async def newest(self, limit: int, *, logins: bool = True) -> list[AuditEntry]:
        """Return the newest entries, oldest first; ``logins`` False leaves out those of logins."""
        parameters = {"limit": limit, "logins": logins}
        found = await self._database.read(QUERIES["read_newest_audit"], parameters)
        return [_entry(row) for row in reversed(found)]


def _entry(row: Any) -> AuditEntry:
    event = AuditEvent(row["who"], row["origin"], row["action"], row["subject"], row["outcome"])
    return AuditEntry(row["cursor"], row["at"], event)


class AuditTrail:
    """Records audit events, of the interface and of the console."""

    def __init__(self, store: TrailStore, clock: IReactorTime, refused: OnRefusal = log_refusal) -> None:
        self.store = store
        self._refused = refused
        self._clock = clock
        self._unstored: deque[_Line] = deque(maxlen=MOST_UNSTORED_EVENTS)
        self._writing: Batch[_Line, None] = Batch(self._write, TOGETHER)
        self._window = 0.0
        self._refusals: Counter[tuple[str, str]] = Counter()

    async def done(self, event: AuditEvent, doing: Awaitable[T]) -> T:
        """Await the action that ``event`` describes, record it with its outcome, and return or raise its result.

        NotPermitted is not recorded: whatever refuses an action records that (``refused``).
        """
        try:
            result = await doing
        except NotPermitted:
            raise
        except BaseException as error:
            outcome = error.code if isinstance(error, DataMoverError) else "INTERNAL"
            await self.record(replace(event, outcome=outcome))
            raise
        await self.record(replace(event, outcome=OK))
        return result

    async def record(self, event: AuditEvent) -> None:
        """Log an event and store it; completes when it is on disk, or waits in memory because the database is away."""
        event = replace(event, subject=masked(event.subject)[:LONGEST_SUBJECT])
        log.info(
            "{who} at {origin}: {action} {subject}: {outcome}",
            who=event.who,
            origin=event.origin,
            action=event.action,
            subject=event.subject,
            outcome=event.outcome,
        )
        await self._writing.add(_Line(datetime.now(UTC), event))

    async def refused(self, event: AuditEvent) -> None:
        """Record an action that was refused, ``REFUSALS_STORED`` times a minute for each action and origin.

        The number of those that were not recorded is logged.
        """
        now = self._clock.seconds()
        if now - self._window >= REFUSALS_WINDOW:
            for (origin, action), number in self._refusals.items():
                if number > REFUSALS_STORED:
                    log.warn(
                        "{action} from {origin}: {count} more refusals within a minute were not recorded",
                        count=number - REFUSALS_STORED,
                        action=action,
                        origin=origin,
                    )
            self._window = now
            self._refusals.clear()
        key = (event.origin, event.action)
        if key not in self._refusals and len(self._refusals) >= REFUSALS_COUNTED_APART:
            key = ("elsewhere", event.action)
        self._refusals[key] += 1
        if self._refusals[key] <= REFUSALS_STORED:
            await self.record(event)

    async def _write(self, lines: Sequence[_Line]) -> Sequence[None]:
        self._unstored.extend(lines)
        waiting = sorted(self._unstored, key=lambda line: line.refused)
        answers = await bisect_batch(self._store, waiting)
        self._unstored.clear()
        taken = not all(isinstance(answer, Failure) for answer in answers)
        for line, answer in zip(waiting, answers, strict=True):
            if not isinstance(answer, Failure):
                continue
            if line.refused and taken and not isinstance(answer.value, Unavailable):
                log.error(
                    "the database refuses this audit event again, so it is not in the audit trail: {event} at {at}",
                    event=line.event,
                    at=line.at.isoformat(),
                )
                continue
            self._unstored.append(line)
            if not (line.refused or isinstance(answer.value, Unavailable)):
                line.refused = True
                self._refused("audit", f"an audit event ({line.event})", answer)
        if self._unstored:
            events = count(len(self._unstored), "audit event")
            log.warn("{events} not stored yet, to be tried again with the next one", events=events)
        return [None] * len(lines)

    async def _store(self, lines: Sequence[_Line]) -> Sequence[None]:
        await self.store.write([(line.at, line.event) for line in lines])
        return [None] * len(lines)
