"""How far one file is."""

from datamover.engine.meter import Meter
from datamover.jobs.values import Checkpoint


def test_the_rate_is_what_moved_since() -> None:
    """The first sample sets the beginning, the second the rate, later ones smooth it."""
    meter = Meter(1, 1)
    meter.sample(10.0)
    assert meter.rate == 0
    meter.bytes_done = 1000
    meter.sample(11.0)
    assert meter.rate == 1000
    meter.bytes_done = 1500
    meter.sample(12.0)
    assert 500 < meter.rate < 1000


def test_a_rate_goes_down_to_nothing() -> None:
    """A stream that stands still is soon shown as such."""
    meter = Meter(1, 1)
    for second in range(2):
        meter.bytes_done = second * 1000
        meter.sample(float(second))
    for second in range(2, 22):
        meter.sample(float(second))
    assert meter.rate < 1


def test_the_same_moment_twice() -> None:
    """Two samples at one time do no harm."""
    meter = Meter(1, 1)
    meter.sample(1.0)
    meter.bytes_done = 5
    meter.sample(1.0)
    assert meter.rate == 0


def test_bytes_from_before_are_no_rate() -> None:
    """What an earlier attempt brought does not count as moved just now, and starting over is no negative rate."""
    meter = Meter(1, 1)
    meter.sample(0.0)
    meter.begin(10**9)
    meter.sample(1.0)
    assert meter.rate == 0
    meter.bytes_done += 100
    meter.sample(2.0)
    assert meter.rate == 100
    meter.bytes_done = 0
    meter.sample(3.0)
    assert meter.rate >= 0


def test_news_once() -> None:
    """What was told is not told again, unless it did not arrive."""
    meter = Meter(7, 3)
    first = meter.unwritten()
    assert first is not None
    assert (first.transfer, first.lease, first.stage) == (7, 3, "connecting")
    assert meter.unwritten() is None
    meter.forget_written()
    assert meter.unwritten() == first


def test_every_figure_is_news() -> None:
    """Bytes, size, stage, digest and checkpoint are told when they change."""
    meter = Meter(7, 3)
    meter.unwritten()
    changes = {
        "bytes_done": 5,
        "size": 10,
        "stage": "moving",
        "digest": "sha256:00",
        "checkpoint": Checkpoint("part", "identity", 5, "00"),
    }
    for name, value in changes.items():
        setattr(meter, name, value)
        told = meter.unwritten()
        assert told is not None
        assert getattr(told, name) == value
