"""Notices as clients meet them: refused where they could not be signed or sent, and sent by whole processes."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from xmlrpc.client import ServerProxy

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from datamover.config.schema import Client, Sources
from datamover.config.schema import Service as ServiceTable
from datamover.jobs.values import State
from tests.engine.post import headers, verified
from tests.fakes import PlainLogins
from tests.servers import postgres
from tests.servers.door import Door, config_of, faulted, one
from tests.servers.service import Service
from tests.servers.web import Web, status
from tests.waiting import until

SECRET = "s3cret-of-the-portal"
TOLD = "https://portal.example.org/moved?key=k3y"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest_twisted.async_yield_fixture
async def guarded(tmp_path: Path, secret: Path) -> AsyncIterator[Door]:
    """An interface with a client who has a secret and one who has none."""
    clients = {
        "portal": Client(password_hash="x", notify_secret_file=secret),
        "other": Client(password_hash="x"),
    }
    sources = Sources(allow=("https://*.example.org/", "https://example.org/"))
    door = Door(
        config_of(tmp_path, clients=clients, sources=sources), logins=PlainLogins({"portal": "p", "other": "o"})
    )
    yield door
    await door.close()


@pytest_twisted.ensureDeferred
async def test_asked_for_by_who_has_a_secret(guarded: Door) -> None:
    """A client with a secret may be told of its jobs' ends, and again."""
    await guarded.ask(lambda s: s.jobs.submit(one(notify=TOLD)), login="portal:p")
    notify = guarded.store.jobs_asked[1].notify
    assert notify is not None
    assert notify.url == TOLD
    fault = await faulted(guarded.ask(lambda s: s.jobs.renotify(1), login="portal:p"))
    assert fault.faultCode == 1009
    guarded.store.change(1, state=State.COMPLETED)
    assert (await guarded.ask(lambda s: s.jobs.renotify(1), login="portal:p"))["status"] == "COMPLETED"
    assert (await faulted(guarded.ask(lambda s: s.jobs.renotify(1), login="other:o"))).faultCode == 1007


@pytest_twisted.ensureDeferred
async def test_refused_without_a_secret(guarded: Door, tmp_path: Path) -> None:
    """A client without a secret is told which key is missing; so is everybody where there are no clients."""
    fault = await faulted(guarded.ask(lambda s: s.jobs.submit(one(notify=TOLD)), login="other:o"))
    assert fault.faultCode == 1001
    assert fault.faultString.startswith("notify: ")
    assert "[clients.other] notify_secret_file" in fault.faultString

    door = Door(config_of(tmp_path))
    try:
        fault = await faulted(door.ask(lambda s: s.jobs.submit(one(notify=TOLD))))
        assert "[service] notify_secret_file" in fault.faultString
    finally:
        await door.close()


@pytest_twisted.ensureDeferred
async def test_refused_by_a_clients_own_rules(tmp_path: Path, secret: Path) -> None:
    """A client names no URL for its notices that it may not name for its files."""
    own = ("https://portal.example.org/",)
    clients = {"portal": Client(password_hash="x", notify_secret_file=secret, sources=(*own, "https://example.org/"))}
    door = Door(config_of(tmp_path, clients=clients), logins=PlainLogins({"portal": "p"}))
    try:
        elsewhere = one(notify="https://elsewhere.org/moved")
        fault = await faulted(door.ask(lambda s: s.jobs.submit(elsewhere), login="portal:p"))
        assert fault.faultCode == 1005
        assert fault.faultString.startswith("notify: https://elsewhere.org/moved is not an allowed source for client")
        assert (await door.ask(lambda s: s.jobs.submit(one(notify=TOLD)), login="portal:p"))["id"] == 1
    finally:
        await door.close()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("https://elsewhere.org/", 1005),
        ("http://portal.example.org/", 1005),
        ("https://169.254.169.254/", 1005),
        ("https://portal:pass-w0rd@portal.example.org/", 1001),
        ("ftp://portal.example.org/", 1001),
        ("", 1001),
        (7, 1001),
    ],
)
@pytest_twisted.ensureDeferred
async def test_refused_by_the_rules(guarded: Door, target: Any, code: int) -> None:
    """What ``[sources]`` does not allow, and what is no URL or holds a login, is refused when it is asked for."""
    fault = await faulted(guarded.ask(lambda s: s.jobs.submit(one(notify=target)), login="portal:p"))
    assert fault.faultCode == code
    assert fault.faultString.startswith("notify: ")
    assert "pass-w0rd" not in fault.faultString
    assert not guarded.store.jobs_asked


@pytest_twisted.ensureDeferred
async def test_public_addresses_only(tmp_path: Path, secret: Path) -> None:
    """Without rules, an address inside a network is refused."""
    config = config_of(tmp_path)
    service = ServiceTable(data_directory=tmp_path, notify_secret_file=secret)
    door = Door(config.model_copy(update={"service": service}))
    try:
        for target in ("http://127.0.0.1:9/", "http://[::1]/", "http://2130706433/", "http://10.1.2.3/"):
            request = one(notify=target)
            refused = await faulted(door.ask(lambda s: s.jobs.submit(request)))  # noqa: B023 - it is awaited here
            assert refused.faultCode == 1005, target
        await door.ask(lambda s: s.jobs.submit(one(notify=TOLD)))
    finally:
        await door.close()


def asking(service: Service, call: Callable[[Any], Any]) -> Any:
    """Call the service in a thread, over a connection of its own."""

    def run() -> Any:
        with ServerProxy(service.url) as proxy:
            return call(proxy)

    return deferToThread(run)


def told_of(mover: Any, job: int, kind: str) -> None:
    """Wait until a job's history has an event of a kind."""
    cursor, kinds = "", []
    while kind not in kinds:
        news = mover.jobs.events({"job": job, "after": cursor, "timeout": 30})
        assert news["events"], f"there is no {kind}"
        cursor, kinds = news["cursor"], [event["kind"] for event in news["events"]]


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_killed(open_directory: Path) -> None:
    """A job's end is told after the receiver was away and the service killed; and told again when asked for."""
    secret = open_directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    (open_directory / "archive").mkdir()
    (open_directory / "archive/a.csv").write_bytes(b"a,b\n")
    web = Web(reactor)
    web.route("/moved", status(200))
    await web.start()
    await web.stop(for_a_while=True)
    service = Service(
        open_directory,
        f'notify_secret_file = "{secret}"\n[database]\nurl = "{postgres.shared().fresh()}"\n'
        f'[sources]\nallow = ["http://127.0.0.1:*/"]\n[transfers]\nretry_base = "200ms"\nretry_cap = "500ms"\n'
        f'[destinations.archive]\nurl = "file://{open_directory}/archive"\n'
        f'[[sources.credentials]]\nurl = "{web.url}/"\ntoken_file = "{secret}"\n',
    )
    await deferToThread(service.start)
    try:
        request = {
            "source": {"destination": "archive", "path": "a.csv"},
            "destination": "archive",
            "path": "b.csv",
            "notify": f"{web.url}/moved?key=k3y",
        }
        number = (await asking(service, lambda s: s.jobs.submit(request)))["id"]
        assert (await asking(service, lambda s: s.jobs.wait(number, 30)))["status"] == "COMPLETED"
        await asking(service, lambda s: told_of(s, number, "notify_failed"))
        await deferToThread(service.kill)
        await web.start()
        await deferToThread(service.start)
        await until(lambda: web.requests)
        assert (await asking(service, lambda s: s.jobs.renotify(number)))["id"] == number
        await until(lambda: len(web.requests) > 1)

        told = [verified(headers(request), request.body, SECRET) for request in web.requests]
        assert {(one["job"], one["status"], one["id"]) for one in told} == {(number, "COMPLETED", told[0]["id"])}
        # A login for a source is not the client's to have sent where it likes.
        assert not any("authorization" in request.headers for request in web.requests)
        assert web.requests[0].target == "/moved?key=k3y"
    finally:
        await deferToThread(service.stop)
        await web.stop()
    log = service.log.read_text()
    assert f"{web.url}/moved?key=*** acknowledged the notice of job {number}" in log
    assert "k3y" not in log
    assert SECRET not in log
