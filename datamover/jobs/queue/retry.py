"""Whether and when to try a failed transfer again. Pure.

An attempt that moved the file forward is not counted; one whose bytes turned out to be wrong always is. One that was
asked to come later is not counted for a while, for waiting is what was asked for. Pauses grow exponentially, with
jitter, up to a cap (AWS Architecture Blog, "Exponential Backoff And Jitter").
"""

from collections.abc import Callable
from dataclasses import dataclass

from datamover.bounds.servers import LONGEST_PAUSE_BETWEEN
from datamover.config.schema import Transfers
from datamover.errors import DataMoverError, RateLimited
from datamover.jobs.values import State

MANY = 60
"""Failures after which the pause has certainly reached its cap."""
PATIENT = 12
"""Claims of a transfer up to which an attempt that was asked to come later is not counted: with the settings' defaults,
three quarters of an hour."""


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """The consequence of a failed attempt."""

    state: State
    """PENDING: to be tried again after ``pause`` seconds; or FAILED."""
    failures: int
    """Attempts that count so far, including this one if it counts."""
    pause: float = 0.0


def backoff(failures: int, settings: Transfers, random: Callable[[], float]) -> float:
    """Return the seconds to wait after ``failures`` failures; ``random`` returns numbers from 0 to 1."""
    pause = min(settings.retry_cap, settings.retry_base * 2.0 ** max(0, min(failures, MANY) - 1))
    return pause * (0.5 + random() / 2)


def judge(
    error: DataMoverError,
    *,
    failures: int,
    claims: int,
    max_attempts: int,
    forward: bool,
    settings: Transfers,
    random: Callable[[], float],
) -> RetryDecision:
    """Decide what follows from an attempt that ended in ``error``.

    ``claims`` tells how often the transfer was claimed since a client submitted or retried it, this time included;
    ``forward``, whether the attempt left more in place than it found; ``random`` returns numbers from 0 to 1.
    """
    later = isinstance(error, RateLimited) or error.retry_after is not None
    free = not error.bounded and (forward or (later and claims <= PATIENT))
    failures += 0 if free and error.retryable else 1
    if not error.retryable or failures >= max_attempts:
        return RetryDecision(State.FAILED, failures)
    tried = MANY if error.slow else max(failures, claims if later and not forward else 0)
    pause = backoff(tried, settings, random)
    if error.retry_after is not None:
        pause = max(pause, min(error.retry_after, LONGEST_PAUSE_BETWEEN))
    return RetryDecision(State.PENDING, failures, pause)
