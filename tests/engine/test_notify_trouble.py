"""Telling clients of the ends of their jobs, whatever receivers do and whoever dies: until it is acknowledged."""

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet import reactor

from datamover.errors import ConnectionLost
from datamover.notices.notifier import NotifierLimits
from datamover.notices.queue import Notices
from datamover.web.policy import SourcePolicy
from tests.engine.post import Post, answering, opened, read
from tests.servers.exchange import Exchange
from tests.servers.web import Web, redirect, silent, status
from tests.waiting import until


@pytest_twisted.async_yield_fixture
async def post(tmp_path: Path) -> Any:
    post = await opened(tmp_path)
    yield post
    await post.close()


@pytest_twisted.ensureDeferred
async def test_refused_and_then_taken(post: Post) -> None:
    """What is answered otherwise than by 2xx is sent again, with the same id; the history tells of each attempt."""
    post.web.route("/moved", answering(500, 404, 200))
    await post.notifier()
    number = await post.ended()
    await post.told(number, "notified")

    told = [read(request) for request in post.web.asked("/moved")]
    assert [one["attempt"] for one in told] == [1, 2, 3]
    assert len({one["id"] for one in told}) == 1
    assert await post.kinds(number) == ["notify_failed", "notify_failed", "notified"]
    first = (await post.told(number, "notify_failed"))[0].details
    assert first["error"] == {
        "code": "SERVER_ERROR",
        "message": f"{post.web.url}/moved answered 500 Internal Server Error",
    }
    assert first["next_retry_at"].endswith("Z")


@pytest_twisted.ensureDeferred
async def test_retry_after(post: Post) -> None:
    """A receiver that asks for a pause gets it."""
    post.web.route("/moved", status(503, [("Retry-After", "3600")]))
    await post.notifier()
    number = await post.ended()
    await post.told(number, "notify_failed")
    [row] = await post.rig.database.fetch("SELECT next_attempt_at - now() > interval '59 min' AS later FROM notices")
    assert row["later"]


@pytest_twisted.ensureDeferred
async def test_redirects_are_not_followed(post: Post) -> None:
    """A redirect acknowledges nothing, and nothing is sent to where it leads."""
    post.web.route("/moved", redirect("/elsewhere"))
    await post.notifier()
    number = await post.ended()
    [failed, *_] = await post.told(number, "notify_failed")
    assert "302" in failed.details["error"]["message"]
    assert post.web.asked("/elsewhere") == []


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_is_away(post: Post) -> None:
    """A notice waits for a receiver that is down, and is delivered when it is up."""
    post.web.route("/moved", status(200))
    await post.web.stop(for_a_while=True)
    await post.notifier()
    number = await post.ended()
    [failed, *_] = await post.told(number, "notify_failed", 2)
    assert failed.details["error"]["code"] == "CONNECT_FAILED"
    await post.web.start()
    await post.told(number, "notified")
    assert len(post.web.asked("/moved")) == 1


@pytest_twisted.ensureDeferred
async def test_nobody_there_to_send_it(post: Post) -> None:
    """A job that ends while no engine runs is told of when one is started."""
    post.web.route("/moved", status(200))
    number = await post.ended()
    assert post.web.requests == []
    await post.notifier()
    await post.told(number, "notified")


@pytest_twisted.ensureDeferred
async def test_stopped_while_sending(post: Post) -> None:
    """What a notifier that stops was sending is another's at once, with the same id."""
    post.web.route("/moved", silent)
    first = await post.notifier(lease=3600.0)
    number = await post.ended()
    await until(lambda: post.web.asked("/moved"))
    await first.stop(0.05)

    post.web.route("/moved", status(200))
    await post.notifier()
    await post.told(number, "notified")
    [before, after] = map(read, post.web.asked("/moved"))
    assert before["id"] == after["id"]


@pytest_twisted.ensureDeferred
async def test_dead_while_sending(post: Post) -> None:
    """What a notifier that dies was sending is another's after the lease; the dead one's word no longer counts."""
    post.web.route("/moved", status(200))
    number = await post.ended()
    dead = Notices(post.rig.database, post.rig.seal, 0.5)
    [taken] = await dead.claim(1, 1, 1)
    await post.notifier()
    assert await post.kinds(number) == []
    await post.told(number, "notified")
    await dead.put_off(taken, ConnectionLost("gone"), 0.0)
    await dead.release([taken])
    await dead.delivered(taken)
    assert await post.kinds(number) == ["notified"]
    assert [read(request)["attempt"] for request in post.web.asked("/moved")] == [2]


@pytest_twisted.ensureDeferred
async def test_a_slow_receiver_holds_nobody_up(post: Post) -> None:
    """Many notices for a receiver that never answers leave those of another alone."""
    dead = Web(reactor)
    dead.route("/moved", silent)
    await dead.start()
    try:
        for _ in range(20):
            await post.ended_for(f"{dead.url}/moved")
        post.web.route("/moved", status(200))
        number = await post.ended()
        await post.notifier(limits=NotifierLimits(poll=0.05, timeout=20.0))
        await post.told(number, "notified", seconds=5.0)
        assert len(dead.asked("/moved")) <= 2
    finally:
        await dead.stop()


@pytest_twisted.ensureDeferred
async def test_one_clients_slow_receivers_hold_no_other_up(post: Post) -> None:
    """However many receivers of a client's never answer, half of the notices under way are for others."""
    dead = [Web(reactor), Web(reactor)]
    try:
        for web in dead:
            web.route("/moved", silent)
            await web.start()
            for _ in range(2):
                await post.ended_for(f"{web.url}/moved", owner="greedy")
        post.web.route("/moved", status(200))
        number = await post.ended(owner="other")
        await post.notifier(limits=NotifierLimits(at_once=4, per_owner=2, poll=0.05, timeout=20.0))
        await post.told(number, "notified", seconds=5.0)
        assert sum(len(web.asked("/moved")) for web in dead) <= 2
    finally:
        for web in dead:
            await web.stop()


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_does_not_answer(post: Post) -> None:
    """A receiver has so many seconds for its whole answer."""
    post.web.route("/moved", silent)
    await post.notifier(limits=NotifierLimits(poll=0.05, timeout=0.2))
    number = await post.ended()
    [failed, *_] = await post.told(number, "notify_failed")
    assert failed.details["error"]["code"] == "TIMED_OUT"


@pytest_twisted.ensureDeferred
async def test_an_endless_answer(post: Post) -> None:
    """An answer's status acknowledges, and of its body no more is read than a beginning."""

    async def endless(exchange: Exchange) -> None:
        exchange.write(exchange.head(200, [("Content-Length", str(10**12))]))
        while not exchange.gone:
            exchange.write(b"x" * 65536)
            await exchange.pause(0.01)

    post.web.route("/moved", endless)
    await post.notifier()
    await post.told(await post.ended(), "notified")
    await until(lambda: post.web.open_connections == 0)


@pytest_twisted.ensureDeferred
async def test_an_address_that_is_not_allowed(post: Post) -> None:
    """An address that ``[sources]`` does not allow is not connected to, even where the URL was accepted earlier."""
    post.web.route("/moved", status(200))
    await post.notifier(policy=SourcePolicy())
    by_address = await post.ended()
    by_name = await post.ended_for(f"{post.web.url_of('localhost')}/moved")
    for number in (by_address, by_name):
        [failed, *_] = await post.told(number, "notify_failed")
        assert failed.details["error"]["code"] == "SOURCE_NOT_ALLOWED"
    assert post.web.requests == []
