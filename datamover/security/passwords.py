"""Check names and passwords against Argon2 hashes, in threads and a few at a time.

Argon2 takes tens of milliseconds on purpose. A login that was right is therefore cached, in memory and under a keyed
hash. Others wait in a short queue for each address and name, longer after each failure, and so do not delay other
clients. A login that cannot be checked in time is answered as Unavailable, which says nothing about the password.
"""

import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from argon2 import Parameters, PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import get_default_parameters
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from datamover.bounds.door import LOGINS_AT_ONCE, WAITING_LOGINS, WAITING_LOGINS_OF_ONE
from datamover.concurrency.fair_share import FairShare
from datamover.concurrency.locks import Locks
from datamover.concurrency.threads import Threads
from datamover.concurrency.waiters import Waiters
from datamover.config.schema import Client
from datamover.errors import ConfigError, Unavailable
from datamover.security.login_throttle import Failures, client_network

log = Logger()

NICENESS = 5
"""Nice value of these threads: guessing takes no CPU time from clients that have logged in."""
PATIENCE = 10.0
"""Seconds that a login may wait."""
BUSY = "too many logins are waiting, and yours was not checked: ask again in a while"

_COSTS = get_default_parameters()
_hasher = PasswordHasher.from_parameters(_COSTS)


def hash_password(text: str) -> str:
    """Return the Argon2 hash of a password, as ``password_hash`` takes it; blocks for tens of milliseconds."""
    return _hasher.hash(text)


def is_hash(text: str) -> bool:
    """Return whether a text is a hash as ``hash_password`` returns it."""
    try:
        extract_parameters(text)
    except InvalidHashError:
        return False
    return True


def verify(password_hash: str, password: str) -> bool:
    """Return whether ``password`` matches the hash; blocks for tens of milliseconds."""
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


def unmatchable_hash(like: Parameters) -> str:
    """Return a hash that no password matches, as costly to verify as those of ``like``. Does not block."""
    salt, digest = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (like.salt_len, like.hash_len))
    costs = f"m={like.memory_cost},t={like.time_cost},p={like.parallelism}"
    return f"$argon2{like.type.name.lower()}$v={like.version}${costs}${salt}${digest}"


class LoginCache:
    """Logins that were verified, and checks that are running. A reload of the configuration keeps it.

    A login is identified by its mark, which includes the configured hash: a changed hash makes the old mark useless.
    """

    def __init__(self, reactor: Any, failures: Failures | None = None) -> None:
        self.reactor = reactor
        self.failures = Failures(reactor.seconds) if failures is None else failures
        self.verified: dict[str, bytes] = {}
        """The mark of each client's last verified login."""
        self.asking: dict[tuple[str, bytes], _SharedCheck] = {}
        """Running checks, by address and mark."""
        self.waiting = FairShare(lambda: WAITING_LOGINS, lambda: WAITING_LOGINS_OF_ONE)
        self.lines = Locks()
        """By address and name: passwords for one name are checked one after the other."""
        self.hashing = Locks()
        """By address."""
        # Threads of their own: a login waits for other logins only.
        self.threads = Threads(reactor, "logins", LOGINS_AT_ONCE, NICENESS)
        self._key = os.urandom(32)

    def mark(self, password_hash: str, username: str, password: str) -> bytes:
        text = f"{password_hash}\0{username}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key).digest()


class Logins:
    """The clients that may log in."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        reactor: Any,
        failures: Failures | None = None,
        *,
        before: "Logins | None" = None,
        patience: float = PATIENCE,
    ) -> None:
        """Take the clients' hashes; raises ConfigError for a malformed one.

        Logins that were verified ``before`` stay verified where the hash is the same. ``patience`` is how many seconds
        a login may wait.
        """
        self._hashes = {name: client.password_hash for name, client in clients.items() if client.password_hash}
        for name, password_hash in self._hashes.items():
            if not is_hash(password_hash):
                raise ConfigError(f"password_hash of {name!r}: expected what `datamover-admin hash-password` prints")
        known = [extract_parameters(each) for each in self._hashes.values()]
        self._nobody = [unmatchable_hash(costs) for costs in known or [_COSTS]]
        self._cache: LoginCache = before._cache if before else LoginCache(reactor, failures)
        self._patience = patience

    @property
    def waiting(self) -> int:
        """The number of logins that wait or are being checked."""
        return self._cache.waiting.all

    async def check(self, username: str, password: str, address: str) -> str | None:
        """Return the client's name, or None for a wrong login; raises Unavailable if it could not be checked in time.

        After several failures of the address or the name it waits before it checks, but never for a login that was
        right before. Identical logins share one check. Cancelling leaves the queue.
        """
        cache = self._cache
        password_hash = self._hashes.get(username) or self._nobodys_hash(username)
        mark = cache.mark(password_hash, username, password)
        if hmac.compare_digest(cache.verified.get(username, b""), mark):
            return username
        address = client_network(address)
        key = address, mark
        asked = cache.asking.get(key)
        if asked is None:
            # Refused without a Deferred: failing one costs more than many answers.
            if not cache.waiting.take(address):
                raise Unavailable(BUSY)
            asked = cache.asking[key] = _SharedCheck(partial(cache.asking.pop, key, None))
            answer = asked.join()
            asked.begin(self._look(username, password, password_hash, mark, address))
        else:
            answer = asked.join()
        answer.addTimeout(self._patience, cache.reactor, _busy)
        return username if await answer else None

    def _nobodys_hash(self, username: str) -> str:
        """Return what an unknown name is checked against, always the same.

        It costs as much as one of the known names' hashes, which may have been made at different costs: how long a
        refusal takes does not tell whether the name is known.
        """
        return self._nobody[int.from_bytes(self._cache.mark("", username, "")[:8], "big") % len(self._nobody)]

    async def _look(self, username: str, password: str, password_hash: str, mark: bytes, address: str) -> bool:
        """Return whether a login is right, when it has its turn; the caller has counted it as waiting."""
        cache = self._cache
        known = username in self._hashes
        try:
            if cache.waiting.of(address) == WAITING_LOGINS_OF_ONE:
                log.warn(
                    "{queue} logins of {address} wait: more are refused unchecked",
                    queue=WAITING_LOGINS_OF_ONE,
                    address=address,
                )
            right = await self._verify(username, password, password_hash, address) and known
        finally:
            cache.waiting.give(address)
        if right:
            cache.verified[username] = mark
            return True
        cache.failures.add(username, address)
        # An unknown name may be a password that was typed into the wrong field: it is not logged.
        who = repr(username) if known else "an unknown name"
        log.warn("a wrong login as {who} from {address}", who=who, address=address or "a Unix socket")
        return False

    async def _verify(self, username: str, password: str, password_hash: str, address: str) -> bool:
        """Verify in a thread: one at a time for each name of an address, and one at a time for each address."""
        cache = self._cache
        async with cache.lines.held(f"{address}\0{username}"):
            pause = cache.failures.pause(username, address)
            if pause:
                await task.deferLater(cache.reactor, pause)
            async with cache.hashing.held(address):
                # It ends even if the client has gone: disconnecting must not free a thread earlier.
                return await cache.threads.finish(lambda _: None, verify, password_hash, password)


class _SharedCheck:
    """A check of a login that several callers wait for. It is cancelled when none of them waits any more."""

    def __init__(self, forget: Callable[[], object]) -> None:
        """``forget`` is called when no further caller can join."""
        self._forget = forget
        self._waiters: Waiters[bool] = Waiters(self._abandon)
        self._whole: Deferred[None]

    def begin(self, looking: Coroutine[Any, Any, bool]) -> None:
        self._whole = Deferred.fromCoroutine(looking).addBoth(self._end)

    def join(self) -> Deferred[bool]:
        """Return a Deferred that fires with whether the login is right."""
        return self._waiters.wait()

    def _abandon(self) -> None:
        self._forget()
        self._whole.cancel()

    def _end(self, outcome: Any) -> None:
        if self._waiters:  # Otherwise it was abandoned, and its key may be that of a later check.
            self._forget()
            self._waiters.wake(outcome)


def _busy(_: object, __: float) -> None:
    raise Unavailable(BUSY)
