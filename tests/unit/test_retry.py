"""Whether and when to try again."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from datamover import errors
from datamover.bounds.servers import LONGEST_PAUSE_BETWEEN
from datamover.config.schema import Transfers
from datamover.errors import DataMoverError, RequestError
from datamover.jobs.queue.retry import PATIENT, RetryDecision, judge
from datamover.jobs.values import State

SETTINGS = Transfers(retry_base=5, retry_cap=600)
FAMILY = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, DataMoverError) and not issubclass(value, RequestError)
]


def verdict(error: DataMoverError, **more: Any) -> RetryDecision:
    facts: dict[str, Any] = {"failures": 0, "claims": 1, "max_attempts": 5, "forward": False, "settings": SETTINGS}
    return judge(error, **{**facts, "random": lambda: 1.0, **more})


def test_what_cannot_pass_fails_at_once() -> None:
    """An error that is not retryable ends it, even where the attempt moved the file forward."""
    assert verdict(errors.SourceNotFound("x"), forward=True) == RetryDecision(State.FAILED, 1)


def test_pauses_double_up_to_the_cap() -> None:
    """Each failure doubles the pause, until the cap."""
    pauses = [verdict(errors.ConnectionLost("x"), failures=number, max_attempts=100).pause for number in range(9)]
    assert pauses == [5, 10, 20, 40, 80, 160, 320, 600, 600]


def test_jitter_takes_off_half_at_most() -> None:
    """The pause is between half of it and the whole."""
    assert verdict(errors.TimedOut("x"), random=lambda: 0.0).pause == 2.5
    assert verdict(errors.TimedOut("x"), random=lambda: 1.0).pause == 5


def test_the_last_attempt() -> None:
    """As many failures as attempts are allowed end it."""
    assert verdict(errors.TimedOut("x"), failures=3).state is State.PENDING
    assert verdict(errors.TimedOut("x"), failures=4) == RetryDecision(State.FAILED, 5)
    assert verdict(errors.TimedOut("x"), max_attempts=1).state is State.FAILED


def test_what_moved_forward_does_not_count() -> None:
    """An attempt that brought the file forward uses none up, and the pause does not grow."""
    assert verdict(errors.ConnectionLost("x"), failures=4, forward=True).failures == 4
    assert verdict(errors.ConnectionLost("x"), failures=0, forward=True) == RetryDecision(State.PENDING, 0, 5)


def test_worthless_bytes_always_count() -> None:
    """A mismatch uses an attempt up whatever was moved."""
    assert verdict(errors.ChecksumMismatch("x"), failures=4, forward=True) == RetryDecision(State.FAILED, 5)


def test_a_full_disk_begins_at_the_longest_pause() -> None:
    """Where trying again soon is useless, the first pause is the cap."""
    assert verdict(errors.NoSpace("x")).pause == 600


def test_the_other_side_may_ask_for_more() -> None:
    """A Retry-After counts where it is longer than our own pause, up to a day."""
    assert verdict(errors.RateLimited("x", retry_after=1)).pause == 5
    assert verdict(errors.RateLimited("x", retry_after=3600)).pause == 3600
    assert verdict(errors.RateLimited("x", retry_after=1e9)).pause == LONGEST_PAUSE_BETWEEN


def test_who_is_asked_to_come_later_waits() -> None:
    """Attempts that the other side asked to come later use none up for a while, and the pauses grow; then they do."""
    decisions = [verdict(errors.RateLimited("x"), claims=number) for number in range(1, PATIENT + 1)]
    assert [each.failures for each in decisions] == [0] * PATIENT
    assert [each.pause for each in decisions[:9]] == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert verdict(errors.RateLimited("x"), claims=1, max_attempts=1).state is State.PENDING
    assert verdict(errors.RateLimited("x"), claims=PATIENT + 1) == RetryDecision(State.PENDING, 1, 600)
    assert verdict(errors.RateLimited("x"), claims=PATIENT + 5, failures=4) == RetryDecision(State.FAILED, 5)
    # What it brought forward shows that it is served: the next attempt comes soon.
    assert verdict(errors.ServerError("x", retry_after=0), claims=3) == RetryDecision(State.PENDING, 0, 20)
    assert verdict(errors.SizeMismatch("x", retry_after=0), claims=3) == RetryDecision(State.PENDING, 1, 20)
    assert verdict(errors.RateLimited("x"), claims=9, forward=True) == RetryDecision(State.PENDING, 0, 5)


@given(
    error=st.sampled_from(FAMILY),
    failures=st.integers(0, 10**6),
    claims=st.integers(1, 10**6),
    max_attempts=st.integers(1, 10**6),
    forward=st.booleans(),
    chance=st.floats(0, 1),
    base=st.floats(0.001, 1e5),
    cap=st.floats(0.001, 1e5),
    retry_after=st.none() | st.floats(0, 1e12),
)
def test_bounds(
    error: type[DataMoverError],
    failures: int,
    claims: int,
    max_attempts: int,
    forward: bool,
    chance: float,
    base: float,
    cap: float,
    retry_after: float | None,
) -> None:
    """Whatever happened: a pause within its bounds, never fewer failures, never an attempt too many."""
    found = judge(
        error("x", retry_after=retry_after),
        failures=failures,
        claims=claims,
        max_attempts=max_attempts,
        forward=forward,
        settings=Transfers(retry_base=base, retry_cap=cap),
        random=lambda: chance,
    )
    assert found.failures - failures in (0, 1)
    assert found.state in (State.PENDING, State.FAILED)
    if found.state is State.FAILED:
        assert not error.retryable or found.failures >= max_attempts
        assert found.pause == 0
    else:
        assert error.retryable
        asked = error is errors.RateLimited or retry_after is not None
        assert found.failures < max_attempts or (asked and not error.bounded and claims <= PATIENT)
        assert min(base, cap) / 2 <= found.pause <= max(cap, min(retry_after or 0, LONGEST_PAUSE_BETWEEN))
