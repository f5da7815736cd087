"""What a person changes at the console: the same that ``jobs.*``, ``destinations.*`` and ``service.*`` change.

Everything goes through the functions that the interface calls, and is recorded under the methods' names.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from datamover.audit.trail import AuditEvent, AuditTrail
from datamover.console.session import Visitor
from datamover.console.tables import table
from datamover.jobs.values import JobRecord
from datamover.runtime.reload import Reloaded

ENTRIES = 20

Answer = Coroutine[Any, Any, str]


class Changes(Protocol):
    """What of the job store is needed here."""

    async def cancel(self, id: int) -> JobRecord: ...

    async def pause(self, id: int) -> JobRecord: ...

    async def resume(self, id: int) -> JobRecord: ...

    async def retry(self, id: int) -> JobRecord: ...

    async def hold(self, destination: str, reason: str) -> None: ...

    async def release(self, destination: str) -> None: ...

    async def drain(self, node: str | None = None, *, draining: bool = True) -> None: ...


class Commands:
    """Those of one visitor."""

    def __init__(
        self,
        visitor: Visitor,
        store: Changes,
        audit: AuditTrail,
        reload: Callable[[], Reloaded],
        check_destination: Callable[[str], object],
    ) -> None:
        """``check_destination`` raises UnknownDestination for a name that is not registered."""
        self._visitor = visitor
        self._store = store
        self._audit = audit
        self._reload = reload
        self._check_destination = check_destination

    def namespace(self) -> dict[str, Callable[..., Answer]]:
        """Return what is typed -> what answers."""
        return {
            "cancel": self.cancel,
            "pause": self.pause,
            "resume": self.resume,
            "retry": self.retry,
            "hold": self.hold,
            "release": self.release,
            "drain": self.drain,
            "undrain": self.undrain,
            "reload": self.reload,
            "audit": self.audit,
        }

    async def cancel(self, number: int) -> str:
        """cancel(12): give a job up; files in place stay there"""
        return _job(await self._do("jobs.cancel", str(number), self._store.cancel(number)))

    async def pause(self, number: int) -> str:
        """pause(12): stop a job's files for a while; what arrived is kept"""
        return _job(await self._do("jobs.pause", str(number), self._store.pause(number)))

    async def resume(self, number: int) -> str:
        """resume(12): go on with a paused job, or with one that waits for its next attempt"""
        return _job(await self._do("jobs.resume", str(number), self._store.resume(number)))

    async def retry(self, number: int) -> str:
        """retry(12): try a job's failed files again"""
        return _job(await self._do("jobs.retry", str(number), self._store.retry(number)))

    async def hold(self, name: str, reason: str) -> str:
        """hold('archive', 'new disks until noon'): let nothing new go to or come from a destination"""

        async def do() -> None:
            self._check_destination(name)
            await self._store.hold(name, reason)

        await self._do("destinations.hold", f"{name} {reason}", do())
        return f"{name} is held; release({name!r}) ends that"

    async def release(self, name: str) -> str:
        """release('archive'): end a hold, or a breaker's pause"""

        async def do() -> None:
            self._check_destination(name)
            await self._store.release(name)

        await self._do("destinations.release", name, do())
        return f"{name} is open"

    async def drain(self, node: str | None = None) -> str:
        """drain(), drain('host:4321'): have every process, or one of them, take nothing new"""
        await self._do("service.drain", node or "", self._store.drain(node))
        return f"{node or 'every process'} takes nothing new; undrain() ends that"

    async def undrain(self, node: str | None = None) -> str:
        """undrain(), undrain('host:4321'): have them take work again"""
        await self._do("service.undrain", node or "", self._store.drain(node, draining=False))
        return f"{node or 'every process'} takes work"

    async def reload(self) -> str:
        """reload(): read this process's configuration file again"""

        async def do() -> Reloaded:
            return self._reload()

        found = await self._do("service.reload", "", do())
        lines = [f"changed: {', '.join(found.changed) or 'nothing'}"]
        if found.needs_restart:
            lines.append(f"these need a restart: {', '.join(found.needs_restart)}")
        return "\n".join(lines)

    async def audit(self, limit: int = ENTRIES) -> str:
        """audit(), audit(100): who did what, the newest last"""
        rows = [
            (f"{each.at:%Y-%m-%d %H:%M:%S}", event.who, event.origin, event.action, event.subject, event.outcome)
            for each in await self._audit.store.newest(limit)
            for event in [each.event]
        ]
        return table(("at (UTC)", "who", "from", "action", "of", "outcome"), rows)

    async def _do(self, action: str, subject: str, doing: Awaitable[Any]) -> Any:
        return await self._audit.done(AuditEvent(self._visitor.who, self._visitor.origin, action, subject), doing)


def _job(record: JobRecord) -> str:
    return f"job {record.id} is {record.state.value}{', paused' if record.paused else ''}"
