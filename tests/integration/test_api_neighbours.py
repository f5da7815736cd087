"""Hostile sources, destinations and data services of one client do not delay other clients.

In each test a client has real jobs that lead to servers without mercy (``tests.servers.hostile``), or does without end
what it may; meanwhile the calls of another are answered soon, its file moves, and memory and descriptors have their
bounds.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.request import urlopen
from xmlrpc.client import Fault

import pytest
from argon2 import PasswordHasher

from datamover.config.schema import Transfers
from tests.integration.test_console import PASSWORD, Telnet
from tests.servers import postgres
from tests.servers.crowds import crowd
from tests.servers.hostile import FLOOD, STAGES, Hostile, hostile
from tests.servers.neighbours import Polite, greedily, undisturbed
from tests.servers.ports import free_port
from tests.servers.service import Service
from tests.waiting import wait_until

TABLES = """
max_active = 32
[clients.portal]
password_hash = "{portal}"
[clients.greedy]
password_hash = "{greedy}"
[database]
url = "{database}"
[destinations.archive]
url = "file://{directory}/archive"
max_active = 32
[sources]
allow = ["http://127.0.0.1:*/"]
[transfers]
retry_base = "100ms"
retry_cap = "200ms"
[gbif]
url = "{web}/dataset"
[console]
telnet = "tcp:{telnet}:interface=127.0.0.1"
ssh = "tcp:{ssh}:interface=127.0.0.1"
password_hash = "{operator}"
"""
CONNECT_TIMEOUT = Transfers().connect_timeout
"""Seconds."""
FILES = 2000
"""Of the attacker, more than are moved while the other client is looked at."""
TAXA = 100
"""The attacker's datasets, each of several files."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    with hostile(tmp_path_factory.mktemp("hostile")) as servers:
        yield servers


@pytest.fixture(scope="module")
def consoles() -> dict[str, int]:
    return {"telnet": free_port(), "ssh": free_port()}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, servers: Hostile, consoles: dict[str, int]) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("service")
    (directory / "archive").mkdir()
    (directory / "archive" / "a.bin").write_bytes(b"x" * 100_000)
    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash
    tables = TABLES.format(
        directory=directory,
        database=postgres.shared().fresh(),
        portal=cheap("portal"),
        greedy=cheap("greedy"),
        operator=cheap(PASSWORD),
        web=servers.web,
        **consoles,
    )
    for stage in (*STAGES, FLOOD):
        tables += f"[destinations.{stage}]\n{servers.sftp(stage)}"
    for kind in ("listing", "trickling-listing"):
        tables += f"[destinations.{kind}]\n{servers.dav(kind)}"
    service = Service(directory, tables)
    service.start_behind_a_login()
    yield service
    service.stop()


@contextmanager
def having(service: Service, files: Sequence[dict[str, Any]]) -> Iterator[None]:
    """Have the attacker's files moved, each again and again, while a block runs, in which they may not all end."""
    request = {"files": list(files), "overwrite": "always", "max_attempts": 100}
    job = greedily(service, "jobs.submit", request)["id"]

    def under_way() -> bool:
        return greedily(service, "jobs.status", job)["status"] in ("PENDING", "PREPARING", "IN_PROGRESS")

    try:
        yield
        assert under_way()
    finally:
        if under_way():
            greedily(service, "jobs.cancel", job)
        wait_until(lambda: not under_way())


def served(servers: Hostile, kind: str) -> int:
    """Return how many requests the hostile web server has had for a kind of answer."""
    with urlopen(f"{servers.web}/served/{kind}") as page:
        return int(page.read())


def asked(servers: Hostile, kinds: Sequence[str]) -> Callable[[], None]:
    """Return what waits until a request for each kind of answer has come since now."""
    before = {kind: served(servers, kind) for kind in kinds}

    def wait() -> None:
        wait_until(lambda: all(served(servers, kind) > before[kind] for kind in kinds), f"requests for {kinds}")

    return wait


ATTACKS = {
    "heads of a MiB": ("long-head",),
    "headers that are parsed": ("digest",),
    "thousands of headers": ("lines",),
    "what trickles": ("trickling-head", "trickling-body", "trickling-error"),
    "redirects": ("redirects",),
    "informational answers": ("informational",),
    "chunks of a byte": ("chunks", "extensions"),
    "tiny members of gzip": ("members", "empty-members"),
}


@pytest.mark.parametrize("attack", list(ATTACKS))
def test_web_servers(service: Service, servers: Hostile, attack: str) -> None:
    """Answers that are large, that never end, or that cost much, are read between the calls of others."""
    kinds = ATTACKS[attack]
    wait = asked(servers, kinds)
    files = [
        {"source": f"{servers.web}/{kind}?{number}", "destination": "archive", "path": f"{kind}/{number}"}
        for number in range(FILES // len(kinds))
        for kind in kinds
    ]
    with having(service, files):
        wait()
        undisturbed(service, f"beside {attack}.bin")


@pytest.mark.parametrize("kind", ["gbif://gbif?taxonKey="])
def test_data_services(service: Service, servers: Hostile, kind: str) -> None:
    """Answers of many tiny values, and those that trickle, are read between the calls of others."""
    wait = asked(servers, ["dataset"])
    files = [{"source": f"{kind}{1000 + n}", "destination": "archive", "path": f"{kind[:4]}-{n}/"} for n in range(TAXA)]
    with having(service, files):
        wait()
        undisturbed(service, f"beside {kind[:4]}.bin")


@pytest.mark.parametrize("kind", ["listing", "trickling-listing"])
def test_dav_servers(service: Service, servers: Hostile, kind: str) -> None:
    """What an operator's WebDAV server tells of a file is read between the calls of others, however long that is."""
    wait = asked(servers, [kind])
    files = [
        {"source": {"destination": kind, "path": f"{number}"}, "destination": "archive", "path": f"{kind}/{number}"}
        for number in range(FILES)
    ]
    with having(service, files):
        wait()
        undisturbed(service, f"beside {kind}.bin")


@pytest.mark.parametrize("stages", [STAGES, (FLOOD,)])
def test_sftp_servers(service: Service, stages: Sequence[str]) -> None:
    """Servers that hang while they log in, several at once, or send messages without end, hold no other up."""
    source = {"destination": "archive", "path": "a.bin"}
    files = [{"source": source, "destination": stage, "path": f"{n}"} for stage in stages for n in range(4)]
    with having(service, files):
        wait_until(lambda: active(service) >= {*stages}, "transfers to each")
        undisturbed(service, f"beside {stages[0]}.bin")


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_transfer_to_a_server_that_hangs(service: Service, stage: str) -> None:
    """It ends long before the server is given up: what might be left there is looked for later."""
    source = {"destination": "archive", "path": "a.bin"}
    job = greedily(service, "jobs.submit", {"source": source, "destination": stage, "path": "cancelled"})["id"]
    wait_until(lambda: stage in active(service), "the transfer")
    greedily(service, "jobs.cancel", job)
    assert greedily(service, "jobs.wait", job, CONNECT_TIMEOUT / 2)["status"] == "CANCELLED"


def active(service: Service) -> set[str]:
    """Return the destinations to which the attacker's transfers are under way."""
    queue = greedily(service, "service.status")["queue"]
    return {each["destination"] for each in queue if each["active"]}


@pytest.mark.parametrize("way", ["telnet", "ssh"])
def test_strangers_at_the_console(service: Service, consoles: dict[str, int], way: str) -> None:
    """What comes there without end before a login is read between the calls of others."""
    with crowd(way, consoles[way], 20):
        undisturbed(service, f"beside {way}.bin")


PASTED = {"a line without end": b"x" * 65_536, "lines": b"1 + 1\r\n" * 10_000}


@contextmanager
def pasting(terminal: Telnet, text: bytes) -> Iterator[Callable[[], int]]:
    """Have a text pasted again and again, and what is shown read; gives what counts the bytes that were taken."""
    over = threading.Event()
    taken = 0

    def paste() -> None:
        nonlocal taken
        while not over.is_set():
            taken += terminal.take(text[taken % len(text) :])

    thread = threading.Thread(target=paste)
    thread.start()
    try:
        yield lambda: taken
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("text", list(PASTED))
def test_what_an_operator_pastes(service: Service, consoles: dict[str, int], text: str) -> None:
    """However much it is, it is read, and its lines are run, between the calls of clients."""
    with closing(Telnet(consoles["telnet"])) as terminal:
        terminal.login("operator", PASSWORD)
        with pasting(terminal, PASTED[text]) as taken:
            before = taken()
            undisturbed(service, f"beside {text}.bin")
            assert taken() > before


@contextmanager
def meanwhile(*doing: Callable[[], object]) -> Iterator[None]:
    """Do each of these again and again, in threads, while a block runs; each must have been done by then."""
    over = threading.Event()
    failed: list[BaseException] = []

    def go_on(one: Callable[[], object]) -> None:
        try:
            while not over.is_set():
                one()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=go_on, args=(one,)) for one in doing]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not failed


def test_submissions_that_are_cancelled(service: Service) -> None:
    """One who submits and cancels without end leaves others their calls and transfers."""
    request = {
        "source": {"destination": "archive", "path": "a.bin"},
        "destination": "archive",
        "path": "cancelled",
        "overwrite": "always",
    }

    def submit_and_cancel(greedy: Polite) -> None:
        with suppress(Fault):  # It may have ended meanwhile.
            greedy.call("jobs.cancel", greedy.call("jobs.submit", request)["id"])

    with ExitStack() as stack:
        greedy = [stack.enter_context(closing(Polite(service, "greedy:greedy"))) for _ in range(4)]
        stack.enter_context(meanwhile(*(partial(submit_and_cancel, one) for one in greedy)))
        undisturbed(service, "beside cancelled.bin")
