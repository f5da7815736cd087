"""Names and passwords."""

import time

import pytest
import pytest_twisted
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerifyMismatchError
from twisted.internet import reactor, task
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from datamover.bounds.door import FREE_LOGIN_FAILURES, WAITING_LOGINS_OF_ONE
from datamover.config.schema import Client
from datamover.errors import ConfigError, Unavailable
from datamover.security import passwords
from datamover.security.login_throttle import Failures
from datamover.security.passwords import Logins, hash_password, unmatchable_hash, verify

HASH = hash_password("pässword")
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash


def logins(*, first: float = 0.001, longest: float = 0.002, patience: float = 10.0) -> Logins:
    """Return logins with these pauses, in seconds, after failures."""
    clients = {
        "portal": Client(password_hash=CHEAP("pässword")),
        "other": Client(password_hash=CHEAP("x")),
        "bearer": Client(certificate="dns:bearer"),
    }
    return Logins(clients, reactor, Failures(reactor.seconds, first=first, longest=longest), patience=patience)


def test_hashes() -> None:
    """A hash tells the password it was made of from every other, and never the same way twice."""
    assert HASH.startswith("$argon2id$")
    assert hash_password("pässword") != HASH
    assert verify(HASH, "pässword")
    assert not verify(HASH, "password")
    assert not verify("nonsense", "password")


def test_a_hash_of_nothing() -> None:
    """What an unknown name is checked against costs what a password's hash does, and is no password's."""
    nothing = unmatchable_hash(extract_parameters(HASH))
    assert extract_parameters(nothing) == extract_parameters(HASH)
    with pytest.raises(VerifyMismatchError):  # It was computed, and not found to be no hash.
        PasswordHasher().verify(nothing, "")
    assert unmatchable_hash(extract_parameters(HASH)) != nothing


@pytest_twisted.ensureDeferred
async def test_what_an_unknown_name_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as a known one, at whatever costs those were hashed, and always the same."""
    costs: dict[str, set[int]] = {}

    def verify(password_hash: str, password: str) -> bool:
        costs.setdefault(password, set()).add(extract_parameters(password_hash).memory_cost)
        return False

    monkeypatch.setattr(passwords, "verify", verify)
    dearer = PasswordHasher(time_cost=1, memory_cost=128, parallelism=1).hash("x")
    clients = {"cheap": Client(password_hash=CHEAP("x")), "dear": Client(password_hash=dearer)}
    known = Logins(clients, reactor, Failures(reactor.seconds, first=0, longest=0))
    for name in [f"nobody {number}" for number in range(20)] * 2:
        assert await known.check(name, name, "a") is None
    assert all(len(each) == 1 for each in costs.values())
    assert set.union(*costs.values()) == {64, 128}


@pytest_twisted.ensureDeferred
async def test_pauses_do_not_tell_names() -> None:
    """Names that are guessed side by side wait side by side, whether they are known or not."""
    known = logins(first=3600, longest=3600)
    for number in range(FREE_LOGIN_FAILURES):
        assert await known.check("portal", str(number), "guesser") is None
    before = len(reactor.getDelayedCalls())
    names = ("portal", "other", "unknown", "not known")
    waiting = [Deferred.fromCoroutine(known.check(name, "x?", "guesser")) for name in names]
    pauses = [call for call in reactor.getDelayedCalls() if call.getTime() - reactor.seconds() > 1000]
    assert len(pauses) == len(names)
    for each in waiting:
        each.cancel()
        with pytest.raises(CancelledError):
            await each
    assert len(reactor.getDelayedCalls()) == before


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
    began = time.process_time()
    for _ in range(1000):
        assert await known.check("portal", "pässword", "b") == "portal"
    assert time.process_time() - began < 1


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

    guesses = [Deferred.fromCoroutine(guess(number)) for number in range(WAITING_LOGINS_OF_ONE)]
    refused = Deferred.fromCoroutine(known.check("portal", "one too many", "guesser"))
    with pytest.raises(Unavailable):
        await refused
    await gatherResults([*guesses, Deferred.fromCoroutine(log_in())])
    assert ended.index("login") < WAITING_LOGINS_OF_ONE // 2


@pytest_twisted.ensureDeferred
async def test_guessing_one_name_does_not_stall_another_from_there() -> None:
    """Behind the address that guesses a name, another name's first login waits for no more than a pause and a hash."""
    known = logins()
    guesses = [
        Deferred.fromCoroutine(known.check("portal", str(number), "there"))
        for number in range(WAITING_LOGINS_OF_ONE - 1)
    ]
    assert await known.check("other", "x", "there") == "other"
    assert sum(guess.called for guess in guesses) < WAITING_LOGINS_OF_ONE // 2
    await gatherResults(guesses)


@pytest_twisted.ensureDeferred
async def test_one_hash_for_many() -> None:
    """The same login many times at once is looked at once, and counts as one that waits; all have its answer."""
    known = logins()
    right = [Deferred.fromCoroutine(known.check("portal", "pässword", "a")) for _ in range(1000)]
    wrong = [Deferred.fromCoroutine(known.check("portal", "wrong", "a")) for _ in range(1000)]
    assert known.waiting == 2
    right[0].cancel()
    with pytest.raises(CancelledError):
        await right[0]
    assert set(await gatherResults(right[1:])) == {"portal"}
    assert set(await gatherResults(wrong)) == {None}
    assert known.waiting == 0


@pytest_twisted.ensureDeferred
async def test_one_hash_after_one_that_was_given_up() -> None:
    """The end of a check that was given up while it ran does not keep later logins from sharing theirs."""
    slow = PasswordHasher(time_cost=10).hash("x")
    known = Logins({"portal": Client(password_hash=slow)}, reactor)
    given_up = Deferred.fromCoroutine(known.check("portal", "wrong", "a"))
    await task.deferLater(reactor, 0.05)
    given_up.cancel()
    with pytest.raises(CancelledError):
        await given_up
    later = Deferred.fromCoroutine(known.check("portal", "wrong", "a"))
    assert known.waiting == 2
    while known.waiting == 2:
        await task.deferLater(reactor, 0)
    assert len(known._cache.asking) == 1
    assert await later is None


@pytest_twisted.ensureDeferred
async def test_busy_is_not_wrong() -> None:
    """Who waits longer than a login may is told that it was not looked at, right or wrong, and may come again."""
    known = logins(first=3600, longest=3600, patience=1.0)
    for number in range(FREE_LOGIN_FAILURES):
        assert await known.check("portal", str(number), "there") is None
    with pytest.raises(Unavailable, match="ask again"):
        await known.check("portal", "pässword", "there")
    assert await known.check("other", "x", "elsewhere") == "other"


@pytest_twisted.ensureDeferred
async def test_another_configuration() -> None:
    """What was verified holds on where the hash is the same, and for nobody whose hash changed or who is gone."""
    known = logins()
    assert await known.check("portal", "pässword", "a") == "portal"
    assert await known.check("other", "x", "a") == "other"
    clients = {"portal": Client(password_hash=known._hashes["portal"]), "other": Client(password_hash=CHEAP("y"))}
    later = Logins(clients, reactor, before=known)
    assert Deferred.fromCoroutine(later.check("portal", "pässword", "a")).called
    assert await later.check("other", "x", "a") is None
    assert await later.check("other", "y", "a") == "other"
    gone = Logins({}, reactor, before=later)
    assert await gone.check("portal", "pässword", "a") is None


@pytest_twisted.ensureDeferred
async def test_who_goes_away_gains_nothing() -> None:
    """Logins that are given up while they are looked at have no more threads than others: one of an address."""
    known = logins()
    for number in range(WAITING_LOGINS_OF_ONE):
        guess = Deferred.fromCoroutine(known.check("portal", str(number), "there"))
        guess.cancel()
        with pytest.raises(CancelledError):
            await guess
    assert known._cache.threads._unfinished <= 1
    while known.waiting:
        await task.deferLater(reactor, 0.01)
    assert not known._cache.lines
    assert not known._cache.hashing


@pytest_twisted.ensureDeferred
async def test_cancelled() -> None:
    """A cancelled login leaves the queue."""
    known = logins()
    waiting = [Deferred.fromCoroutine(known.check("portal", "wrong", "a")) for _ in range(WAITING_LOGINS_OF_ONE)]
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
        for _ in range(FREE_LOGIN_FAILURES - 1):
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
    mistakes = ["'portal' from guesser"] * (FREE_LOGIN_FAILURES - 1) + [
        "an unknown name from guesser",
        "'portal' from elsewhere",
    ]
    assert told == [f"a wrong login as {mistake}" for mistake in mistakes]
