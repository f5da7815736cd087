"""What is told of a database that is away, and which errors are worth the same call again."""

import psycopg2
import pytest
from psycopg2.errors import DeadlockDetected, ReadOnlySqlTransaction
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from datamover.concurrency.batcher import REFUSES, bisect_batch
from datamover.errors import DatabaseAway, NotNow, Unavailable
from datamover.postgres.failures import AWAY, ONLY_READS, UNCERTAIN, database_away, meaning
from datamover.postgres.hosts import _together

REASON = 'connection to server at "db.example.org" failed: Connection refused'


class OnlyReads(ReadOnlySqlTransaction):
    """As the server sends it: with its code."""

    pgcode = "25006"


class Deadlock(DeadlockDetected):
    pgcode = "40P01"


def test_a_lost_connection() -> None:
    """It is DatabaseAway, with the words and the code of any refusal, and the reason for administrators alone."""
    error = meaning(psycopg2.OperationalError(REASON), closed=True, decisive=False)
    assert isinstance(error, DatabaseAway)
    assert (error.code, error.fault, error.retryable) == ("UNAVAILABLE", 1012, True)
    assert error.message == AWAY
    assert error.full == f"{AWAY} ({REASON})"
    assert error.for_administrators().message == error.full
    assert isinstance(error.for_administrators(), DatabaseAway)


def test_what_may_be_stored_is_not_called_again() -> None:
    """A connection that is lost under what commits is another error."""
    error = meaning(psycopg2.OperationalError(REASON), closed=True, decisive=True)
    assert type(error) is Unavailable
    assert error.message == UNCERTAIN


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(OnlyReads("read-only"), ONLY_READS), (Deadlock("deadlock detected"), "deadlock detected")],
)
def test_what_the_database_does_not_do_now_is_not_called_again(cause: Exception, reason: str) -> None:
    """A database that answers is not away, whatever the words."""
    error = meaning(cause, closed=False, decisive=False)
    assert isinstance(error, NotNow)
    assert not isinstance(error, DatabaseAway)
    assert (error.message, error.full) == (AWAY, f"{AWAY} ({reason})")


def test_several_hosts() -> None:
    """The reasons of all hosts are told in one error."""
    error = _together([database_away("a: refused"), database_away("b: no route"), database_away("a: refused")])
    assert isinstance(error, DatabaseAway)
    assert (error.message, error.full) == (AWAY, f"{AWAY} (a: refused; b: no route)")
    assert database_away().full == AWAY


@pytest.mark.parametrize(
    ("cause", "message", "full"),
    [
        (NotNow(AWAY, full=f"{AWAY} ({REASON})"), AWAY, f"{AWAY} ({REASON})"),
        (ValueError(REASON), REFUSES, f"{REFUSES} ({REASON})"),
    ],
)
def test_the_rest_of_a_batch(cause: Exception, message: str, full: str) -> None:
    """What was not tried, since others failed, does not tell clients what the database says."""

    async def refuse(items: object) -> list[object]:
        raise cause

    answers: list[list[object]] = []
    Deferred.fromCoroutine(bisect_batch(refuse, range(1000))).addCallback(answers.append)
    ((*_, last),) = answers
    assert isinstance(last, Failure)
    assert isinstance(last.value, Unavailable)
    assert not isinstance(last.value, DatabaseAway)
    assert (last.value.message, last.value.full) == (message, full)
