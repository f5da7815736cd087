"""Whether a body comes fast enough."""

import pytest

from datamover.api.http.pace import BodyPace, ConnectionTimeouts

PACE = ConnectionTimeouts(silence=20.0, window=30.0, slowest=100, stranger=25.0)


def test_what_was_sent_buys_no_time() -> None:
    """Bytes of one window do not count in the next one."""
    body = BodyPace(PACE, 0.0)
    body.came(10**9, 1.0)
    assert body.left(1.0) == 20.0
    body.came(1, 20.0)
    assert body.left(30.0) > 0
    body.came(1, 40.0)
    assert body.left(59.0) > 0
    body.came(1, 59.0)
    assert body.left(60.0) == 0.0


def test_a_steady_body() -> None:
    """A body at the minimum rate may take any time."""
    body = BodyPace(PACE, 0.0)
    for second in range(1, 10_000):
        body.came(100, float(second))
        assert body.left(float(second)) > 0


@pytest.mark.parametrize(("now", "left"), [(0.0, 20.0), (19.0, 1.0), (20.0, 0.0), (25.0, 0.0)])
def test_silence(now: float, left: float) -> None:
    """A body that stops is waited for until the time limit of a silence."""
    assert BodyPace(PACE, 0.0).left(now) == left


def test_what_is_not_read_is_not_slow() -> None:
    """In a window in which it was not read for a while a body may bring less."""
    body = BodyPace(PACE, 0.0)
    body.waited()
    body.came(1, 29.0)
    assert body.left(30.0) > 0
    body.came(1, 45.0)
    assert body.left(60.0) == 0.0


def test_a_stranger_has_less_time() -> None:
    """A body that is thrown away has a time limit, however fast it comes."""
    body = BodyPace(PACE, 0.0)
    body.stranger = True
    for second in range(1, 25):
        body.came(10**6, float(second))
        assert body.left(float(second)) > 0
    assert body.left(25.0) == 0.0
