"""``twistd datamover``: the options, and the service tree from top to bottom.

Only this module and ``admin`` import the reactor; everything else is given it.
"""

import os
import random
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from twisted.application.app import ServerOptions
from twisted.application.service import IService, Service
from twisted.logger import Logger, globalLogPublisher

from datamover.api import make_site
from datamover.api.http.pages import WebPage
from datamover.api.http.tls import ServerTLS, over_tls
from datamover.app.announcing import Announcing
from datamover.app.availability import Availability
from datamover.app.clock import use_monotonic_clock
from datamover.app.components import Components
from datamover.app.database_service import DatabaseService
from datamover.app.listener import Listener
from datamover.app.memory import tune_memory
from datamover.app.options import Options as Options
from datamover.app.options import observer
from datamover.app.options import read_config as read_config
from datamover.app.preflight import Preflight
from datamover.app.services import ConnectionCloser, NameResolution, Ordered, ReloadSignal, StopSignals
from datamover.app.starting import Starting
from datamover.app.terminal import Terminal
from datamover.concurrency.host_names import HostNames
from datamover.config.layout import Layout
from datamover.config.schema import Config
from datamover.engine.attempt import AttemptContext
from datamover.engine.dependencies import EngineDependencies
from datamover.engine.dispatcher import Dispatcher
from datamover.engine.groups.staging import Staging
from datamover.engine.recorder import Recorder
from datamover.engine.room.reservation import Rooms
from datamover.engine.room.survey import Surveys
from datamover.engine.room.volumes import Volumes
from datamover.engine.room.watch import RoomSettings, RoomWatch
from datamover.engine.service import EngineService, NoticeService
from datamover.engine.share import ALONE, ProcessShare
from datamover.engine.throttle import Throttles
from datamover.engine.transfer.spec import TransferTools
from datamover.engine.worker import Worker
from datamover.jobs.installation import identify
from datamover.jobs.listing import Newest
from datamover.jobs.queue.cleanup import OrphanCleanup
from datamover.jobs.queue.queue import Queue
from datamover.jobs.queue.reservations import Reservations
from datamover.jobs.upkeep.upkeep import Upkeep
from datamover.monitor.log_level import Level
from datamover.monitor.logs import event
from datamover.monitor.processes import ProcessFigures
from datamover.monitor.service import LagProbe
from datamover.monitor.supervisor import ServiceManager, Supervised
from datamover.notices.notifier import NoticeContext, Notifier
from datamover.notices.queue import Notices
from datamover.processes.messages import ChildConfig
from datamover.processes.parent import WITHIN as CHILD_WITHIN
from datamover.processes.parent import ParentLink
from datamover.processes.service import EngineProcesses
from datamover.runtime.snapshot import Runtime
from datamover.security.accounts import CURRENT, Account

log = Logger()


def makeService(options: Options) -> IService:  # noqa: N802 - the name that twistd looks for
    """Return the whole service; its parts are made from ``options`` when it starts."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    tune_memory()
    level = Level()
    runner = options.parent if isinstance(options.parent, ServerOptions) else {}
    return Starting(
        lambda account: service_tree(options.config, reactor, account, level),
        Terminal.of(runner),
        runner,
        observer(options, reactor, level),
    )


def service_tree(settings: Config, reactor: Any, account: Account = CURRENT, level: Level | None = None) -> IService:
    """Return the services in the order in which they start; they stop one by one in the reverse order.

    ``account`` is what the process will run as, ``level`` the lowest level that its log has. Raises ConfigError.
    """
    components = Components(settings, reactor)
    return _tree(
        components,
        Ordered(reactor),
        StopSignals(reactor),
        ReloadSignal(reactor, components.reload, components.audit),
        *_engines(components),
        *_listeners(components, account),
        *_console(components, account, level or Level()),
        *_supervised(components),
        Announcing(settings, components.database.opened),
        first=[Preflight(settings, account, components.address, components.key)],
    )


def run_engine_process(config: ChildConfig, pipe: int, write: Callable[[str], object]) -> None:
    """Run an engine as a child process, until ``pipe`` ends or a signal comes; raises ConfigError."""
    from twisted.internet import reactor

    tune_memory()
    parent = ParentLink(reactor, pipe, write)
    components = Components(config.settings, reactor, parent)
    tree = Ordered(reactor, seconds=CHILD_WITHIN)
    parent.setServiceParent(tree)
    _tree(components, tree, *_engine(components, config.node, {"engine"}, config.share))
    parent.working = components.working or parent.working
    reactor.addSystemEventTrigger("before", "shutdown", tree.stopService)
    reactor.callWhenRunning(tree.startService)
    reactor.run()


def _tree(components: Components, tree: Ordered, *services: Service, first: Iterable[Service] = ()) -> IService:
    for service in (
        *first,
        NameResolution(components.reactor, HostNames(components.reactor)),
        ConnectionCloser(components.runtimes),
        DatabaseService(
            components.database, components.prepare, components.notifications, components.server, components.give_up
        ),
        LagProbe(components.reactor, time.monotonic, components.counts.lagged, components.loops),
        *services,
    ):
        service.setServiceParent(tree)
    return tree


def _queue(components: Components, node: str, roles: Iterable[str]) -> Queue:
    name = f"{socket.gethostname()}:{os.getpid()}"
    lease, refused = components.settings.service.lease, components.loops.refused
    return Queue(
        components.database, components.key, node=node, name=name, roles=sorted(roles), lease=lease, refused=refused
    )


def _engines(components: Components) -> Iterator[Service]:
    service = components.settings.service
    if "engine" not in service.roles:
        return
    if service.engine_processes == 1:
        yield from _engine(components, str(uuid.uuid4()), service.roles, ALONE)
        return
    processes = EngineProcesses(
        components.reactor,
        lambda: components.runtimes.now.settings,
        opened=components.database.opened,
        release_node=lambda node: _queue(components, node, ()).release_dead_node(),
        counts=components.metrics,
        ended=components.metrics.process_ended,
        logged=lambda process, told: globalLogPublisher(event(told, process)),
        give_up=components.give_up,
        loops=components.loops,
    )
    components.working = lambda: processes.working
    components.troubles = lambda: (*components.loops.troubles, *processes.troubles)
    components.renew = processes.renew
    components.metrics.registry.register(ProcessFigures(lambda: processes.pids))
    yield processes


def _engine(components: Components, node: str, roles: Iterable[str], share: ProcessShare) -> Iterator[Service]:
    settings, reactor, runtimes = components.settings, components.reactor, components.runtimes
    queue = _queue(components, node, roles)
    recorder = Recorder(queue, reactor, components.counts, components.loops)
    staging = Staging(Layout(settings.service.data_directory).staging, node, reactor, components.pools.staging)
    throttles = Throttles(reactor, lambda name: runtimes.now.registry.bandwidth(name))
    reservations = Reservations(components.database, node)
    rooms = Rooms(
        Surveys(reservations.survey, Volumes(lambda: runtimes.now.registry, reactor), time.monotonic), reservations
    )

    def room_settings() -> RoomSettings:
        now = runtimes.now
        return RoomSettings(now.registry, now.settings.limits.room_interval)

    async def dispatcher() -> Dispatcher:
        installation = await identify(components.database, components.key)

        def attempt_context(runtime: Runtime) -> AttemptContext:
            tools = TransferTools(reactor, components.pools, runtime.settings.transfers, installation)
            return AttemptContext(tools, runtime.registry, queue, throttles.of, rooms, runtime.datasets.by_scheme)

        dependencies = EngineDependencies(
            queue=queue,
            work=Worker(runtimes.acquiring(attempt_context), recorder, staging, random.random, components.counts),
            limits=components.limits,
            throttles=throttles,
            upkeep=Upkeep(
                components.database,
                lambda: runtimes.now.settings.jobs.retention,
                lambda: runtimes.now.settings.audit.retention,
                refused=components.loops.refused,
            ),
            cleanup=OrphanCleanup(components.database, components.key, refused=components.loops.refused),
            room=RoomWatch(rooms, room_settings),
            clock=reactor,
            monotonic=time.monotonic,
            loops=components.loops,
            observer=components.counts,
        )
        return Dispatcher(
            dependencies,
            max_active=lambda: runtimes.now.settings.service.max_active,
            notifications=components.notifications,
            share=share,
        )

    engine = EngineService(
        opened=components.database.opened,
        staging=staging,
        recorder=recorder,
        dispatcher=dispatcher,
        give_up=components.give_up,
        loops=components.loops,
    )
    components.working = lambda: engine.working
    yield engine
    yield _notices(components)


def _notices(components: Components) -> Service:
    def context(runtime: Runtime) -> NoticeContext:
        return NoticeContext(runtime.notice_http, runtime.notice_secrets, runtime.settings.transfers)

    notifier = Notifier(
        Notices(components.database, components.key, refused=components.loops.refused),
        components.runtimes.acquiring(context),
        clock=components.reactor,
        wall=time.time,
        random=random.random,
        notifications=components.notifications,
        loops=components.loops,
    )
    return NoticeService(notifier, components.database.opened, components.loops)


def _listeners(components: Components, account: Account) -> Iterator[Service]:
    settings = components.settings
    listeners = settings.service.listen if "api" in settings.service.roles else ()
    if listeners and not settings.clients:
        log.warn("there are no [clients]: every user of this machine is an administrator of this service")
    site = partial(
        make_site,
        runtimes=components.runtimes,
        store=components.store,
        reload=components.reload,
        audit=components.audit,
        reactor=components.reactor,
        pages=_pages(components),
        calls=components.metrics,
        database_back=Availability(
            components.database, components.reactor, embedded=components.server is not None
        ).back,
    )
    file = str(settings.path or "the built-in configuration")
    tls = ServerTLS(settings.tls, components.reactor.seconds, file=file) if settings.tls.certificate_file else None
    for served, interface in ((listeners, True), (filter(None, [settings.monitor.listen]), False)):
        factory = site(interface=interface)
        for listener in served:
            spoken = over_tls(tls, factory, components.reactor) if tls and settings.tls.covers(listener) else factory
            yield Listener(components.reactor, listener, spoken, account)


def _pages(components: Components) -> dict[str, WebPage]:
    runtimes, watching = components.runtimes, components.watching
    return {
        "metrics": WebPage(watching.metrics, open=lambda: runtimes.now.settings.monitor.public),
        "health/live": WebPage(watching.live, open=lambda: True),
        "health/ready": WebPage(watching.ready, open=lambda: True),
    }


def _console(components: Components, account: Account, level: Level) -> Iterator[Service]:
    console, runtimes = components.settings.console, components.runtimes
    if console.telnet is None and console.ssh is None:
        return
    from datamover.console import (
        ConsoleAccess,
        ConsoleBackend,
        ConsoleConnections,
        ConsoleLimits,
        ConsoleServices,
        Histories,
        SshFactory,
        TelnetFactory,
        host_key,
    )

    async def ready() -> str:
        status, _, body = await components.watching.ready()
        return "ready" if status == 200 else "not ready: " + ", ".join(body.decode().splitlines())

    services = ConsoleServices(
        components.store,
        Newest(components.database),
        runtimes,
        components.audit,
        components.reload,
        ready,
        level,
        components.reactor,
    )
    layout = Layout(components.settings.service.data_directory)
    backend = ConsoleBackend(services, Histories(layout.console_history))

    def access() -> ConsoleAccess:
        now = runtimes.now.settings.console
        return ConsoleAccess(now.username, now.authorized_keys_file, password=now.password_hash is not None)

    def key() -> Any:
        return host_key(layout.console_host_key)

    def bounds() -> ConsoleLimits:
        limits = runtimes.now.settings.limits
        return ConsoleLimits(limits.console_connections, limits.login_seconds)

    connections = ConsoleConnections(components.reactor, bounds)
    for listener, factory in (
        (console.telnet, TelnetFactory(backend, connections)),
        (console.ssh, SshFactory(backend, key, access, connections, components.reactor)),
    ):
        if listener is not None:
            yield Listener(components.reactor, listener, factory, account)


def _supervised(components: Components) -> Iterator[Service]:
    manager = ServiceManager(os.environ)
    if manager.there:
        yield Supervised(manager, components.watching.ready, components.reactor, components.loops)
