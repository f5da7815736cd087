"""Whether and when a request is sent again within an attempt."""

import pytest

from datamover import errors
from datamover.bounds.servers import LONGEST_PAUSE_WITHIN
from datamover.errors import DataMoverError
from datamover.protocols.again import TRIES, pause_before


def pauses(error: DataMoverError, chance: float = 1.0) -> list[float]:
    """Return the pauses between all tries of a request that always meets ``error``."""
    found: list[float] = []
    while (pause := pause_before(len(found) + 1, error, lambda: chance)) is not None:
        found.append(pause)
    return found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.ConnectionLost("x"), [0, 0.5, 1, 2, 4]),
        (errors.ServerError("x"), [0, 0.5, 1, 2, 4]),
        (errors.ServerError("x", retryable=False), []),
        (errors.RateLimited("x"), [0.25, 0.5, 1, 2, 4]),
        (errors.RateLimited("x", retry_after=1.5), [1.5, 1.5, 1.5, 2, 4]),
        (errors.RateLimited("x", retry_after=LONGEST_PAUSE_WITHIN + 1), []),
        (errors.ServerError("x", retry_after=1.0), [1, 1, 1, 2, 4]),
        (errors.Stalled("x"), []),
        (errors.NoSpace("x"), []),
        (errors.DestinationForbidden("x"), []),
    ],
)
def test_pauses(error: DataMoverError, expected: list[float]) -> None:
    """Pauses grow, heed what the service asks for, and end; what does not pass by itself is not tried again."""
    assert pauses(error) == expected
    assert len(expected) in (0, TRIES - 1)


def test_jitter() -> None:
    """Requests that were refused together do not come again together; none comes sooner than it was asked to."""
    assert pauses(errors.RateLimited("x"), 0.0) == [0.125, 0.25, 0.5, 1, 2]
    assert pauses(errors.RateLimited("x", retry_after=1.5), 0.0) == [1.5, 1.5, 1.5, 1.5, 2]
