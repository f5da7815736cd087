"""Two clients of one service: no answer to one contains anything of the other."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.servers import postgres
from tests.servers.ports import free_port
from tests.servers.service import Service

CLIENTS = ("alpha", "omega")
SECRETS = ("farmer", "/fields/of/gold", "known-hosts-of-far")
"""Of the place that nobody reaches: its account, its directory, a file of the operator's."""


class World:
    """A service, its clients, and which job is whose."""

    def __init__(self, directory: Path) -> None:
        self.far = free_port()
        self.closed = free_port()
        hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
        (directory / "known-hosts-of-far").write_text("")
        (directory / "secret").write_text("x")
        (directory / "secret").chmod(0o600)
        tables = "".join(
            f'[clients.{name}]\npassword_hash = "{hasher.hash(name)}"\nadmin = {str(name == "boss").lower()}\n'
            f'notify_secret_file = "{directory}/secret"\n'
            for name in (*CLIENTS, "boss")
        )
        self.service = Service(
            directory,
            f'[database]\nurl = "{postgres.shared().fresh()}"\n[transfers]\nretry_base = "100ms"\nretry_cap = "200ms"\n'
            f'[destinations.archive]\nurl = "file://{directory}/archive"\n'
            f'[destinations.far]\nurl = "sftp://{SECRETS[0]}@127.0.0.1:{self.far}{SECRETS[1]}"\n'
            f'known_hosts_file = "{directory}/known-hosts-of-far"\npassword_file = "{directory}/secret"\n'
            f'[sources]\nallow = ["http://127.0.0.1:*/", "http://localhost:*/"]\n'
            f'allow_addresses = ["127.0.0.0/8", "::1"]\n{tables}',
        )
        self.jobs: dict[str, set[int]] = {name: set() for name in CLIENTS}
        self.stack = ExitStack()

    def start(self) -> None:
        self.service.start_behind_a_login()
        self.proxies: dict[str, Any] = {
            name: self.stack.enter_context(
                ServerProxy(f"http://{name}:{name}@127.0.0.1:{self.service.port}/data_mover", allow_none=True)
            )
            for name in (*CLIENTS, "boss")
        }

    def stop(self) -> None:
        self.stack.close()
        self.service.stop()

    def ask(self, who: str, name: str, *parameters: Any) -> Any:
        """Return what a client is answered, a Fault's words for a refusal."""
        try:
            answer = getattr(self.proxies[who], name)(*parameters)
        except Fault as fault:
            return {"faultString": fault.faultString}
        if name in ("jobs.submit", "move") and "id" in answer:
            self.jobs[who].add(answer["id"])
        return answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("others"))
    world.start()
    yield world
    world.stop()


def request(who: str, world: World, number: int, **changes: Any) -> dict[str, Any]:
    """Return a request that speaks of its client in everything that it may."""
    return {
        "source": f"http://127.0.0.1:{world.closed}/{who}-source-{number}?{who}=1",
        "destination": "archive",
        "path": f"{who}/{who}-path-{number}",
        "label": f"{who}-label",
        **changes,
    }


def words(value: Any) -> Iterator[str]:
    """Yield every text in an answer, keys too."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from words(key)
            yield from words(each)
    elif isinstance(value, list):
        for each in value:
            yield from words(each)
    else:
        yield str(value)


def ids(value: Any) -> Iterator[int]:
    """Yield every job that an answer names."""
    if isinstance(value, dict):
        yield from (value[key] for key in ("id", "job") if key in value)
        for each in value.values():
            yield from ids(each)
    elif isinstance(value, list):
        for each in value:
            yield from ids(each)
    elif isinstance(value, str):
        yield from map(int, re.findall(r"\bjobs? (\d+)", value))


NAMES = some.sampled_from(
    [
        *("jobs.status", "jobs.files", "jobs.events", "jobs.cancel", "jobs.pause", "jobs.resume", "jobs.retry"),
        *("jobs.renotify", "checkMoveStatus", "check_move_status", "checkALAJobStatus", "jobs.wait"),
        *("jobs.list", "jobs.submit", "same target", "same key", "far", "move", "notify", "check"),
        *("destinations.list", "destinations.describe", "destinations.test", "service.status", "multicall"),
    ]
)


def called(world: World, who: str, name: str, number: int) -> Any:
    """Make one call; ``number`` chooses what it is about: any job, one's own or not."""
    everybodys = sorted(set().union(*world.jobs.values())) or [1]
    job = everybodys[number % len(everybodys)]
    place = ("archive", "far")[number % 2]
    other = CLIENTS[1 - CLIENTS.index(who)]
    match name:
        case "jobs.wait":
            return world.ask(who, name, job, 0)
        case "jobs.list":
            return world.ask(who, name, [{}, {"label": f"{other}-label"}, {"destination": place}][number % 3])
        case "jobs.events":
            return world.ask(who, name, [{}, {"job": job}][number % 2])
        case "jobs.submit":
            return world.ask(who, name, request(who, world, number))
        case "same target":
            return world.ask(who, "jobs.submit", request(who, world, number, path="shared"))
        case "same key":
            return world.ask(who, "jobs.submit", request(who, world, number, request_id="shared"))
        case "far":
            source = {"destination": "far", "path": f"{who}-far"}
            return world.ask(who, "jobs.submit", request(who, world, number, destination="far", source=source))
        case "move":
            return world.ask(who, name, f"http://127.0.0.1:{world.closed}/{who}", f"scp://{place}/{who}")
        case "notify":
            url = f"http://127.0.0.1:{world.closed}/{who}-notice"
            return world.ask(who, "jobs.submit", request(who, world, number, notify=url, max_attempts=1))
        case "check":
            return world.ask(who, "jobs.check", request(who, world, number, destination=place))
        case "destinations.describe" | "destinations.test":
            return world.ask(who, name, place)
        case "destinations.list" | "service.status":
            return world.ask(who, name)
        case "multicall":
            calls = [{"methodName": each, "params": [job]} for each in ("jobs.status", "jobs.files", "checkMoveStatus")]
            return world.ask(who, "system.multicall", calls)
    return world.ask(who, name, job)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.lists(some.tuples(some.sampled_from(CLIENTS), NAMES, some.integers(0, 50)), min_size=1, max_size=12))
def test_neither_sees_a_word_of_the_other(world: World, calls: list[tuple[str, str, int]]) -> None:
    """Whatever two clients call, in whatever order: nothing of the other, and of no place where it is."""
    for who, name, number in calls:
        answer = called(world, who, name, number)
        other = CLIENTS[1 - CLIENTS.index(who)]
        said = "\n".join(words(answer))
        assert other not in said, (who, name)
        for secret in (*SECRETS, str(world.far)):
            assert secret not in said, (who, name, secret)
        asked = set(ids(answer)) - world.jobs[who]
        # What was asked for may be repeated in "there is no job 7".
        assert "there is no job" in said or "Job does not exist" in said or not asked, (who, name, said)


def test_what_an_administrator_sees(world: World) -> None:
    """Where a place is, why it is not reached, and which job another waits for."""
    for who in CLIENTS:
        world.ask("boss", "jobs.list")
        told = world.ask(who, "destinations.test", "far")
        assert not told["ok"]
        assert told["steps"][0]["error"]["code"] == "CONNECT_FAILED"
        assert str(world.far) not in "\n".join(words(told))
    assert str(world.far) in "\n".join(words(world.ask("boss", "destinations.test", "far")))


def test_who_waits_for_anothers_job(world: World) -> None:
    """It is told that it is another client's, and an administrator which; one's own is told to its owner."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = f"http://localhost:{silent.getsockname()[1]}/"
        asked = {"path": "queue", "source": source}
        ahead, behind, own = [
            world.ask(who, "jobs.submit", request(who, world, number, **asked))["id"]
            for number, who in enumerate(("alpha", "omega", "alpha"))
        ]
        asking = (("omega", behind), ("boss", behind), ("alpha", own))
        waiting: list[str] = []
        for _ in range(500):
            waiting = [world.ask(who, "jobs.status", job).get("waiting_for", "") for who, job in asking]
            if all("same target" in each for each in waiting):
                break
        for who, job in (("alpha", ahead), *asking):
            world.ask(who, "jobs.cancel", job)
    assert waiting == [
        "another client's job, which has the same target",
        f"job {ahead}, which has the same target",
        f"job {ahead}, which has the same target",
    ]


def test_a_notice_that_is_not_delivered(world: World) -> None:
    """Its client is told that and no more: neither which port was closed, nor when it is tried again."""
    url = f"http://127.0.0.1:{world.closed}/alpha-notice"
    job = world.ask("alpha", "jobs.submit", request("alpha", world, 9, notify=url, max_attempts=1))["id"]
    world.ask("alpha", "jobs.cancel", job)
    found: list[Any] = []
    cursor = ""
    while not found:
        news = world.ask("alpha", "jobs.events", {"job": job, "after": cursor, "timeout": 20})
        assert news["events"]
        cursor = news["cursor"]
        found = [event for event in news["events"] if event["kind"] == "notify_failed"]
    assert found[0]["error"] == {"code": "NOT_DELIVERED", "message": "the notice could not be delivered"}
    assert set(found[0]) <= {"cursor", "at", "job", "kind", "error", "attempt"}
    events = world.ask("boss", "jobs.events", {"job": job})["events"]
    [full, *_] = [event for event in events if event["kind"] == "notify_failed"]
    assert full["error"]["code"] == "CONNECT_FAILED"
