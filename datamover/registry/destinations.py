"""The registered destinations: where each is, what it can do, and the connections to it.

The configuration's ``[destinations.NAME]`` tables are checked here, each by the protocol that its URL's scheme names.
Connections are made when they are first used. The api decides who may use a destination; the job store knows how
busy it is.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Literal, Protocol

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from datamover.config.endpoints import holds_password
from datamover.config.schema import Config, DestinationTable, check_table
from datamover.errors import ConfigError, DataMoverError, Problems, Scope, UnknownDestination
from datamover.protocols import PLACES
from datamover.protocols.base import UNCONNECTED, Ability, Lack, Origin
from datamover.protocols.lacks import Lacks
from datamover.protocols.place import (
    DestinationPool,
    NamedByUrl,
    Place,
    PlaceProtocol,
    PlaceSettings,
    TellsUploads,
)
from datamover.registry.probe import probe
from datamover.text.quoting import quoted
from datamover.web.url import shown

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class Destination:
    """A registered place, by the name that clients use."""

    name: str
    description: str
    protocol: str
    abilities: frozenset[Ability]
    """The abilities of its protocol; ``pool.lacks`` are those that the other side lacks."""
    root: str
    """The absolute path of its root."""
    host: str | None
    """None: a directory of this machine; "": the URL does not name it."""
    user: str | None
    max_active: int
    """Transfers at once, over all processes."""
    bandwidth: int | None
    """Bytes a second; None: no limit."""
    verify: Literal["size", "read-back"]
    file_mode: int
    directory_mode: int
    keep_free: int | None
    """Bytes that transfers leave free; None: all may be used."""
    counts_arriving: bool
    """Whether the room that is told there is less what has arrived of files before they are committed."""
    longest_name: int
    """Bytes of one segment of a path."""
    pool: DestinationPool = field(repr=False)
    basis: tuple[Any, ...] = field(default=(), repr=False)
    """The settings that the pool was made from; a registry with an equal basis may share the pool."""
    learnt: Lacks = field(default_factory=lambda: Lacks(monotonic), repr=False)
    """What was learnt by asking for its free space."""
    named: Callable[[str, str | None, str | None, str], str | None] = field(default=lambda *_: None, repr=False)
    """Returns the absolute path that ``scheme://[user@]host/path`` (the arguments) names here, None for none.

    The host None is this destination's own.
    """

    @property
    def lacks(self) -> tuple[Lack, ...]:
        """The abilities that it lacks, among them FREE_SPACE if the configuration needs that."""
        found = {lack.ability: lack for lack in (*self.learnt, *self.pool.lacks)}
        untold = found.get(Ability.FREE_SPACE)
        declared = Ability.FREE_SPACE in self.abilities
        known = untold is not None and untold.why != UNCONNECTED
        if self.keep_free is not None and (known or not declared):
            why = untold.why if untold and declared else f"{self.protocol} destinations do not tell it"
            found[Ability.FREE_SPACE] = Lack(Ability.FREE_SPACE, f"{why}, so that keep_free cannot be held")
        return tuple(found.values())

    async def free(self) -> int | None:
        """Return how many bytes may still be written there; None, which is remembered, if it does not report it."""
        free = await self.at(Scope.DESTINATION).free()
        if free is not None:
            self.learnt.saw(Ability.FREE_SPACE)
        elif Ability.FREE_SPACE in self.abilities:
            self.learnt.learn(Ability.FREE_SPACE, "the other side does not tell it")
        return free

    def at(self, side: Scope) -> Place:
        """Return the place for use as ``side``, SOURCE or DESTINATION."""
        return self.pool.at(side)

    def below(self, path: str) -> str | None:
        """Return an absolute path relative to the root, None if it is neither the root nor below it."""
        segments, root = _segments(path), _segments(self.root)
        if not path.startswith("/") or segments[: len(root)] != root:
            return None
        return _joined(segments[len(root) :], path)


class UrlReader(Protocol):
    """Reads the URLs that clients name."""

    def origin(self, url: str, *, client: str | None = None) -> Origin: ...

    async def close(self) -> None: ...


class Registry:
    """Every registered destination, in the order of the configuration."""

    def __init__(self, destinations: Iterable[Destination], reactor: Any, http: UrlReader | None = None) -> None:
        self._destinations = {destination.name: destination for destination in destinations}
        self.longest_names = {name: each.longest_name for name, each in self._destinations.items()}
        """Names -> bytes that a segment of a path may have there."""
        self._reactor = reactor
        self.http = http
        """None in a process that reads no URLs. Closed with the registry."""

    @classmethod
    def from_config(
        cls,
        config: Config,
        reactor: Any,
        http: UrlReader | None = None,
        *,
        protocols: Iterable[PlaceProtocol] = PLACES,
        before: "Registry | None" = None,
    ) -> "Registry":
        """Check every ``[destinations.NAME]``; raises ConfigError naming file, key, value and what was expected.

        A destination whose settings are those it has in ``before`` shares its connections.
        """
        by_scheme = {scheme: protocol for protocol in protocols for scheme in protocol.schemes}
        destinations = [
            _destination(name, table, config, by_scheme, reactor, before) for name, table in config.destinations.items()
        ]
        return cls(destinations, reactor, http)

    def names(self) -> tuple[str, ...]:
        return tuple(self._destinations)

    @property
    def directories(self) -> dict[str, str]:
        """The roots that are directories of this machine, by the names of their destinations."""
        return {each.name: each.root for each in self._destinations.values() if each.host is None}

    @property
    def pools(self) -> tuple[DestinationPool, ...]:
        return tuple(destination.pool for destination in self._destinations.values())

    def get(self, name: str) -> Destination:
        """Return one destination; raises UnknownDestination."""
        try:
            return self._destinations[name]
        except KeyError:
            raise UnknownDestination(f"destination {quoted(name)} is not registered") from None

    def bandwidth(self, name: str) -> int | None:
        """Return a destination's limit in bytes a second; None without a limit, or without the destination."""
        return self._destinations[name].bandwidth if name in self._destinations else None

    def locate(self, host: str, user: str | None, path: str) -> tuple[Destination, str] | None:
        """Return the destination that ``[user@]host`` and ``path`` mean, and the path below its root, not yet checked.

        ``host`` is a registered name, or the host of registered destinations: then the one with the longest root that
        holds the path, else the first of them. A path at or below the root is absolute, any other is taken below it.
        None where no destination matches.
        """
        own = [each for each in self._destinations.values() if user is None or each.user == user]
        named = [each for each in own if each.name == host]
        matches = named or [each for each in own if each.host is not None and _same_host(each.host, host)]
        return _chosen([(each, path) for each in matches])

    def locate_url(self, scheme: str, host: str, user: str | None, path: str) -> tuple[Destination, str] | None:
        """Return what ``locate`` does for ``scheme://[user@]host/path``, a further URL of a protocol's files."""
        found = [
            (each, each.named(scheme, None if each.name == host else host, user, path))
            for each in self._destinations.values()
        ]
        return _chosen([(each, inner) for each, inner in found if inner is not None])

    def describe(self, name: str) -> dict[str, Any]:
        """Return what a client may know of a destination, but not how busy it is; raises UnknownDestination."""
        destination = self.get(name)
        lacks = {lack.ability: lack.as_dict() for lack in destination.lacks}
        kept = {} if destination.keep_free is None else {"keep_free": float(destination.keep_free)}
        return {
            "name": destination.name,
            "description": destination.description,
            "protocol": destination.protocol,
            "abilities": sorted(ability.value for ability in destination.abilities if ability not in lacks),
            "lacks": list(lacks.values()),
            "max_active": destination.max_active,
            **kept,
        }

    async def test(self, name: str) -> dict[str, Any]:
        """Test a destination as a transfer would use it: ``{ok, steps: [{step, ok, seconds, error?}], lacks}``.

        Further keys: ``uploads``, a list of UnfinishedUpload, if it lists them; ``free``, if it reports its free space;
        ``keep_free``, if that is set; both in bytes. Raises UnknownDestination. Cancelling discards the result; the
        test goes on, and removes what it has written.
        """
        destination = self.get(name)
        answer: Deferred[dict[str, Any]] = Deferred()

        def deliver(result: dict[str, Any] | Failure) -> None:
            if isinstance(result, dict):
                result["lacks"] = [lack.as_dict() for lack in destination.lacks]
                if destination.keep_free is not None:
                    result["keep_free"] = float(destination.keep_free)
            if not answer.called:
                answer.callback(result)

        Deferred.fromCoroutine(self._test(destination)).addBoth(deliver)
        return await answer

    async def _test(self, destination: Destination) -> dict[str, Any]:
        pool = destination.pool
        result = await probe(pool, destination.abilities, self._reactor)
        if result["ok"] and Ability.FREE_SPACE in destination.abilities:
            with suppress(DataMoverError):
                free = await destination.free()
                result |= {} if free is None else {"free": float(free)}
        if result["ok"] and isinstance(pool, TellsUploads):
            with suppress(DataMoverError):  # A login that may not list them can move files nevertheless.
                result["uploads"] = await pool.unfinished_uploads()
        return result

    async def close(self) -> None:
        """Close every connection; completes when they are closed."""
        closing: list[DestinationPool | UrlReader] = [each.pool for each in self._destinations.values()]
        if self.http is not None:
            closing.append(self.http)
        await gatherResults([Deferred.fromCoroutine(each.close()) for each in closing], consumeErrors=True)


def _chosen(matches: list[tuple[Destination, str]]) -> tuple[Destination, str] | None:
    """Return the destination with the longest root that holds its path, else the first; and the path below its root."""
    holding = [(each, below) for each, path in matches if (below := each.below(path)) is not None]
    if holding:
        return max(holding, key=lambda match: len(_segments(match[0].root)))
    return next(((each, _joined(_segments(path), path)) for each, path in matches), None)


def _destination(
    name: str,
    table: DestinationTable,
    config: Config,
    by_scheme: Mapping[str, PlaceProtocol],
    reactor: Any,
    before: Registry | None,
) -> Destination:
    file, key = str(config.path or "the built-in configuration"), f"destinations.{name}"
    protocol = _protocol(table.url, by_scheme, f"{file}: {key}.url")
    problems = Problems()
    with problems.collect():
        _check_url(protocol, table.url, f"{file}: {key}.url")
    with problems.collect():
        known = DestinationTable.model_fields
        options = check_table(protocol.options, table.model_extra or {}, file=file, key=key, known=known)
    problems.check()
    settings = PlaceSettings(
        name=name,
        url=table.url,
        file_mode=table.file_mode,
        directory_mode=table.directory_mode,
        connect_timeout=config.transfers.connect_timeout,
        idle_timeout=config.transfers.idle_timeout,
        read_back=table.verify == "read-back",
    )
    basis = (protocol.name, settings, options)
    earlier = before.get(name) if before and name in before.names() else None
    try:
        pool = earlier.pool if earlier and earlier.basis == basis else protocol.open(settings, options, reactor)
    except ConfigError as error:
        raise ConfigError.of(f"{file}: {each}" for each in error.problems) from None
    return Destination(
        name=name,
        description=table.description,
        protocol=protocol.name,
        abilities=protocol.abilities,
        root=protocol.root(table.url),
        host=protocol.host(table.url),
        user=protocol.user(table.url),
        max_active=table.max_active,
        bandwidth=table.bandwidth,
        verify=table.verify,
        file_mode=table.file_mode,
        directory_mode=table.directory_mode,
        keep_free=table.keep_free,
        counts_arriving=protocol.counts_arriving,
        longest_name=protocol.longest_name,
        pool=pool,
        basis=basis,
        learnt=earlier.learnt if earlier and earlier.basis == basis else Lacks(reactor.seconds),
        **({"named": partial(protocol.named, table.url, options)} if isinstance(protocol, NamedByUrl) else {}),
    )


def _protocol(url: str, by_scheme: Mapping[str, PlaceProtocol], where: str) -> PlaceProtocol:
    """Return the protocol of a URL; raises ConfigError for a URL of none."""
    if holds_password(url):
        raise ConfigError(f"{where}: holds a password: leave it out, and name the file that holds it in password_file")
    scheme = _SCHEME.match(url)
    protocol = by_scheme.get(scheme[1].lower()) if scheme else None
    if protocol is None:
        known = ", ".join(sorted(by_scheme))
        raise ConfigError(f"{where} = {shown(url)!r}: expected a URL with one of the schemes {known}")
    return protocol


def _check_url(protocol: PlaceProtocol, url: str, where: str) -> None:
    """Raise ConfigError for a URL that its protocol cannot use."""
    try:
        protocol.check_url(url)
    except ValueError as error:
        raise ConfigError(f"{where} = {shown(url)!r}: {error}") from None


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment not in ("", ".")]


def _joined(segments: list[str], path: str) -> str:
    """Join segments; the result ends in "/" where ``path`` names a directory."""
    return "/".join(segments) + ("/" if segments and path.endswith(("/", "/.")) else "")


def _same_host(one: str, other: str) -> bool:
    return one.strip("[]").rstrip(".").lower() == other.strip("[]").rstrip(".").lower()
