"""``twistd datamover``: the options, and the service tree, to be read from top to bottom.

The one place where the reactor is named; everything below is handed it.
"""

import atexit
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.application.app import ServerOptions
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService, Service
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python import usage

from datamover import config
from datamover.api import make_site
from datamover.api.pages import Page
from datamover.config import Config
from datamover.console import HOST_KEY, Access, Desk, Names, SshFactory, TelnetFactory, host_key
from datamover.engine.attempt import Rooms
from datamover.engine.digest import Offload
from datamover.engine.dispatcher import Dispatcher
from datamover.engine.notifier import Means, Notifier
from datamover.engine.order import Tools
from datamover.engine.recorder import Recorder
from datamover.engine.service import EngineService, NoticeService
from datamover.engine.staging import Staging
from datamover.engine.throttle import Throttles
from datamover.engine.worker import Worker
from datamover.errors import ConfigError, StartError
from datamover.house import House, Houses
from datamover.jobs import news
from datamover.jobs.audit import Audit, AuditStore
from datamover.jobs.database import Database, given
from datamover.jobs.embedded import EmbeddedPostgres
from datamover.jobs.installation import identify
from datamover.jobs.migrate import migrate
from datamover.jobs.news import News
from datamover.jobs.notices import Notices
from datamover.jobs.queue import Queue
from datamover.jobs.secrets import KeyFile
from datamover.jobs.service import DatabaseService
from datamover.jobs.store import JobStore
from datamover.jobs.upkeep import Upkeep
from datamover.jobs.waiting import Bounds
from datamover.monitor.logs import json_observer, log_file
from datamover.monitor.metrics import Metrics
from datamover.monitor.service import LagProbe
from datamover.monitor.watch import watch
from datamover.reload import Reload
from datamover.services import Connections, HangUp, Ordered

log = Logger()


class Options(usage.Options):
    """What ``twistd datamover`` takes; everything else stands in the configuration file."""

    longdesc = "Move files for other programs: they ask over XML-RPC, get a job id, and the file arrives."
    optParameters = [  # noqa: N815, RUF012 - usage.Options reads it from the class
        [
            "config",
            "c",
            None,
            "The configuration file [default: $DATAMOVER_CONFIG, ./datamover.toml, /etc/datamover/datamover.toml]",
        ]
    ]

    config: Config

    def postOptions(self) -> None:  # noqa: N802
        """Read the configuration; one that cannot be used ends the start with one line."""
        try:
            self.config = config.load(config.find(self["config"]))
        except ConfigError as error:
            raise SystemExit(f"datamover: {error.message}") from None


def makeService(options: Options) -> IService:  # noqa: N802 - the name that twistd looks for
    """Return the whole service; a configuration that cannot be used ends the start with one line."""
    from twisted.internet import reactor

    try:
        return service_tree(options.config, reactor, _observer(options, reactor))
    except ConfigError as error:
        raise SystemExit(f"datamover: {error.message}") from None


def _observer(options: Options, reactor: Any) -> ILogObserver | None:
    """Return what is logged to; None: what twistd makes of its own options, or the other runner of its."""
    runner = options.parent
    if options.config.log.format == "text" or not isinstance(runner, ServerOptions):
        return None
    if runner["logger"] or runner["syslog"]:
        return None
    return json_observer(log_file(runner, reactor.callFromThread))


class Wiring:
    """What several services share; nothing of it connects, reads or listens before they start."""

    def __init__(self, settings: Config, reactor: Any) -> None:
        """Check the whole configuration; raises ConfigError."""
        self.settings = settings
        """As it was at the start: for what only a restart changes."""
        self.reactor = reactor
        self._given_up = False
        self.metrics = Metrics()
        self.working: Callable[[], bool] | None = None
        self.offload: Offload = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        self.houses = Houses(House.build(settings, reactor))
        own = settings.database.url is None
        self.server = EmbeddedPostgres(reactor, settings.service.data_directory) if own else None
        dsn = self.server.ensure if self.server else given(settings.database)
        self.database = Database(reactor, dsn, settings.database.connections)
        self.news = News(self.database)
        self.key = KeyFile(settings.service.key_path)
        self.store = JobStore(self.database, self.key, self.news, reactor, self.bounds, settings.service.lease)
        self.audit = Audit(AuditStore(self.database), reactor)
        self.reload = Reload(self.houses, reactor, partial(self.news.tell, news.WORK))

    def bounds(self) -> Bounds:
        return self.houses.now.bounds

    async def prepare(self, database: Database) -> None:
        """Bring the tables up to date, and make sure of the key; raises StartError and Unavailable."""
        await migrate(database)
        await identify(database, self.key)

    def give_up(self, sentence: str) -> None:
        """End the process, with exit status 1: what is wrong does not go away by waiting."""
        if self._given_up:
            return
        self._given_up = True
        log.critical("datamover cannot run: {sentence}", sentence=sentence)
        # The reactor and twistd have no word for failure: a supervisor would take this for a wanted end.
        atexit.register(os._exit, 1)
        self.reactor.callWhenRunning(self.reactor.stop)


def service_tree(settings: Config, reactor: Any, observer: ILogObserver | None = None) -> IService:
    """Return the services, in the order in which they start; they stop, one after the other, in the reverse.

    ``observer`` is what twistd logs to, unless it was told otherwise.
    """
    wiring = Wiring(settings, reactor)
    tree = Ordered(observer)
    for service in (
        Connections(wiring.houses),
        DatabaseService(wiring.database, wiring.prepare, wiring.news, wiring.server, wiring.give_up),
        LagProbe(reactor, time.monotonic, wiring.metrics.lagged),
        HangUp(reactor, wiring.reload, wiring.audit),
        *_engine(wiring),
        *_doors(wiring),
        *_console(wiring),
    ):
        service.setServiceParent(tree)
    return tree


def _engine(wiring: Wiring) -> Iterator[Service]:
    settings, reactor, houses = wiring.settings, wiring.reactor, wiring.houses
    if "engine" not in settings.service.roles:
        return
    node = str(uuid.uuid4())
    name = f"{socket.gethostname()}:{os.getpid()}"
    queue = Queue(
        wiring.database,
        wiring.key,
        node=node,
        name=name,
        roles=sorted(settings.service.roles),
        lease=settings.service.lease,
    )
    recorder = Recorder(queue, reactor, wiring.metrics)
    staging = Staging(settings.service.data_directory / "staging", node, reactor, wiring.offload)
    throttles = Throttles(reactor, lambda name: houses.now.registry.bandwidth(name))

    async def dispatcher() -> Dispatcher:
        installation = await identify(wiring.database, wiring.key)

        @contextmanager
        def rooms() -> Iterator[Rooms]:
            with houses.stay() as house:
                tools = Tools(reactor, wiring.offload, house.settings.transfers, installation)
                yield Rooms(tools, house.registry, queue, throttles.of, house.datasets.by_scheme)

        return Dispatcher(
            queue,
            Worker(rooms, recorder, staging, random.random, wiring.metrics),
            bounds=wiring.bounds,
            throttles=throttles,
            upkeep=Upkeep(
                wiring.database,
                lambda: houses.now.settings.jobs.retention,
                lambda: houses.now.settings.audit.retention,
            ),
            max_active=lambda: houses.now.settings.service.max_active,
            clock=reactor,
            monotonic=time.monotonic,
            heard=wiring.news,
            observer=wiring.metrics,
        )

    engine = EngineService(
        opened=wiring.database.opened,
        staging=staging,
        recorder=recorder,
        dispatcher=dispatcher,
        give_up=wiring.give_up,
    )
    wiring.working = lambda: engine.working
    yield engine
    yield _notices(wiring)


def _notices(wiring: Wiring) -> Service:
    @contextmanager
    def means() -> Iterator[Means]:
        with wiring.houses.stay() as house:
            yield Means(house.notice_http, house.notice_secrets, house.settings.transfers)

    notifier = Notifier(
        Notices(wiring.database, wiring.key),
        means,
        clock=wiring.reactor,
        wall=time.time,
        random=random.random,
        heard=wiring.news,
    )
    return NoticeService(notifier, wiring.database.opened)


def _doors(wiring: Wiring) -> Iterator[Service]:
    settings = wiring.settings
    listeners = settings.service.listen if "api" in settings.service.roles else ()
    if listeners and not settings.clients:
        log.warn("there are no [clients]: every user of this machine is an administrator of this service")
    site = partial(
        make_site,
        houses=wiring.houses,
        store=wiring.store,
        reload=wiring.reload,
        audit=wiring.audit,
        reactor=wiring.reactor,
        pages=_pages(wiring),
        calls=wiring.metrics,
    )
    for served, interface in ((listeners, True), (filter(None, [settings.monitor.listen]), False)):
        factory = site(interface=interface)
        for listener in served:
            yield StreamServerEndpointService(serverFromString(wiring.reactor, listener), factory)


def _pages(wiring: Wiring) -> dict[str, Page]:
    houses = wiring.houses
    watching = watch(
        wiring.metrics,
        wiring.database,
        lambda: houses.now.registry.names(),
        wiring.settings,
        wiring.reactor,
        wiring.working,
    )
    return {
        "metrics": Page(watching.metrics, open=lambda: houses.now.settings.monitor.public),
        "health/live": Page(watching.live, open=lambda: True),
        "health/ready": Page(watching.ready, open=lambda: True),
    }


def _console(wiring: Wiring) -> Iterator[Service]:
    console, houses = wiring.settings.console, wiring.houses

    def described() -> list[dict[str, Any]]:
        registry = houses.now.registry
        return [registry.describe(name) for name in registry.names()]

    desk = Desk(houses, Names(wiring.store, described), wiring.store, wiring.audit, wiring.reload)

    def access() -> Access:
        now = houses.now.settings.console
        return Access(now.username, now.authorized_keys_file, password=now.password_hash is not None)

    def key() -> Any:
        try:
            return host_key(wiring.settings.service.data_directory / HOST_KEY)
        except StartError as error:
            wiring.give_up(error.message)
            raise

    for listener, factory in (
        (console.telnet, TelnetFactory(desk)),
        (console.ssh, SshFactory(desk, key, access, wiring.reactor)),
    ):
        if listener is not None:
            yield StreamServerEndpointService(serverFromString(wiring.reactor, listener), factory)
