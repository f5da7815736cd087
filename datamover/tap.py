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
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from twisted.application.app import ServerOptions
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.threads import deferToThreadPool
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from datamover import config
from datamover.api import make_site
from datamover.api.pages import Page
from datamover.api.tls import ServerTLS, over_tls
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
from datamover.engine.staging import Staging
from datamover.engine.throttle import Throttles
from datamover.engine.worker import Worker
from datamover.errors import ConfigError
from datamover.jobs.database import Database, given
from datamover.jobs.embedded import EmbeddedPostgres
from datamover.jobs.installation import identify
from datamover.jobs.migrate import migrate
from datamover.jobs.news import News
from datamover.jobs.notices import Notices
from datamover.jobs.queue import Queue
from datamover.jobs.secrets import Cipher
from datamover.jobs.service import DatabaseService
from datamover.jobs.store import JobStore
from datamover.jobs.upkeep import Upkeep
from datamover.jobs.waiting import Bounds
from datamover.logins import Logins
from datamover.monitor.logs import json_observer, log_file
from datamover.monitor.metrics import Metrics
from datamover.monitor.service import LagProbe
from datamover.monitor.watch import watch
from datamover.protocols.http import HttpClient
from datamover.registry.destinations import Registry
from datamover.registry.notice_secrets import NoticeSecrets
from datamover.registry.source_credentials import SourceCredentials
from datamover.registry.sources import SourcePolicy

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


class House:
    """What several services share; nothing of it connects, reads or listens before they start."""

    def __init__(self, settings: Config, reactor: Any) -> None:
        """Check the whole configuration; raises ConfigError."""
        file = self.file = str(settings.path or "the built-in configuration")
        self.settings = settings
        self.reactor = reactor
        self._given_up = False
        self.metrics = Metrics()
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
    house = House(settings, reactor)
    tree = Ordered(observer)
    for service in (
        Connections(house.registry, house.datasets),
        DatabaseService(house.database, house.prepare, house.news, house.server, house.give_up),
        LagProbe(reactor, time.monotonic, house.metrics.lagged),
        *_engine(house),
        *_doors(house),
        *_console(house),
    ):
        service.setServiceParent(tree)
    return tree


def _engine(house: House) -> Iterator[Service]:
    settings, reactor = house.settings, house.reactor
    if "engine" not in settings.service.roles:
        return
    node = str(uuid.uuid4())
    name = f"{socket.gethostname()}:{os.getpid()}"
    queue = Queue(
        house.database,
        house.key,
        node=node,
        name=name,
        roles=sorted(settings.service.roles),
        lease=settings.service.lease,
    )
    recorder = Recorder(queue, reactor, house.metrics)
    staging = Staging(settings.service.data_directory / "staging", node, reactor, house.offload)

    throttles = Throttles(reactor, {name: house.registry.get(name).bandwidth for name in house.registry.names()})

    async def dispatcher() -> Dispatcher:
        tools = Tools(reactor, house.offload, settings.transfers, await identify(house.database, house.key))
        rooms = Rooms(tools, house.registry, queue, throttles.of, house.datasets.by_scheme)
        return Dispatcher(
            queue,
            Worker(rooms, recorder, staging, random.random, house.metrics),
            bounds=house.bounds,
            throttles=throttles,
            upkeep=Upkeep(house.database, settings.jobs.retention),
            max_active=settings.service.max_active,
            clock=reactor,
            monotonic=time.monotonic,
            heard=house.news,
            observer=house.metrics,
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
    tls = ServerTLS(settings.tls, house.reactor.seconds, file=house.file) if settings.tls.certificate_file else None
    for served, interface in ((listeners, True), (filter(None, [settings.monitor.listen]), False)):
        factory = site(interface=interface)
        for listener in served:
            endpoint = serverFromString(house.reactor, listener)
            spoken = over_tls(tls, factory, house.reactor) if tls and settings.tls.covers(listener) else factory
            yield StreamServerEndpointService(endpoint, spoken)


def _pages(house: House) -> dict[str, Page]:
    watching = watch(house.metrics, house.database, house.registry.names, house.settings, house.reactor, house.working)
    return {
        "metrics": Page(watching.metrics, open=house.settings.monitor.public),
        "health/live": Page(watching.live, open=True),
        "health/ready": Page(watching.ready, open=True),
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
    yield StreamServerEndpointService(serverFromString(house.reactor, console.telnet), factory)


class Ordered(MultiService):
    """Services that need those before them: stopped one after the other, the last first."""

    def __init__(self, observer: ILogObserver | None = None) -> None:
        super().__init__()
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:  # noqa: N802
        if self._observer is not None and isinstance(parent, Componentized):
            # The application: twistd looks there for what it is to log to.
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)


class Connections(Service):
    """The connections to sources and destinations, closed when nobody uses them any more."""

    def __init__(self, registry: Registry, datasets: Datasets) -> None:
        self._registry = registry
        self._datasets = datasets

    def stopService(self) -> "Deferred[None]":  # noqa: N802
        super().stopService()
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._datasets.close()
        await self._registry.close()


class KeyFile:
    """The key that rows are sealed with, read (or made) when it is first needed: by then as the service's own user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _cipher(self) -> Cipher:
        cipher: Cipher = Cipher.from_file(self._path)
        return cipher

    def seal(self, text: str) -> bytes:
        return self._cipher.seal(text)

    def open(self, sealed: bytes) -> str:
        return self._cipher.open(sealed)
