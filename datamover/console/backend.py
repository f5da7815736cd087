"""What the listeners of the console share: the check of logins, the limits, and the audit trail of its commands."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from datamover.audit.trail import AuditEvent
from datamover.console.commands.context import CommandContext, ConsoleServices
from datamover.console.shell import Shell
from datamover.console.terminal.history import Histories
from datamover.console.visitor import View, Visitor
from datamover.errors import Unavailable

log = Logger()


class ConsoleBackend:
    """Checks logins, records who came and what was typed, and makes the shell of a visitor."""

    def __init__(self, services: ConsoleServices, histories: Histories) -> None:
        self._services = services
        self._histories = histories

    @property
    def clock(self) -> IReactorTime:
        return self._services.clock

    async def check(self, username: str, password: str, origin: str) -> bool:
        """Tell whether a name and a password are the operator's, and record the login."""
        try:
            right = await self._services.runtimes.now.operators.check(username, password, origin) is not None
        except Unavailable as error:
            # The console's protocols know no other answer; the trail does not call it a wrong login.
            log.warn("a login at the console from {origin}: {why}", origin=origin, why=error.full)
            return False
        self.came(username, origin, let_in=right)
        return right

    def came(self, who: str, origin: str, *, let_in: bool) -> None:
        """Record a login, or one that was refused."""
        if let_in:
            self._record(AuditEvent(who, origin, "login"))
            return
        # What is not the operator's name may be a password that went into the wrong field.
        known = who if who == self._services.runtimes.now.settings.console.username else "?"
        refused = AuditEvent(known, origin, "login", outcome="AUTHENTICATION_FAILED")
        Deferred.fromCoroutine(self._services.audit.refused(refused))

    def shell(self, visitor: Visitor, view: View) -> Shell:
        """Return the shell in which a visitor's lines are run."""

        def typed(line: str) -> None:
            if line.strip():
                self._record(AuditEvent(visitor.who, visitor.origin, "console", line))

        return Shell(CommandContext(self._services, visitor), view, self._histories.of(visitor.who), typed)

    def _record(self, event: AuditEvent) -> None:
        Deferred.fromCoroutine(self._services.audit.record(event))
