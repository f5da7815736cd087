"""Names and passwords: checked against Argon2 hashes, off the reactor and a few at a time.

A hash takes tens of milliseconds on purpose. So a login that was right is remembered (under a keyed hash, in memory
only), and wrong ones wait in a short queue for each address and name, where they do not stand in others' way; the more
of them there were lately, the longer. Who cannot be looked at in time is told so, which is no answer about the login.
"""

import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from datamover.concurrency.fair_share import FairShare
from datamover.concurrency.locks import Locks
from datamover.concurrency.threads import Threads
from datamover.config.schema import Client
from datamover.errors import ConfigError, Unavailable
from datamover.security.login_throttle import Failures, origin

log = Logger()

THREADS = 2
"""Hashes computed at once; an address has one of them at most."""
NICENESS = 5
"""Of these threads, and of those that a hash is computed by: whoever guesses takes no time from who has logged in."""
QUEUE = 16
"""Logins of one address that may wait …"""
QUEUES = 256
"""… and of all."""
PATIENCE = 10.0
"""Seconds that a login may wait."""
BUSY = "too many logins are looked at, and yours was not: ask again in a while"

_hasher = PasswordHasher()


def hash_password(text: str) -> str:
    """Return what a configuration's ``password_hash`` takes; blocks for tens of milliseconds."""
    return _hasher.hash(text)


def verify(password_hash: str, password: str) -> bool:
    """Tell whether ``password`` is the one that was hashed; blocks for tens of milliseconds."""
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False


def hash_of_nothing() -> str:
    """Return what no password verifies against, at the cost of one that ``hash_password`` made; made in no time."""
    salt, digest = (b64encode(os.urandom(size)).decode().rstrip("=") for size in (_hasher.salt_len, _hasher.hash_len))
    costs = f"m={_hasher.memory_cost},t={_hasher.time_cost},p={_hasher.parallelism}"
    return f"$argon2{_hasher.type.name.lower()}$v={ARGON2_VERSION}${costs}${salt}${digest}"


class Checked:
    """What was found out about logins, and what is being: kept from one reading of the configuration to the next.

    A login is known by its mark, in which the hash takes part that it was held against: another hash, another mark.
    """

    def __init__(self, reactor: Any, failures: Failures | None = None) -> None:
        self.reactor = reactor
        self.failures = Failures(reactor.seconds) if failures is None else failures
        self.verified: dict[str, bytes] = {}
        """The mark of each client's login that was right."""
        self.asking: dict[tuple[str, bytes], _Asked] = {}
        """What is being looked at, by address and mark."""
        self.waiting = FairShare(lambda: QUEUES, lambda: QUEUE)
        self.lines = Locks()
        """By address and name: what is tried for one name goes one by one."""
        self.hashing = Locks()
        """By address."""
        # Theirs alone: who logs in waits for nothing but other logins.
        self.threads = Threads(reactor, "logins", THREADS, NICENESS)
        # An unknown name costs what a known one does.
        self.nobody = hash_of_nothing()
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
        """Take the clients' hashes; raises ConfigError for one that is none.

        What was verified ``before`` holds where the hash is the same. ``patience``: seconds that a login may wait.
        """
        self._hashes = {name: client.password_hash for name, client in clients.items() if client.password_hash}
        for name, password_hash in self._hashes.items():
            try:
                extract_parameters(password_hash)
            except InvalidHashError:
                raise ConfigError(
                    f"password_hash of {name!r}: expected what `datamover-admin hash-password` prints"
                ) from None
        self._checked: Checked = before._checked if before else Checked(reactor, failures)
        self._patience = patience

    @property
    def waiting(self) -> int:
        """Logins that wait, or are looked at."""
        return self._checked.waiting.all

    async def check(self, username: str, password: str, address: str) -> str | None:
        """Return the client's name, None where the login is wrong; raises Unavailable for one that was not looked at.

        After several failures, of the address or of the name, it waits before it looks; a login that was right before
        never does. Several that are the same are looked at once. Cancelling gives up the place in the queue.
        """
        checked = self._checked
        password_hash = self._hashes.get(username, checked.nobody)
        mark = checked.mark(password_hash, username, password)
        if hmac.compare_digest(checked.verified.get(username, b""), mark):
            return username
        address = origin(address)
        key = address, mark
        asked = checked.asking.get(key)
        if asked is None:
            # Without a Deferred, whose failure would cost more than many answers.
            if not checked.waiting.take(address):
                raise Unavailable(BUSY)
            asked = checked.asking[key] = _Asked(partial(checked.asking.pop, key, None))
            answer = asked.join()
            asked.begin(self._look(username, password, password_hash, mark, address))
        else:
            answer = asked.join()
        answer.addTimeout(self._patience, checked.reactor, _busy)
        return username if await answer else None

    async def _look(self, username: str, password: str, password_hash: str, mark: bytes, address: str) -> bool:
        """Tell whether a login is right, once it is its turn; it was counted among those that wait."""
        checked = self._checked
        known = username in self._hashes
        try:
            if checked.waiting.of(address) == QUEUE:
                log.warn("{queue} logins of {address} wait: more are refused unseen", queue=QUEUE, address=address)
            right = await self._verify(username, password, password_hash, address) and known
        finally:
            checked.waiting.give(address)
        if right:
            checked.verified[username] = mark
            return True
        checked.failures.add(username, address)
        # What is no client's name may be a password, typed in the wrong place.
        who = repr(username) if known else "an unknown name"
        log.warn("a wrong login as {who} from {address}", who=who, address=address or "a Unix socket")
        return False

    async def _verify(self, username: str, password: str, password_hash: str, address: str) -> bool:
        """Verify in a thread: for one name of an address one by one, and for an address one at a time."""
        checked = self._checked
        # All names that are none wait together.
        line = f"{address}\0{username if username in self._hashes else ''}"
        async with checked.lines.held(line):
            pause = checked.failures.pause(username, address)
            if pause:
                await task.deferLater(checked.reactor, pause)
            async with checked.hashing.held(address):
                # To its end, also where nobody waits any more: who goes away has no thread more than who stays.
                return await checked.threads.finish(lambda _: None, verify, password_hash, password)


class _Asked:
    """A look at a login that several may wait for; given up when none does any more."""

    def __init__(self, forget: Callable[[], object]) -> None:
        """``forget`` is called when nobody can join any more."""
        self._forget = forget
        self._waiters: list[Deferred[bool]] = []
        self._whole: Deferred[None]

    def begin(self, looking: Coroutine[Any, Any, bool]) -> None:
        self._whole = Deferred.fromCoroutine(looking).addBoth(self._end)

    def join(self) -> Deferred[bool]:
        """Return what fires with the outcome."""
        waiter: Deferred[bool] = Deferred(self._leave)
        self._waiters.append(waiter)
        return waiter

    def _leave(self, waiter: Deferred[bool]) -> None:
        self._waiters.remove(waiter)
        if not self._waiters:
            self._forget()
            self._whole.cancel()

    def _end(self, outcome: Any) -> None:
        self._forget()
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(outcome)


def _busy(_: object, __: float) -> None:
    raise Unavailable(BUSY)
