"""A database that refuses what one transfer tells, or one thing at all: the service goes on, and readiness is true."""

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.integration.test_monitor import base, get, scraped, value
from tests.integration.test_supervised import Listener
from tests.servers import postgres
from tests.servers.exchange import Exchange
from tests.servers.refusing import Refusal
from tests.servers.service import Service
from tests.servers.web import File, Handler, Web
from tests.waiting import wait_until

FILES = 120
LIARS = {17: 2**63, 18: 2**62, 19: 2**62}
"""Bytes that servers announce of some of the files: more than a bigint holds, and more than their sum may come to."""
POISON, STUBBORN = 40, 60
"""A file whose size the database refuses, and one of which it takes nothing at all."""
FAILED = [*LIARS, POISON]

TABLES = """lease = "3s"
{more}[database]
url = "{url}"
[sources]
allow = ["http://127.0.0.1:*/"]
[transfers]
max_attempts = 2
retry_base = "100ms"
[destinations.archive]
url = "file://{directory}/archive"
max_active = 16
"""


def service_on(directory: Path, url: str, more: str = "") -> Service:
    return Service(directory, TABLES.format(directory=directory, url=url, more=more))


def sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    return postgres.shared().server.run(statement, database=url.rpartition("/")[2])


@pytest_twisted.ensureDeferred
async def test_a_liar_among_many(open_directory: Path) -> None:
    """A server that announces 2^63 bytes, and rows that the database refuses, cost their own files and no other.

    Nor do they keep a process that is started anew from working.
    """
    web = Web(reactor)

    def lying(size: int) -> Handler:
        async def lie(exchange: Exchange) -> None:
            exchange.write(exchange.head(200, [("Content-Length", str(size))]) + bytes(1000))
            await exchange.pause(3.0)
            exchange.close()

        return lie

    for number in range(FILES):
        web.route(f"/{number}", lying(LIARS[number]) if number in LIARS else File(b"x" * number, etag='"1"'))
    await web.start()
    try:
        await deferToThread(_liar_among_many, open_directory, web.url)
    finally:
        await web.stop()


def _liar_among_many(directory: Path, web: str) -> None:
    url = postgres.shared().fresh()
    service = service_on(directory, url)
    service.start()
    try:
        sql(url, Refusal("transfers", "UPDATE", f"NEW.index = {POISON} AND NEW.size IS NOT NULL", "22003").begin)
        stubborn = Refusal("transfers", "UPDATE", f"NEW.index = {STUBBORN}", "XX001")
        sql(url, stubborn.begin)
        paths = [str(number) for number in range(FILES)]
        wanted = [{"source": f"{web}/{path}", "destination": "archive", "path": path} for path in paths]
        job = service.proxy.jobs.submit({"files": wanted})["id"]
        wait_until(
            lambda: service.proxy.jobs.status(job)["files_completed"] == FILES - len(FAILED) - 1, "all the others"
        )
        wait_until(
            lambda: service.proxy.jobs.status(job)["files_failed"] == len(FAILED), "the end of those that can be ended"
        )
        assert value(scraped(base(service)), "loop_failures_total", loop="progress") > 0
        assert value(scraped(base(service)), "loop_failures_total", loop="claims") > 0

        service.kill()
        service.start()
        again = service.proxy.jobs.submit({**wanted[0], "path": "again"})["id"]
        assert service.ended(again)["status"] == "COMPLETED"
        wait_until(
            lambda: value(scraped(base(service)), "loop_failures_total", loop="claims"), "it is refused once more"
        )
        assert get(base(service) + "/health/ready").body == "ok\n"

        sql(url, stubborn.end)
        ended = service.ended(job)
        assert (ended["status"], ended["files_completed"]) == ("PARTIAL", FILES - len(FAILED))
        failed = service.proxy.jobs.files(job, {"status": "FAILED"})
        assert [file["index"] for file in failed] == FAILED
        assert failed[-1]["error"]["code"] == "INTERNAL"
        for number in set(range(FILES)) - set(FAILED):
            assert (directory / f"archive/{number}").stat().st_size == number
    finally:
        service.stop()


@pytest.mark.parametrize("processes", [1, 2])
def test_readiness_is_true(open_directory: Path, processes: int) -> None:
    """A loop that cannot go well is told of, in words, for as long as that is so: by health and to the manager."""
    url = postgres.shared().fresh()
    service = service_on(open_directory, url, f"engine_processes = {processes}\n")
    manager = Listener(str(open_directory / "notify"))
    service.launch({"NOTIFY_SOCKET": str(open_directory / "notify"), "WATCHDOG_USEC": "400000"})
    try:
        manager.until("READY", "1")
        sql(url, "ALTER TABLE sides RENAME TO hidden")
        whose = "engine process 1: " if processes > 1 else ""
        trouble = f"{whose}taking work from the queue (claims) failed, and has not succeeded since"
        page = base(service) + "/health/ready"
        answer = wait_until(lambda: trouble in (said := get(page)).body.splitlines() and said, "it is told")
        assert answer.status == 503
        heard = wait_until(
            lambda: [one for one in manager.until("WATCHDOG", "1") if trouble in one.get("STATUS", "")], "too"
        )
        assert "READY" not in heard[-1]
        assert get(base(service) + "/health/live").status == 200

        sql(url, "ALTER TABLE hidden RENAME TO sides")
        wait_until(lambda: get(page).body == "ok\n", "readiness")
        manager.until("STATUS", "ready")
        request = {"source": {"destination": "archive", "path": "a"}, "destination": "archive", "path": "b"}
        (open_directory / "archive").mkdir(exist_ok=True)
        (open_directory / "archive/a").write_bytes(b"a")
        assert service.ended(service.proxy.jobs.submit(request)["id"])["status"] == "COMPLETED"
    finally:
        service.stop()
        manager.close()
    assert service.log.read_text().count("taking work from the queue failed (claims)") > 1
