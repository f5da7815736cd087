"""The hosts of the database, and which of them answers: tried one after the other, first the one that served last.

libpq would go through several hosts by itself, but where it is asynchronous without a time limit for each: a machine
that is gone without a word would be waited for until the whole attempt is given up, and the next never be asked.
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
from datamover.postgres.failures import AWAY, one_line

Result = TypeVar("Result")

CONNECT_TIMEOUT = 10.0
"""Seconds for all hosts together, unless ``connect_timeout`` is asked for, which is for each."""

_PLACE = ("host", "hostaddr", "port")


@dataclass(frozen=True, slots=True)
class Host:
    """One of the hosts that an address lists, as libpq's parameters; None: not named."""

    host: str | None
    hostaddr: str | None
    port: str | None

    def at(self, address: str) -> "Host":
        return replace(self, hostaddr=address)

    def within(self, parameters: Target) -> Target:
        """Return what connects to this host alone, and is otherwise as asked."""
        own = {name: value for name in _PLACE if (value := getattr(self, name)) is not None}
        return {**{name: value for name, value in parameters.items() if name not in _PLACE}, **own}


class Hosts:
    """The hosts that an address names; ``dsn`` is asked for it at every attempt."""

    def __init__(self, reactor: Any, dsn: Callable[[], Awaitable[str]]) -> None:
        self._reactor = reactor
        self._dsn = dsn
        # Its own: names that clients think of must not keep anybody from the database.
        self._names = HostNames(reactor, "database-names")
        self._served: tuple[Host, Host] | None = None
        """The host that was asked last and connected to: as it is listed, and as it was found."""

    async def reach(self, attempt: Callable[[Target], Coroutine[Any, Any, Result]]) -> Result:
        """Return what ``attempt`` returns for the first host for which it does not raise Unavailable.

        Where none does: raises Unavailable with what was met at each, as Refused if one is there and does not let us
        in. Raises StartError of ``dsn`` and ``attempt``.
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
        """Return what ``attempt`` returns within so many seconds; whatever it meets is Unavailable, or StartError."""
        trying: Deferred[Result] = Deferred.fromCoroutine(attempt(target))
        trying.addTimeout(limit, self._reactor)
        try:
            return await trying
        except (Unavailable, StartError, CancelledError):
            raise
        except NoAnswer:
            raise Unavailable(f"{AWAY} (no answer from {LoginAttempt.of(target).host} within {limit:.1f} s)") from None
        except Exception as error:  # Whatever it is, nothing was asked of the database yet.
            login = LoginAttempt.of(target)
            raise refusal(str(error), login) or Unavailable(f"{AWAY} ({_whose(error, login)})") from error

    async def _addresses(self, host: Host, limit: float) -> list[Host]:
        """Return a host by each of its addresses, which libpq would look up on the reactor."""
        if host.hostaddr is not None or not _is_name(host.host):
            return [host]
        looking = self._names.look_up(str(host.host))
        looking.addTimeout(limit, self._reactor)
        try:
            answers = await looking
        except OSError as error:
            raise Unavailable(f"{AWAY} ({host.host}: {error.strerror})") from error
        except NoAnswer:
            raise Unavailable(f"{AWAY} ({host.host} is not found within {limit:.1f} s)") from None
        return [host.at(str(answer[4][0])) for answer in answers]


def hosts(parameters: Target) -> Iterator[Host]:
    """Yield the hosts that libpq's parameters list: host, hostaddr and port are lists of the same length, or of one."""
    columns = [parameters[name].split(",") if parameters.get(name) else [None] for name in _PLACE]
    for number in range(max(map(len, columns))):
        yield Host(*((column[number] if number < len(column) else column[-1]) or None for column in columns))


def time_limit(parameters: Target, count: int = 1) -> float:
    """Return the seconds that connecting to one of ``count`` hosts may take: where libpq would wait for ever, too."""
    asked = parameters.get("connect_timeout", "")
    return float(asked) if asked.isdecimal() and int(asked) > 0 else CONNECT_TIMEOUT / count


def _whose(error: Exception, login: LoginAttempt) -> str:
    """Return what was met with whose it was: libpq does not always say."""
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
    """Return one error for what was met at each host."""
    refused = [error for error in troubles if isinstance(error, AccessRefused)]
    if refused or len(troubles) == 1:
        return (refused or troubles)[0]
    reasons = dict.fromkeys(error.message.removeprefix(f"{AWAY} (").removesuffix(")") for error in troubles)
    return Unavailable(f"{AWAY} ({'; '.join(reasons)})")
