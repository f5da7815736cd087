"""Connecting to one of several database hosts: they are tried one after the other, the last one that worked first.

libpq can try several hosts by itself, but its asynchronous connections have no time limit for each host: it would wait
for a machine that does not answer until the whole attempt is given up, and never try the next.
"""

import ipaddress
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from psycopg2.extensions import parse_dsn
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as NoAnswer

from datamover.concurrency.host_names import HostNames
from datamover.errors import StartError, Unavailable
from datamover.postgres.admission import AccessRefused, LoginAttempt, refusal
from datamover.postgres.connection import Target
from datamover.postgres.failures import AWAY, database_away, one_line

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0
"""Seconds for all hosts together; ``connect_timeout`` in the URL, if given, is for each."""

_HOST = ("host", "hostaddr", "port")


@dataclass(frozen=True, slots=True)
class Host:
    """One of the hosts of a connection string, as libpq's parameters; None: not given."""

    host: str | None
    hostaddr: str | None
    port: str | None

    def at(self, address: str) -> "Host":
        return replace(self, hostaddr=address)

    def within(self, parameters: Target) -> Target:
        """Return ``parameters`` with this host as the only one."""
        own = {name: value for name in _HOST if (value := getattr(self, name)) is not None}
        return {**{name: value for name, value in parameters.items() if name not in _HOST}, **own}


class Hosts:
    """The hosts of the connection string that ``dsn`` returns; it is asked at every attempt."""

    def __init__(self, reactor: Any, dsn: Callable[[], Awaitable[str]]) -> None:
        self._reactor = reactor
        self._dsn = dsn
        # A resolver of its own: look-ups of names that clients give must not delay the database.
        self._names = HostNames(reactor, "database-names")
        self._served: tuple[Host, Host] | None = None
        """The host of the last connection: as it is listed, and with the address that was used."""

    async def reach(self, attempt: Callable[[Target], Coroutine[Any, Any, Result]]) -> Result:
        """Return what ``attempt`` returns for the first host for which it does not raise Unavailable.

        If it does for all, raises AccessRefused if one of them refuses the login, else Unavailable with the reason of
        each. Raises StartError of ``dsn`` and ``attempt``.
        """
        asked = parse_dsn(await self._dsn())
        listed = list(hosts(asked))
        limit = time_limit(asked, len(listed))
        troubles: list[Unavailable] = []
        served = self._served
        if served is not None and served[0] in listed:
            try:
                return await self._try(attempt, served[1].within(asked), limit)
            except Unavailable as error:
                troubles.append(error)
        for host in listed:
            try:
                found = await self._addresses(host, limit)
            except Unavailable as error:
                troubles.append(error)
                continue
            for each in found:
                if (host, each) == served:
                    continue
                try:
                    result = await self._try(attempt, each.within(asked), limit)
                except Unavailable as error:
                    troubles.append(error)
                else:
                    self._served = (host, each)
                    return result
        raise _together(troubles)

    async def _try(
        self, attempt: Callable[[Target], Coroutine[Any, Any, Result]], target: Target, limit: float
    ) -> Result:
        """Return what ``attempt`` returns within ``limit`` seconds; its errors become Unavailable or StartError."""
        trying: Deferred[Result] = Deferred.fromCoroutine(attempt(target))
        trying.addTimeout(limit, self._reactor)
        try:
            return await trying
        except (Unavailable, StartError, CancelledError):
            raise
        except NoAnswer:
            raise database_away(f"no answer from {LoginAttempt.of(target).host} within {limit:.1f} s") from None
        except Exception as error:  # Any error: no statement was sent yet.
            login = LoginAttempt.of(target)
            raise refusal(str(error), login) or database_away(_with_host(error, login)) from error

    async def _addresses(self, host: Host, limit: float) -> list[Host]:
        """Return a host once for each of its addresses; libpq would block the reactor while it looks them up."""
        if host.hostaddr is not None or not _is_name(host.host):
            return [host]
        looking = self._names.look_up(str(host.host))
        looking.addTimeout(limit, self._reactor)
        try:
            answers = await looking
        except OSError as error:
            raise database_away(f"{host.host}: {error.strerror}") from error
        except NoAnswer:
            raise database_away(f"{host.host} is not found within {limit:.1f} s") from None
        return [host.at(str(answer[4][0])) for answer in answers]


def hosts(parameters: Target) -> Iterator[Host]:
    """Yield the hosts of libpq's parameters: host, hostaddr and port are lists of the same length, or of one."""
    columns = [parameters[name].split(",") if parameters.get(name) else [None] for name in _HOST]
    for number in range(max(map(len, columns))):
        yield Host(*((column[number] if number < len(column) else column[-1]) or None for column in columns))


def time_limit(parameters: Target, count: int = 1) -> float:
    """Return the seconds that connecting to one of ``count`` hosts may take; there always is a limit."""
    asked = parameters.get("connect_timeout", "")
    return float(asked) if asked.isdecimal() and int(asked) > 0 else CONNECT_TIMEOUT / count


def _with_host(error: Exception, login: LoginAttempt) -> str:
    """Return an error's text with the host before it, which libpq does not always name."""
    said = one_line(error)
    return said if said.startswith("connection to server") else f"{login.host}: {said}"


def _is_name(host: str | None) -> bool:
    if not host or host.startswith(("/", "@")):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _together(troubles: list[Unavailable]) -> Unavailable:
    """Return one error for the errors of all hosts."""
    refused = [error for error in troubles if isinstance(error, AccessRefused)]
    if refused or len(troubles) == 1:
        return (refused or troubles)[0]
    reasons = dict.fromkeys(error.full.removeprefix(f"{AWAY} (").removesuffix(")") for error in troubles)
    return database_away("; ".join(reasons))
