"""Names and passwords: checked against Argon2 hashes, off the reactor and a few at a time.

A hash takes tens of milliseconds on purpose. So a login that was right is remembered (under a keyed hash, in memory
only), and wrong ones wait in a short queue for each address, where they do not stand in others' way.
"""

import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.internet.defer import Deferred, DeferredLock, DeferredSemaphore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from datamover.config import Client
from datamover.errors import ConfigError

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


class Logins:
    """The clients that may log in."""

    def __init__(self, clients: Mapping[str, Client], reactor: Any) -> None:
        """Take the clients' hashes; raises ConfigError for one that is none."""
        for name, client in clients.items():
            try:
                extract_parameters(client.password_hash)
            except InvalidHashError:
                raise ConfigError(
                    f"password_hash of {name!r}: expected what `datamover-admin hash-password` prints"
                ) from None
        self._hashes = {name: client.password_hash for name, client in clients.items()}
        self._reactor = reactor
        self._key = os.urandom(32)
        self._verified: dict[str, bytes] = {}
        self._threads = DeferredSemaphore(THREADS)
        self._addresses: dict[str, DeferredLock] = {}
        self._waiting: Counter[str] = Counter()
        # An unknown name costs what a known one does.
        self._nobody = hash_password(os.urandom(16).hex())

    async def check(self, username: str, password: str, address: str) -> str | None:
        """Return the client's name, None where the login is wrong or too many of ``address`` wait already.

        Cancelling gives up the place in the queue.
        """
        seen = self._mark(username, password)
        if hmac.compare_digest(self._verified.get(username, b""), seen):
            return username
        if self._waiting[address] >= QUEUE:
            log.warn("too many logins from {address} at once: refused unseen", address=address)
            return None
        if not await self._verify(self._hashes.get(username, self._nobody), password, address):
            log.warn("a wrong login from {address}", address=address)
            return None
        if username not in self._hashes:
            return None
        self._verified[username] = seen
        return username

    async def _verify(self, password_hash: str, password: str, address: str) -> bool:
        """Verify in a thread, one login of an address at a time."""
        lock = self._addresses.setdefault(address, DeferredLock())
        self._waiting[address] += 1
        try:
            await lock.acquire()
            try:
                await self._threads.acquire()
                return await self._in_thread(password_hash, password)
            finally:
                lock.release()
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]
                self._addresses.pop(address, None)

    def _in_thread(self, password_hash: str, password: str) -> "Deferred[bool]":
        """Verify in a thread, which counts until it has ended, even where nobody waits for it any more."""
        verified: Deferred[bool] = Deferred()

        def ended(result: Any) -> Any:
            self._threads.release()
            return result

        running = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), verify, password_hash, password)
        running.addBoth(ended).addCallbacks(verified.callback, verified.errback)
        return verified

    def _mark(self, username: str, password: str) -> bytes:
        text = f"{username}\0{password}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key).digest()
