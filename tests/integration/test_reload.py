"""The configuration, read again by a service that runs: over the interface, and at SIGHUP."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest

from datamover.security.passwords import hash_password
from tests.servers import postgres
from tests.servers.service import Service
from tests.servers.sshd import Sshd
from tests.waiting import wait_until

MIB = 2**20
READ = "the configuration was read again"


def tables(directory: Path, *, more: str = "") -> str:
    return f"""
[destinations.store]
url = "file://{directory}/store"
[destinations.slow]
url = "file://{directory}/slow"
bandwidth = "2MB/s"
{more}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the module: what one test changes is changed back by ``service``."""
    directory = tmp_path_factory.mktemp("reload")
    (directory / "store").mkdir()
    (directory / "store/big").write_bytes(os.urandom(6 * MIB))
    (directory / "store/small").write_bytes(b"small")
    database = f'lease = "3s"\n[database]\nurl = "{postgres.shared().fresh()}"\n'
    service = Service(directory, database + tables(directory))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    yield running
    rewrite(running, tables(running.directory))
    read = running.log.read_text().count(READ)
    os.kill(running.pid, signal.SIGHUP)
    wait_until(lambda: running.log.read_text().count(READ) > read)


@pytest.fixture
def directory(running: Service) -> Path:
    return running.directory


def rewrite(service: Service, text: str) -> None:
    """Replace what stands after the database's section of the configuration."""
    head = service.config.read_text().partition("[destinations.")[0]
    service.config.write_text(head + text)


def copy(proxy: Any, name: str, destination: str) -> int:
    source = {"destination": "store", "path": name}
    request = {"source": source, "destination": destination, "path": name, "overwrite": "always"}
    job: int = proxy.jobs.submit(request)["id"]
    return job


def test_a_destination_goes_and_nothing_is_lost(service: Service, directory: Path) -> None:
    """What runs ends well, what waits says that its destination is gone, and goes on when it is back."""
    mover = service.proxy
    running = copy(mover, "big", "slow")
    wait_until(lambda: mover.jobs.status(running)["bytes_done"] > 0)
    mover.destinations.hold("slow", "for the test")
    waiting = copy(mover, "small", "slow")

    rewrite(service, f'[destinations.store]\nurl = "file://{directory}/store"\n')
    assert mover.service.reload() == {"changed": ["destinations.slow"], "needs_restart": []}
    assert [told["name"] for told in mover.destinations.list()] == ["store"]
    with pytest.raises(Fault) as refused:
        copy(mover, "small", "slow")
    assert refused.value.faultCode == 1002
    assert mover.jobs.status(waiting)["waiting_for"] == "destination slow: no longer in the configuration"
    assert service.ended(running)["status"] == "COMPLETED"
    assert (directory / "slow/big").read_bytes() == (directory / "store/big").read_bytes()
    assert mover.jobs.status(waiting)["status"] == "PENDING"

    rewrite(service, tables(directory))
    mover.service.reload()
    mover.destinations.release("slow")
    assert service.ended(waiting)["status"] == "COMPLETED"


def test_a_source_that_goes_is_waited_for(service: Service, directory: Path) -> None:
    """Files that are read from a destination which is gone wait for it too."""
    mover = service.proxy
    mover.destinations.hold("slow", "for the test")
    job = copy(mover, "small", "slow")
    rewrite(service, f'[destinations.slow]\nurl = "file://{directory}/slow"\n')
    mover.service.reload()
    mover.destinations.release("slow")
    assert mover.jobs.wait(job, 1.5)["waiting_for"] == "destination store: no longer in the configuration"
    rewrite(service, tables(directory))
    mover.service.reload()
    assert service.ended(job)["status"] == "COMPLETED"


def test_where_a_destination_is_changes_while_files_move(service: Service, directory: Path) -> None:
    """What runs ends where it began; what is asked for afterwards goes to the new place."""
    mover = service.proxy
    running = copy(mover, "big", "slow")
    wait_until(lambda: mover.jobs.status(running)["bytes_done"] > 0)
    rewrite(service, tables(directory).replace("/slow", "/elsewhere"))
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: f"{READ}; changed: destinations.slow" in service.log.read_text())
    assert service.ended(copy(mover, "small", "slow"))["status"] == "COMPLETED"
    assert service.ended(running)["status"] == "COMPLETED"
    assert (directory / "elsewhere/small").exists()
    assert (directory / "slow/big").exists()


@pytest.fixture
def sshd(open_directory: Path) -> Iterator[Sshd]:
    sshd = Sshd(open_directory)
    sshd.start()
    yield sshd
    sshd.stop()


def test_connections(service: Service, directory: Path, sshd: Sshd) -> None:
    """Those to a destination that is reached as before go on; others are closed behind the last transfer."""
    mover = service.proxy
    far = f"""[destinations.far]
url = "{sshd.url}"
private_key_file = "{sshd.private_key}"
known_hosts_file = "{sshd.known_hosts}"
bandwidth = "3MB/s"
"""
    rewrite(service, tables(directory, more=far))
    mover.service.reload()
    assert service.ended(copy(mover, "small", "far"))["status"] == "COMPLETED"
    connected = sshd.connections()
    assert connected

    rewrite(service, tables(directory, more=far + 'description = "Far away"\nmax_active = 3\n'))
    assert mover.service.reload()["changed"] == ["destinations.far"]
    assert mover.destinations.describe("far")["description"] == "Far away"
    assert sshd.connections() == connected

    running = copy(mover, "big", "far")
    wait_until(lambda: mover.jobs.status(running)["bytes_done"] > 0)
    rewrite(service, tables(directory))
    mover.service.reload()
    assert set(connected) <= set(sshd.connections())
    assert service.ended(running)["status"] == "COMPLETED"
    assert (sshd.root / "big").read_bytes() == (directory / "store/big").read_bytes()
    wait_until(lambda: not sshd.connections())


def test_secrets_that_others_may_read(service: Service, directory: Path) -> None:
    """A configuration is refused for them, with what to run, and taken once that was done."""
    secret = directory / "token"
    secret.write_text("s3cret\n")
    secret.chmod(0o644)
    more = f'[[sources.credentials]]\nurl = "https://example.org/"\ntoken_file = "{secret}"\n'
    rewrite(service, tables(directory, more=more))
    with pytest.raises(Fault, match=f"sources.credentials.0.token_file: .*run chmod 0600 {secret}"):
        service.proxy.service.reload()
    secret.chmod(0o600)
    assert service.proxy.service.reload()["changed"] == ["sources.credentials"]


def test_a_destination_that_is_the_services_own(service: Service, directory: Path) -> None:
    """It is refused, as it would be at the next start, also where it becomes so only then; nothing is changed."""
    (directory / "link").symlink_to("data")
    more = f'[destinations.more]\nurl = "file://{directory}/{{}}"\n'
    for url, said in (("link/staging", "is"), ("data/key/x", "lies in"), ("", "holds")):
        rewrite(service, tables(directory, more=more.format(url)))
        with pytest.raises(Fault, match=rf"destinations\.more\.url = .*/{url}'.*: .*{said} {directory}/data.*"):
            service.proxy.service.reload()
    assert [told["name"] for told in service.proxy.destinations.list()] == ["store", "slow"]

    before = service.config.read_text()
    service.config.write_text(before.partition("[destinations.")[0].replace("/data", "/store") + tables(directory))
    with pytest.raises(Fault, match=rf"destinations\.store\.url = .* is {directory}/store \(service\.data_directory\)"):
        service.proxy.service.reload()
    service.config.write_text(before)
    rewrite(service, tables(directory, more=more.format("data/files")))
    assert service.proxy.service.reload() == {"changed": ["destinations.more"], "needs_restart": []}


def test_a_file_that_cannot_be_used(service: Service, directory: Path) -> None:
    """It is refused whole, in words; what was in force stays, over the interface as at SIGHUP."""
    bad = tables(directory, more='[limits]\nqueued = "many"\n').replace("slow", "other")
    rewrite(service, bad)
    with pytest.raises(Fault) as refused:
        service.proxy.service.reload()
    line = f"{service.config}: limits.queued = 'many': expected a whole number above 0"
    assert (refused.value.faultCode, refused.value.faultString) == (1001, line)
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: service.log.read_text().count(f"the configuration is left as it was: {line}") == 2)
    assert [told["name"] for told in service.proxy.destinations.list()] == ["store", "slow"]
    assert service.ended(copy(service.proxy, "small", "slow"))["status"] == "COMPLETED"


def test_clients_come_and_go(service: Service, directory: Path) -> None:
    """Who may call changes at once, and with it what needs a restart is named and left."""
    hashed = hash_password("open")
    clients = (
        f'[clients.portal]\npassword_hash = "{hashed}"\n[clients.boss]\npassword_hash = "{hashed}"\nadmin = true\n'
    )
    rewrite(service, tables(directory, more=clients + '[log]\nformat = "json"\n'))
    assert service.proxy.service.reload() == {
        "changed": ["clients.boss", "clients.portal"],
        "needs_restart": ["log.format"],
    }
    here = service.url.partition("//")[2]
    with ServerProxy(service.url) as nobody, pytest.raises(Exception, match="401"):
        nobody.jobs.list()
    with ServerProxy(f"http://portal:open@{here}") as portal, pytest.raises(Fault, match="administrator"):
        portal.service.reload()
    rewrite(service, tables(directory, more=clients.replace("portal", "other")))
    with ServerProxy(f"http://boss:open@{here}") as boss:
        told: Any = boss.service.reload()
        assert told["changed"] == ["clients.other", "clients.portal"]
    with ServerProxy(f"http://portal:open@{here}") as portal, pytest.raises(Exception, match="401"):
        portal.jobs.list()
    with ServerProxy(f"http://other:open@{here}") as other:
        assert other.jobs.list() == []


def test_draining_and_back(service: Service) -> None:
    """A process that drains takes nothing, says so, and takes work again when it is told to."""
    mover = service.proxy
    wait_until(lambda: mover.service.status()["nodes"])
    (node,) = mover.service.status()["nodes"]
    with pytest.raises(Fault, match="no process is called 'moon'"):
        mover.service.drain("moon")
    mover.service.drain(node["name"])
    job = copy(mover, "small", "slow")
    assert mover.jobs.wait(job, 1)["waiting_for"] == "an engine: those that run are draining"
    assert mover.service.status()["nodes"][0]["draining"] is True
    mover.service.undrain()
    assert service.ended(job)["status"] == "COMPLETED"
