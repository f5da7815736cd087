"""Where visitors of the console are received: who may come in, what they may type, what is kept of it."""

import ast
from collections.abc import Awaitable, Callable
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.audit.trail import AuditEvent, AuditTrail
from datamover.console.commands import Changes, Commands
from datamover.console.queries import Queries
from datamover.console.session import Visitor, told
from datamover.errors import Unavailable
from datamover.runtime.reload import Reloaded
from datamover.runtime.snapshot import RuntimeHolder
from datamover.text.printable import lines

log = Logger()


class ConsoleBackend:
    """Satisfies ``session.Desk``."""

    def __init__(
        self, runtimes: RuntimeHolder, names: Queries, store: Changes, audit: AuditTrail, reload: Callable[[], Reloaded]
    ) -> None:
        self._runtimes = runtimes
        self._names = names
        self._store = store
        self._audit = audit
        self._reload = reload

    async def check(self, username: str, password: str, origin: str) -> bool:
        try:
            right = await self._runtimes.now.operators.check(username, password, origin) is not None
        except Unavailable as error:
            # The console's protocols know no other answer; the trail does not call it a wrong login.
            log.warn("a login at the console from {origin}: {why}", origin=origin, why=error.message)
            return False
        self.came(username, origin, let_in=right)
        return right

    def came(self, who: str, origin: str, *, let_in: bool) -> None:
        if let_in:
            self._record(AuditEvent(who, origin, "login"))
            return
        # What is not the operator's name may be a password that went into the wrong field.
        known = who if who == self._runtimes.now.settings.console.username else "?"
        refused = AuditEvent(known, origin, "login", outcome="AUTHENTICATION_FAILED")
        Deferred.fromCoroutine(self._audit.refused(refused))

    def namespace(self, visitor: Visitor) -> dict[str, Callable[..., Awaitable[str]]]:
        registered = self._runtimes.now.registry.get
        verbs = Commands(visitor, self._store, self._audit, self._reload, lambda name: registered(name))
        typed: dict[str, Callable[..., Awaitable[str]]] = {**self._names.namespace(), **verbs.namespace()}

        async def help() -> str:  # noqa: A001
            """help(): this list"""
            return "\n".join(str(name.__doc__) for name in typed.values())

        typed["help"] = help
        return typed

    def typed(self, visitor: Visitor, line: str) -> None:
        if line.strip():
            self._record(AuditEvent(visitor.who, visitor.origin, "console", line))

    async def run(self, visitor: Visitor, line: str) -> tuple[bool, str]:
        """Run an expression, as typed at the prompt: ``jobs()``."""
        self.typed(visitor, line)
        try:
            code = compile(ast.parse(line.strip(), "<console>", "eval"), "<console>", "eval")
            answer: Any = eval(code, dict(self.namespace(visitor)))  # noqa: S307 - it is the console
            if iscoroutine(answer):
                answer = await answer
        except Exception:  # whatever it is, the visitor is told
            return False, lines(told(Failure()))
        return True, lines(answer) if isinstance(answer, str) else repr(answer)

    def _record(self, event: AuditEvent) -> None:
        Deferred.fromCoroutine(self._audit.record(event))
