"""Sum up a configuration for a person, and try its destinations."""

from collections.abc import Callable, Iterator
from typing import Any

from datamover.config.schema import Config
from datamover.errors import StartError
from datamover.postgres.external import ExternalPostgres
from datamover.protocols.base import Ability
from datamover.registry.destinations import Destination, Registry
from datamover.text.quantities import count, size


def database_away(settings: Config) -> str | None:
    """Log in to a given database, which blocks; return why that fails for now. None: it succeeds, or it is embedded."""
    return None if settings.database.url is None else ExternalPostgres(settings.database).look()


def summary(settings: Config, away: str | None) -> Iterator[str]:
    """Yield what a configuration says, a line each; ``away`` is what ``database_away`` returned."""
    database = f"embedded, in {settings.service.data_directory}"
    if settings.database.url is not None:
        database = f"{settings.database.url}{'' if away is None else f' (away: {away})'}"
    yield f"configuration  {settings.path or 'built in'}"
    yield f"database       {database}"
    yield f"roles          {', '.join(sorted(settings.service.roles))}"
    for listener in settings.service.listen:
        yield f"listener       {listener}{', TLS' if settings.tls.covers(listener) else ''}"
    for name, client in settings.clients.items():
        places = "every destination" if client.destinations is None else ", ".join(client.destinations) or "none"
        yield f"client         {name}: {places}{', administrator' if client.admin else ''}"
    for name, destination in settings.destinations.items():
        kept = "" if destination.keep_free is None else f", keeps {size(destination.keep_free)} free"
        yield f"destination    {name}: {destination.url}{kept}"
    for rule in settings.sources.allow or ("any public http(s) address",):
        yield f"sources        {rule}"


def not_held(settings: Config, reactor: Any) -> Iterator[str]:
    """Yield a line for each destination whose keep_free cannot be held, since its server does not tell its room."""
    registry = Registry.from_config(settings, reactor)
    for name in registry.names():
        yield from _not_held(registry.get(name))


def _not_held(destination: Destination) -> Iterator[str]:
    if destination.keep_free is not None:
        untold = (lack for lack in destination.lacks if lack.ability is Ability.FREE_SPACE)
        yield from (f"not held       {destination.name}: {lack.sentence}" for lack in untold)


async def try_destinations(
    reactor: Any, settings: Config, tell: Callable[[str], object], away: str | None = None
) -> None:
    """Try each destination as a transfer would, and tell how it went.

    Raises StartError if any fails, or if the database is ``away``.
    """
    failed = []
    registry = Registry.from_config(settings, reactor)
    try:
        for name in registry.names():
            found = await registry.test(name)
            steps = found["steps"]
            if found["ok"]:
                seconds = sum(step["seconds"] for step in steps)
                tell(f"connected      {name}: {', '.join(step['step'] for step in steps)}, in {seconds:.1f} s")
                if Ability.FREE_SPACE in registry.get(name).abilities:
                    for line in _not_held(registry.get(name)):
                        tell(line)
                continue
            failed.append(name)
            error = steps[-1]["error"]
            tell(f"failed         {name}: {steps[-1]['step']}: {error['code']}: {error.get('full', error['message'])}")
    finally:
        await registry.close()
    problems = [] if away is None else [f"the database is away: {away}"]
    if failed:
        problems.append(f"{count(len(failed), 'destination')} cannot be used: {', '.join(failed)}")
    if problems:
        raise StartError("; ".join(problems))
