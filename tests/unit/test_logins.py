"""Names and passwords."""

import time

import pytest
import pytest_twisted
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from datamover.config import Client
from datamover.errors import ConfigError
from datamover.failures import FREE, Failures
from datamover.logins import QUEUE, Logins, hash_of_nothing, hash_password, verify

HASH = hash_password("pässword")


def logins(*, first: float = 0.001, longest: float = 0.002) -> Logins:
    """Return logins that make who fails wait for so long."""
    clients = {
        "portal": Client(password_hash=HASH),
        "other": Client(password_hash=hash_password("x")),
        "bearer": Client(certificate="dns:bearer"),
    }
    return Logins(clients, reactor, Failures(reactor.seconds, first=first, longest=longest))


def test_hashes() -> None:
    """A hash tells the password it was made of from every other, and never the same way twice."""
    assert HASH.startswith("$argon2id$")
    assert hash_password("pässword") != HASH
    assert verify(HASH, "pässword")
    assert not verify(HASH, "password")
    assert not verify("nonsense", "password")


def test_a_hash_of_nothing() -> None:
    """What an unknown name is checked against costs what a password's hash does, and is no password's."""
    nothing = hash_of_nothing()
    assert extract_parameters(nothing) == extract_parameters(HASH)
    with pytest.raises(VerifyMismatchError):  # It was computed, and not found to be no hash.
        PasswordHasher().verify(nothing, "")
    assert hash_of_nothing() != nothing


def test_not_a_hash() -> None:
    """A password in the hash's place is refused, and not repeated."""
    with pytest.raises(ConfigError, match="hash-password") as refusal:
        Logins({"portal": Client(password_hash="hunter2")}, reactor)
    assert "hunter2" not in refusal.value.message


@pytest_twisted.ensureDeferred
async def test_right_and_wrong() -> None:
    """The right password gives the client's name; a wrong one, an unknown name and another's password give None."""
    known = logins()
    assert await known.check("portal", "pässword", "a") == "portal"
    assert await known.check("portal", "pässword", "a") == "portal"
    assert await known.check("portal", "wrong", "a") is None
    assert await known.check("portal", "\udcff", "a") is None
    assert await known.check("nobody", "pässword", "a") is None
    assert await known.check("bearer", "", "a") is None
    assert await known.check("other", "pässword", "a") is None
    assert await known.check("other", "x", "a") == "other"


@pytest_twisted.ensureDeferred
async def test_remembered() -> None:
    """A login that was right once costs no hash again."""
    known = logins()
    await known.check("portal", "pässword", "a")
    began = time.monotonic()
    for _ in range(1000):
        assert await known.check("portal", "pässword", "b") == "portal"
    assert time.monotonic() - began < 1


@pytest_twisted.ensureDeferred
async def test_guessing_does_not_stall_others() -> None:
    """While one address guesses, another is served before the guesses are through, and the queue stays short."""
    known = logins()
    ended: list[str] = []

    async def guess(number: int) -> None:
        assert await known.check("portal", str(number), "guesser") is None
        ended.append("guess")

    async def log_in() -> None:
        assert await known.check("portal", "pässword", "client") == "portal"
        ended.append("login")

    guesses = [Deferred.fromCoroutine(guess(number)) for number in range(QUEUE + 20)]
    assert len(ended) == 20
    await gatherResults([*guesses, Deferred.fromCoroutine(log_in())])
    assert ended.index("login") < 20 + 4


@pytest_twisted.ensureDeferred
async def test_cancelled() -> None:
    """Who gives up waiting leaves the queue as it was."""
    known = logins()
    waiting = [Deferred.fromCoroutine(known.check("portal", "wrong", "a")) for _ in range(QUEUE)]
    for one in waiting:
        one.cancel()
    for one in waiting:
        with pytest.raises(CancelledError):
            await one
    assert await known.check("portal", "pässword", "a") == "portal"


@pytest_twisted.ensureDeferred
async def test_failures_slow_the_next() -> None:
    """Who fails waits, by address and by name; others and who was right before do not; no password is in the log."""
    known = logins(first=3600, longest=3600)
    told: list[str] = []

    @provider(ILogObserver)
    def observer(event: LogEvent) -> None:
        told.append(str(event["log_format"]).format_map(event))

    assert await known.check("portal", "pässword", "client") == "portal"
    globalLogPublisher.addObserver(observer)
    try:
        for _ in range(FREE - 1):
            await known.check("portal", "hunter2", "guesser")
        await known.check("hunter2", "hunter2", "guesser")
        await known.check("portal", "hunter2", "elsewhere")
    finally:
        globalLogPublisher.removeObserver(observer)
    slowed = [
        Deferred.fromCoroutine(known.check(name, password, address))
        for name, password, address in (("other", "x", "guesser"), ("portal", "pässword?", "another"))
    ]
    assert await known.check("other", "x", "another one") == "other"
    assert await known.check("portal", "pässword", "guesser") == "portal"
    for waiting in slowed:
        assert not waiting.called
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
    mistakes = ["'portal' from guesser"] * (FREE - 1) + ["an unknown name from guesser", "'portal' from elsewhere"]
    assert told == [f"a wrong login as {mistake}" for mistake in mistakes]
