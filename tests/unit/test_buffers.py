"""The bytes that streams share."""

from datamover.concurrency.buffer_budgets import Buffers


def test_shares() -> None:
    """Each stream has its share of the whole, within the bounds, and gives it back once."""
    buffers = Buffers(1000, least=50, most=400)
    assert buffers.size == 400
    leaving = [buffers.join() for _ in range(4)]
    assert buffers.size == 250
    leaving += [buffers.join() for _ in range(96)]
    assert buffers.size == 50
    for leave in leaving[:98]:
        leave()
        leave()
    assert buffers.size == 400
