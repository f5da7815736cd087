"""The runtime: a configuration and all that is built from it; and which runtime is in force.

A ``Runtime`` never changes: a reload builds another and swaps it in. Calls and attempts keep the runtime that they
acquired, with its rules and connections, to their end; the connections that no runtime in use has are closed then.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from datamover.concurrency.locks import Locks
from datamover.config.schema import Client, Config
from datamover.datasets.configured import SECRET_KEYS, ConfiguredDatasets
from datamover.errors import Problems
from datamover.jobs.queue.limits import QueueLimits, Quota
from datamover.notices.secrets import NoticeSecrets
from datamover.protocols import secret_keys
from datamover.protocols.http import HttpClient
from datamover.registry.apart import check_apart
from datamover.registry.destinations import Registry
from datamover.requests.datasets import KINDS
from datamover.security.passwords import Logins, is_hash
from datamover.security.secret_files import check_all
from datamover.web.credentials import SourceCredentials
from datamover.web.policy import Prefix, SourcePolicy, prefixes

log = Logger()

T = TypeVar("T")


class Closable(Protocol):
    """Something with connections."""

    async def close(self) -> None: ...


class Checks(Protocol):
    """Checks logins: returns the name, None for a wrong login; raises Unavailable where it cannot tell now."""

    async def check(self, username: str, password: str, address: str) -> str | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Runtime:
    """A configuration and what is built from it; connections are made when they are first used."""

    settings: Config
    policy: SourcePolicy
    credentials: SourceCredentials
    http: HttpClient
    registry: Registry
    datasets: ConfiguredDatasets
    notice_http: HttpClient
    """Sends notices, without the logins for sources: clients choose where notices go."""
    notice_secrets: NoticeSecrets
    logins: Checks
    operators: Checks
    """Who may log in at the console."""
    limits: QueueLimits
    looks: Locks
    """Limit the checks of sources that run while a client waits."""

    @classmethod
    def build(cls, settings: Config, reactor: Any, before: "Runtime | None" = None) -> "Runtime":
        """Build the runtime of a configuration; raises ConfigError.

        What did not change since the runtime ``before`` is shared with it: connections, and logins that are verified.
        """
        file = str(settings.path or "the built-in configuration")
        check_secrets(settings)
        check_hashes(settings)
        policy = SourcePolicy.from_config(settings.sources, file=file)
        credentials = SourceCredentials.from_config(settings.sources, file=file)
        client = partial(HttpClient, reactor, settings.http, settings.transfers, policy, narrowed=narrowed(settings))
        http = client(credentials, file=file)
        registry = Registry.from_config(settings, reactor, http, before=before.registry if before else None)
        check_apart(registry.directories, settings, file)
        return cls(
            settings=settings,
            policy=policy,
            credentials=credentials,
            http=http,
            registry=registry,
            datasets=ConfiguredDatasets(settings, reactor, policy, credentials, file=file),
            notice_http=client(SourceCredentials(), file=file),
            notice_secrets=NoticeSecrets.from_config(settings),
            logins=_logins(settings.clients, settings, reactor, before.logins if before else None),
            operators=_logins(_operators(settings), settings, reactor, before.operators if before else None),
            limits=_limits(settings),
            looks=before.looks if before else Locks(),
        )

    @property
    def parts(self) -> Sequence[Closable]:
        """What has connections."""
        return (*self.registry.pools, self.http, self.datasets, self.notice_http)


def narrowed(settings: Config) -> dict[str, tuple[Prefix, ...]]:
    """Return the source rules of each client that has its own."""
    file = str(settings.path or "the built-in configuration")
    return {
        name: prefixes((rule for rule in client.sources if rule not in KINDS), f"{file}: clients.{name}.sources")
        for name, client in settings.clients.items()
        if client.sources is not None
    }


def check_secrets(settings: Config) -> None:
    """Raise ConfigError for the secret files that others may read."""
    check_all(settings, str(settings.path or "the built-in configuration"), secret_keys() | SECRET_KEYS)


def check_hashes(settings: Config) -> None:
    """Raise ConfigError for the password hashes that are none."""
    file = str(settings.path or "the built-in configuration")
    tables = {f"clients.{name}": client.password_hash for name, client in settings.clients.items()}
    problems = Problems()
    for key, given in {**tables, "console": settings.console.password_hash}.items():
        if given is not None and not is_hash(given):
            problems.found.append(f"{file}: {key}.password_hash: expected what `datamover-admin hash-password` prints")
    problems.check()


def _logins(clients: Mapping[str, Client], settings: Config, reactor: Any, before: Checks | None) -> Logins:
    known = before if isinstance(before, Logins) else None
    return Logins(clients, reactor, before=known, patience=settings.limits.login_seconds)


def _operators(settings: Config) -> dict[str, Client]:
    console = settings.console
    if console.password_hash is None:
        return {}
    return {console.username: Client(password_hash=console.password_hash, admin=True)}


def _limits(settings: Config) -> QueueLimits:
    return QueueLimits(
        destinations={name: table.max_active for name, table in settings.destinations.items()},
        total=settings.limits.max_active,
        here=settings.service.max_active // settings.service.engine_processes,
        per_owner=settings.limits.per_owner,
        per_source_host=settings.limits.per_source_host,
        queued=settings.limits.queued,
        owners={
            name: Quota(client.queued, client.max_active, client.bytes_per_day)
            for name, client in settings.clients.items()
        },
        shared=len(settings.clients) > 1,
    )


class RuntimeHolder:
    """The runtime in force, and the earlier ones that are still in use."""

    def __init__(self, first: Runtime) -> None:
        self._now = first
        self._users: Counter[Runtime] = Counter()
        self._closing: set[Deferred[None]] = set()

    @property
    def now(self) -> Runtime:
        return self._now

    def acquire(self) -> AbstractContextManager[Runtime]:
        """Return a context manager of the runtime in force, which keeps its connections until the block ends."""
        return _Use(self._now, self._now, self._users, self._unused)

    def acquiring(self, make: Callable[[Runtime], T]) -> Callable[[], AbstractContextManager[T]]:
        """Return a function like ``acquire``, whose blocks get ``make(runtime)``, made once for each runtime."""
        give = self.derived(make)
        return lambda: _Use(give(), self._now, self._users, self._unused)

    def _unused(self, runtime: Runtime) -> None:
        del self._users[runtime]
        if runtime is not self._now:
            self._shut(runtime)

    def swap(self, runtime: Runtime) -> None:
        """Put another runtime in force; the old one is closed when the last of its users has ended."""
        old, self._now = self._now, runtime
        if old not in self._users:
            self._shut(old)

    def derived(self, make: Callable[[Runtime], T]) -> Callable[[], T]:
        """Return a function that returns ``make(runtime)`` of the runtime in force, made once for each runtime."""
        kept: list[tuple[Runtime, T]] = []

        def give() -> T:
            if not kept or kept[0][0] is not self._now:
                kept[:] = [(self._now, make(self._now))]
            return kept[0][1]

        return give

    async def close(self) -> None:
        """Close every connection; completes when they are gone."""
        for runtime in {self._now, *self._users}:
            self._close(runtime.parts)
        await DeferredList(list(self._closing))

    def _shut(self, runtime: Runtime) -> None:
        """Close what no runtime in use shares."""
        used = {id(part) for other in (self._now, *self._users) for part in other.parts}
        self._close([part for part in runtime.parts if id(part) not in used])

    def _close(self, parts: Sequence[Closable]) -> None:
        for part in parts:
            closing = Deferred.fromCoroutine(part.close())
            self._closing.add(closing)
            closing.addErrback(_not_closed)
            closing.addCallback(partial(self._closed, closing))

    def _closed(self, closing: "Deferred[None]", _: object) -> None:
        self._closing.discard(closing)


class _Use(Generic[T]):
    """A block that gets ``value``, and is one of the ``users`` of a runtime until it ends."""

    __slots__ = ("_runtime", "_unused", "_users", "_value")

    def __init__(self, value: T, runtime: Runtime, users: Counter[Runtime], unused: Callable[[Runtime], None]) -> None:
        self._value = value
        self._runtime = runtime
        self._users = users
        self._unused = unused

    def __enter__(self) -> T:
        self._users[self._runtime] += 1
        return self._value

    def __exit__(self, *_: object) -> None:
        self._users[self._runtime] -= 1
        if not self._users[self._runtime]:
            self._unused(self._runtime)


def _not_closed(failure: Failure) -> None:
    if not isinstance(failure.value, CancelledError):
        log.failure("a connection is not closed", failure)
