"""``twistd datamover``: the options, and the service tree, to be read from top to bottom.

The one place where the reactor is named; everything below is handed it.
"""

import atexit
import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

from twisted.application.app import ServerOptions
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService, Service
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger, globalLogPublisher
from twisted.python import usage

from datamover import config
from datamover.api import make_site
from datamover.api.pages import Page
from datamover.clock import steady
from datamover.config import Client, Config
from datamover.console import Names, telnet_factory
from datamover.datasets.configured import Datasets
from datamover.engine.attempt import Rooms
from datamover.engine.digest import Offload
from datamover.engine.dispatcher import Dispatcher
from datamover.engine.notifier import Notifier
from datamover.engine.order import Tools
from datamover.engine.recorder import Recorder
from datamover.engine.service import EngineService, NoticeService
from datamover.engine.share import ALONE, Share
from datamover.engine.staging import Staging
from datamover.engine.throttle import Throttles
from datamover.engine.worker import Worker
from datamover.errors import ConfigError
from datamover.jobs.backup import adopt
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
from datamover.listener import Listener
from datamover.logins import Logins
from datamover.monitor.logs import event, json_observer, log_file
from datamover.monitor.metrics import Metrics
from datamover.monitor.processes import ProcessFigures
from datamover.monitor.service import LagProbe
from datamover.monitor.supervisor import Manager, Supervised
from datamover.monitor.watch import Watch, watch
from datamover.processes.counts import Counts
from datamover.processes.parent import Parent
from datamover.processes.service import EngineProcesses
from datamover.processes.words import Brief, Word
from datamover.protocols.http import HttpClient
from datamover.registry.destinations import Registry
from datamover.registry.notice_secrets import NoticeSecrets
from datamover.registry.source_credentials import SourceCredentials
from datamover.registry.sources import SourcePolicy
from datamover.services import Connections, Ordered

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

    steady(reactor)
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


class House:
    """What several services share; nothing of it connects, reads or listens before they start."""

    def __init__(self, settings: Config, reactor: Any, parent: Parent | None = None) -> None:
        """Check the whole configuration; raises ConfigError. ``parent``: this is an engine process of another."""
        file = self.file = str(settings.path or "the built-in configuration")
        self.settings = settings
        self.reactor = reactor
        self._given_up = False
        self.parent = parent
        self.metrics = Metrics()
        self.counts: Counts = self.metrics if parent is None else parent
        self.working: Callable[[], bool] | None = None
        self.offload: Offload = partial(deferToThreadPool, reactor, reactor.getThreadPool())
        self.policy = SourcePolicy.from_config(settings.sources, file=file)
        self.credentials = SourceCredentials.from_config(settings.sources, file=file)
        self.http = HttpClient(reactor, settings.http, settings.transfers, self.policy, self.credentials, file=file)
        self.registry = Registry.from_config(settings, reactor, self.http)
        self.bounds = Bounds(
            destinations={name: self.registry.get(name).max_active for name in self.registry.names()},
            total=settings.limits.max_active,
            per_owner=settings.limits.per_owner,
            per_source_host=settings.limits.per_source_host,
            queued=settings.limits.queued,
        )
        self.datasets = Datasets(settings, reactor, self.policy, self.credentials, file=file)
        own = settings.database.url is None
        self.server = EmbeddedPostgres(reactor, settings.service.data_directory) if own else None
        dsn = self.server.ensure if self.server else given(settings.database)
        self.database = Database(reactor, dsn, settings.database.connections)
        self.news = News(self.database)
        self.key = KeyFile(settings.service.key_path)
        self.store = JobStore(self.database, self.key, self.news, reactor, self.bounds, settings.service.lease)

    @cached_property
    def watching(self) -> Watch:
        """What answers for this process, once it is known whether it has an engine."""
        return watch(self.metrics, self.database, self.registry.names, self.settings, self.reactor, self.working)

    async def prepare(self, database: Database) -> None:
        """Bring the tables up to date, and make sure of the key; raises StartError and Unavailable."""
        await migrate(database)
        await adopt(database)
        await identify(database, self.key)

    def give_up(self, sentence: str) -> None:
        """End the process, with exit status 1: what is wrong does not go away by waiting."""
        if self._given_up:
            return
        self._given_up = True
        if self.parent is None:
            log.critical("datamover cannot run: {sentence}", sentence=sentence)
        else:
            self.parent.say(Word(False, given_up=sentence))
        # The reactor and twistd have no word for failure: a supervisor would take this for a wanted end.
        atexit.register(os._exit, 1)
        self.reactor.callWhenRunning(self.reactor.stop)


def service_tree(settings: Config, reactor: Any, observer: ILogObserver | None = None) -> IService:
    """Return the services, in the order in which they start; they stop, one after the other, in the reverse.

    ``observer`` is what twistd logs to, unless it was told otherwise.
    """
    house = House(settings, reactor)
    return _tree(house, Ordered(observer), *_engines(house), *_doors(house), *_console(house), *_supervised(house))


def run_engine_process(brief: Brief, pipe: int, write: Callable[[str], object]) -> None:
    """Run an engine for the process that briefed us, until ``pipe`` or a signal ends it; raises ConfigError."""
    from twisted.internet import reactor

    parent = Parent(reactor, pipe, write)
    house = House(brief.settings, reactor, parent)
    tree = Ordered()
    parent.setServiceParent(tree)
    _tree(house, tree, *_engine(house, brief.node, {"engine"}, brief.share))
    parent.working = house.working or parent.working
    reactor.addSystemEventTrigger("before", "shutdown", tree.stopService)
    reactor.callWhenRunning(tree.startService)
    reactor.run()


def _tree(house: House, tree: Ordered, *services: Service) -> IService:
    for service in (
        Connections(house.registry, house.datasets),
        DatabaseService(house.database, house.prepare, house.news, house.server, house.give_up),
        LagProbe(house.reactor, time.monotonic, house.counts.lagged),
        *services,
    ):
        service.setServiceParent(tree)
    return tree


def _queue(house: House, node: str, roles: Iterable[str]) -> Queue:
    name = f"{socket.gethostname()}:{os.getpid()}"
    lease = house.settings.service.lease
    return Queue(house.database, house.key, node=node, name=name, roles=sorted(roles), lease=lease)


def _engines(house: House) -> Iterator[Service]:
    service = house.settings.service
    if "engine" not in service.roles:
        return
    if service.engine_processes == 1:
        yield from _engine(house, str(uuid.uuid4()), service.roles, ALONE)
        return
    processes = EngineProcesses(
        house.reactor,
        house.settings,
        opened=house.database.opened,
        bury=lambda node: _queue(house, node, ()).bury(),
        counts=house.metrics,
        ended=house.metrics.process_ended,
        logged=lambda process, told: globalLogPublisher(event(told, process)),
        give_up=house.give_up,
    )
    house.working = lambda: processes.working
    house.metrics.registry.register(ProcessFigures(lambda: processes.pids))
    yield processes


def _engine(house: House, node: str, roles: Iterable[str], share: Share) -> Iterator[Service]:
    settings, reactor = house.settings, house.reactor
    queue = _queue(house, node, roles)
    recorder = Recorder(queue, reactor, house.counts)
    staging = Staging(settings.service.data_directory / "staging", node, reactor, house.offload)

    throttles = Throttles(reactor, {name: house.registry.get(name).bandwidth for name in house.registry.names()})

    async def dispatcher() -> Dispatcher:
        tools = Tools(reactor, house.offload, settings.transfers, await identify(house.database, house.key))
        rooms = Rooms(tools, house.registry, queue, throttles.of, house.datasets.by_scheme)
        return Dispatcher(
            queue,
            Worker(rooms, recorder, staging, random.random, house.counts),
            bounds=house.bounds,
            throttles=throttles,
            upkeep=Upkeep(house.database, settings.jobs.retention),
            max_active=settings.service.max_active,
            clock=reactor,
            monotonic=time.monotonic,
            heard=house.news,
            observer=house.counts,
            share=share,
        )

    engine = EngineService(
        opened=house.database.opened,
        staging=staging,
        recorder=recorder,
        dispatcher=dispatcher,
        give_up=house.give_up,
    )
    house.working = lambda: engine.working
    yield engine
    yield _notices(house)


def _notices(house: House) -> Service:
    # A client of its own: no login for a source is to go with what is sent to where clients say.
    http = HttpClient(
        house.reactor, house.settings.http, house.settings.transfers, house.policy, SourceCredentials(), file=house.file
    )
    notifier = Notifier(
        Notices(house.database, house.key),
        http,
        NoticeSecrets.from_config(house.settings),
        house.settings.transfers,
        clock=house.reactor,
        wall=time.time,
        random=random.random,
        heard=house.news,
    )
    return NoticeService(notifier, house.database.opened, http.close)


def _doors(house: House) -> Iterator[Service]:
    settings = house.settings
    listeners = settings.service.listen if "api" in settings.service.roles else ()
    if listeners and not settings.clients:
        log.warn("there are no [clients]: every user of this machine is an administrator of this service")
    site = partial(
        make_site,
        config=settings,
        registry=house.registry,
        store=house.store,
        policy=house.policy,
        credentials=house.credentials,
        http=house.http,
        logins=Logins(settings.clients, house.reactor),
        reactor=house.reactor,
        datasets=house.datasets.by_scheme,
        pages=_pages(house),
        calls=house.metrics,
    )
    for served, interface in ((listeners, True), (filter(None, [settings.monitor.listen]), False)):
        factory = site(interface=interface)
        for listener in served:
            yield StreamServerEndpointService(Listener(house.reactor, listener, house.give_up), factory)


def _pages(house: House) -> dict[str, Page]:
    return {
        "metrics": Page(house.watching.metrics, open=house.settings.monitor.public),
        "health/live": Page(house.watching.live, open=True),
        "health/ready": Page(house.watching.ready, open=True),
    }


def _console(house: House) -> Iterator[Service]:
    console = house.settings.console
    if console.telnet is None:
        return
    registry = house.registry
    names = Names(house.store, lambda: [registry.describe(name) for name in registry.names()])
    operator = {console.username: Client(password_hash=console.password_hash or "", admin=True)}
    logins = Logins(operator, house.reactor)

    async def check(username: str, password: str) -> bool:
        return await logins.check(username, password, "console") is not None

    factory = telnet_factory(check, names.namespace())
    yield StreamServerEndpointService(Listener(house.reactor, console.telnet, house.give_up), factory)


def _supervised(house: House) -> Iterator[Service]:
    manager = Manager(os.environ)
    if manager.there:
        yield Supervised(manager, house.watching.ready, house.reactor)
