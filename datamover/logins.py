"""Names and passwords: checked against Argon2 hashes, off the reactor and a few at a time.

A hash takes tens of milliseconds on purpose. So a login that was right is remembered (under a keyed hash, in memory
only), and wrong ones wait in a short queue for each address, where they do not stand in others' way; the more of them
there were lately, the longer.
"""

import hashlib
import hmac
import os
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from typing import Any

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from twisted.internet import task
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from datamover.config import Client
from datamover.errors import ConfigError
from datamover.failures import Failures, origin
from datamover.threads import Threads

log = Logger()

THREADS = 2
"""Hashes computed at once."""
QUEUE = 16
"""Logins of one address that may wait; more are refused unseen."""

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


class Logins:
    """The clients that may log in."""

    def __init__(self, clients: Mapping[str, Client], reactor: Any, failures: Failures | None = None) -> None:
        """Take the clients' hashes; raises ConfigError for one that is none."""
        self._hashes = {name: client.password_hash for name, client in clients.items() if client.password_hash}
        for name, password_hash in self._hashes.items():
            try:
                extract_parameters(password_hash)
            except InvalidHashError:
                raise ConfigError(
                    f"password_hash of {name!r}: expected what `datamover-admin hash-password` prints"
                ) from None
        self._reactor = reactor
        self._failures = Failures(reactor.seconds) if failures is None else failures
        self._key = os.urandom(32)
        self._verified: dict[str, bytes] = {}
        # Theirs alone: who logs in waits for nothing but other logins.
        self._threads = Threads(reactor, "logins", THREADS)
        self._addresses: dict[str, DeferredLock] = {}
        self._waiting: Counter[str] = Counter()
        # An unknown name costs what a known one does.
        self._nobody = hash_of_nothing()

    async def check(self, username: str, password: str, address: str) -> str | None:
        """Return the client's name, None where the login is wrong or too many of ``address`` wait already.

        After several failures, of the address or of the name, it waits before it looks; a login that was right before
        never does. Cancelling gives up the place in the queue.
        """
        seen = self._mark(username, password)
        if hmac.compare_digest(self._verified.get(username, b""), seen):
            return username
        address = origin(address)
        if self._waiting[address] >= QUEUE:
            return None
        if await self._verify(username, password, address) and username in self._hashes:
            self._verified[username] = seen
            return username
        self._failures.add(username, address)
        # What is no client's name may be a password, typed in the wrong place.
        who = repr(username) if username in self._hashes else "an unknown name"
        log.warn("a wrong login as {who} from {address}", who=who, address=address or "a Unix socket")
        return None

    async def _verify(self, username: str, password: str, address: str) -> bool:
        """Verify in a thread, one login of an address at a time."""
        lock = self._addresses.setdefault(address, DeferredLock())
        self._waiting[address] += 1
        if self._waiting[address] == QUEUE:
            log.warn("{queue} logins of {address} wait: more are refused unseen", queue=QUEUE, address=address)
        try:
            await lock.acquire()
            try:
                pause = self._failures.pause(username, address)
                if pause:
                    await task.deferLater(self._reactor, pause)
                return await self._threads.run(verify, self._hashes.get(username, self._nobody), password)
            finally:
                lock.release()
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]
                self._addresses.pop(address, None)

    def _mark(self, username: str, password: str) -> bytes:
        text = f"{username}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key).digest()
