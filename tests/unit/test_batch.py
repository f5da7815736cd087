"""Batches, and finding the item that makes one fail."""

from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.python.failure import Failure

from datamover.concurrency.batcher import HOPELESS, PATIENCE, Batch, away, bisect_batch
from datamover.errors import NotNow, Unavailable
from tests.unit.outcomes import failure

T = TypeVar("T")


class Doing:
    """Does all items of a call, or none if one of them is to be refused."""

    def __init__(self, refused: dict[int, Exception]) -> None:
        self.refused = refused
        self.done: list[int] = []
        self.calls = 0

    async def __call__(self, items: Sequence[int]) -> Sequence[int | Failure]:
        self.calls += 1
        for item in items:
            if item in self.refused:
                raise self.refused[item]
        self.done += items
        return [item * 10 for item in items]


def result(asked: Coroutine[Any, Any, T] | Deferred[T]) -> Any:
    found: list[Any] = []
    ensureDeferred(asked).addBoth(found.append)
    return found[0]


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_what_is_refused_stands_alone(count: int, refused: set[int]) -> None:
    """Everything else is done, once and in order; each that is refused has its own error."""
    errors = {item: ValueError(str(item)) for item in refused}
    doing = Doing(dict(errors))
    answers = result(bisect_batch(doing, range(count)))
    assert len(answers) == count
    for item, answer in enumerate(answers):
        if item in refused:
            assert answer.value is errors[item]
        else:
            assert answer == item * 10
    assert doing.done == [item for item in range(count) if item not in refused]


def test_costs_little() -> None:
    """To find one among many takes as many calls as it can be halved, twice."""
    doing = Doing({37: ValueError()})
    result(bisect_batch(doing, range(64)))
    assert doing.calls == 13
    well = Doing({})
    result(bisect_batch(well, range(64)))
    assert well.calls == 1


def test_a_database_that_is_away() -> None:
    """What was done before stays done; nothing more is tried."""
    doing = Doing({3: ValueError(), 5: Unavailable("away")})
    answers = result(bisect_batch(doing, range(8)))
    assert doing.done == [0, 1, 2]
    assert isinstance(answers[3].value, ValueError)
    assert all(away(answer) for answer in answers[4:])
    assert not any(away(answer) for answer in answers[:4])


@given(st.sets(st.integers(0, 63), max_size=2))
def test_what_the_database_does_not_do_now(refused: set[int]) -> None:
    """One or two that fail temporarily delay no other, and fail with their own error."""
    doing = Doing({item: NotNow("too busy") for item in refused})
    answers = result(bisect_batch(doing, range(64)))
    assert doing.done == [item for item in range(64) if item not in refused]
    assert {item for item, answer in enumerate(answers) if isinstance(answer, Failure)} == refused
    assert not any(away(answer) for answer in answers)


def test_a_database_that_puts_everything_off() -> None:
    """It is not asked for each: the rest is left for later."""
    doing = Doing({item: NotNow("read-only") for item in range(1000)})
    answers = result(bisect_batch(doing, range(1000)))
    assert doing.calls == PATIENCE
    assert len(answers) == 1000
    assert away(answers[-1])
    assert str(answers[-1].value) == "read-only"


def test_a_database_that_refuses_everything() -> None:
    """A database that refuses everything is not asked for each item; one that takes some is."""
    doing = Doing({item: ValueError(str(item)) for item in range(1000)})
    answers = result(bisect_batch(doing, range(1000)))
    assert doing.calls < 3 * HOPELESS
    assert [isinstance(answer.value, ValueError) for answer in answers] == [True] * HOPELESS + [False] * (
        1000 - HOPELESS
    )
    assert away(answers[-1])
    doing = Doing({item: ValueError() for item in range(1000) if item % 10})
    result(bisect_batch(doing, range(1000)))
    assert doing.done == list(range(0, 1000, 10))


def test_cancelling() -> None:
    """Cancelling is no refusal."""
    doing = Doing({1: CancelledError()})
    assert isinstance(result(bisect_batch(doing, range(4))).value, CancelledError)
    assert doing.calls == 1


@pytest.mark.parametrize("answers", [[], [1, 2, 3]])
def test_a_wrong_number_of_answers(answers: list[int]) -> None:
    """A batch whose owner answers too little or too much tells so to those who asked, and goes on."""
    given_up = [answers, [7]]

    async def do(items: Sequence[int]) -> Sequence[int]:
        return given_up.pop(0)

    batch: Batch[int, int] = Batch(do, 4)
    assert isinstance(failure(batch.add(1)), ValueError)
    assert result(batch.add(1)) == 7
