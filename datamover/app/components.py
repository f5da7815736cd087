"""The components that the services of one process share, made once before any of them starts."""

import atexit
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from twisted.logger import Logger

from datamover.api import check_callers
from datamover.app.announcing import tell_of_local
from datamover.audit.trail import AuditStore, AuditTrail
from datamover.concurrency.loops import Loops
from datamover.concurrency.pools import Pools
from datamover.config.schema import Config
from datamover.errors import ConfigError
from datamover.jobs import notifications
from datamover.jobs.installation import identify
from datamover.jobs.notifications import Notifications
from datamover.jobs.queue.limits import QueueLimits
from datamover.jobs.store import JobStore
from datamover.monitor.metrics import Metrics
from datamover.monitor.monitor import HealthMonitor, make_monitor
from datamover.postgres.database import Database
from datamover.postgres.embedded.server import EmbeddedPostgres
from datamover.postgres.external import ExternalPostgres
from datamover.postgres.migrate import migrate
from datamover.processes.messages import StatusMessage
from datamover.processes.metrics_buffer import Counts
from datamover.processes.parent import ParentLink
from datamover.runtime.mistakes import find_mistakes
from datamover.runtime.reload import Reload
from datamover.runtime.snapshot import Runtime, RuntimeHolder
from datamover.sealing.keyring import KeyFile

log = Logger()


class Components:
    """The shared components. None of them connects, reads or listens before the services start."""

    def __init__(self, settings: Config, reactor: Any, parent: ParentLink | None = None) -> None:
        """Check the whole configuration; raises ConfigError. ``parent`` is given in a child engine process."""
        self.settings = settings
        """The configuration as it was at the start, for what only a restart changes."""
        self.reactor = reactor
        self._given_up = False
        self.parent = parent
        self.metrics = Metrics()
        self.counts: Counts = self.metrics if parent is None else parent
        self.loops = Loops(reactor, self.counts.loop_failed) if parent is None else parent.loops
        self.working: Callable[[], bool] | None = None
        self.troubles: Callable[[], Sequence[str]] = lambda: self.loops.troubles
        """Return a sentence for each loop that fails or hangs, in this process and its child processes."""
        self.pools = Pools(reactor)
        self.runtimes = RuntimeHolder(_built(settings, reactor))
        self.server: EmbeddedPostgres | None = None
        """The embedded PostgreSQL, if ``[database]`` names no other."""
        self.address: EmbeddedPostgres | ExternalPostgres
        if settings.database.url is None:
            self.address = self.server = EmbeddedPostgres(reactor, settings.service.data_directory)
        else:
            self.address = ExternalPostgres(settings.database)
        self.database = Database(reactor, self.address.dsn, settings.database.connections, self.loops)
        self.notifications = Notifications(self.database)
        self.key = KeyFile(settings.service.key_path)
        refused = self.loops.refused
        lease = settings.service.lease
        self.store = JobStore(self.database, self.key, self.notifications, reactor, self.limits, lease, refused)
        self.audit = AuditTrail(AuditStore(self.database), reactor, refused)
        self.renew: Callable[[], None] = lambda: None
        """Called after a reload: hands the new configuration to child processes."""
        self._told = settings
        self.reload = Reload(self.runtimes, reactor, self._reloaded, check_callers)

    def limits(self) -> QueueLimits:
        return self.runtimes.now.limits

    @cached_property
    def watching(self) -> HealthMonitor:
        """The metrics and health of this process. Read it only after ``working`` is set."""
        runtimes = self.runtimes
        return make_monitor(
            self.metrics,
            self.database,
            lambda: runtimes.now.registry.names(),
            self.settings,
            self.reactor,
            self.working,
            self.troubles,
            self.counts.loop_failed,
        )

    async def prepare(self, database: Database) -> None:
        """Bring the tables up to date and check the key; raises StartError and Unavailable."""
        await migrate(database)
        await identify(database, self.key)

    def give_up(self, sentence: str) -> None:
        """Stop the reactor and exit with status 1, because waiting does not help. ``sentence`` says why."""
        if self._given_up:
            return
        self._given_up = True
        if self.parent is None:
            log.critical("datamover cannot run: {sentence}", sentence=sentence)
        else:
            self.parent.send(StatusMessage(False, given_up=sentence))
        # twistd exits with 0 after the reactor stops, and a supervisor would not restart the service.
        atexit.register(os._exit, 1)
        self.reactor.callWhenRunning(self.reactor.stop)

    def _reloaded(self) -> None:
        before, self._told = self._told, self.runtimes.now.settings
        tell_of_local(self._told, before)
        self.renew()
        self.notifications.publish(notifications.WORK)


def _built(settings: Config, reactor: Any) -> Runtime:
    """Return the runtime of a configuration; raises ConfigError, which tells every mistake."""
    try:
        return Runtime.build(settings, reactor)
    except ConfigError as error:
        raise ConfigError.of(find_mistakes(settings, reactor, check_callers) or error.problems) from None
