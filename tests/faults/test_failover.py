"""The database's machine dies under load: a standby takes over, and nothing accepted is lost, or done twice."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

from tests.faults.cluster import UNAVAILABLE, Cluster, running
from tests.servers import postgres
from tests.waiting import wait_until

CLIENTS = 4
BEFORE = 200
AFTER = 100
"""Jobs that are accepted before the primary dies, and after the standby has taken over."""


class Pair(postgres.TestDatabases):
    """Databases that are reached at whichever of two servers writes."""

    def __init__(self, primary: postgres.Postgres, standby: postgres.Postgres) -> None:
        super().__init__(primary)
        self._standby = standby

    def fresh(self, template: str = "template1") -> str:
        here, name = super().fresh(template).rsplit("/", 1)
        return f"{here},127.0.0.1:{self._standby.port}/{name}?target_session_attrs=read-write"


class Clients:
    """Asks for jobs, and after them, from several threads; each asks again for what was not answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self._over = threading.Event()
        self.accepted: dict[str, int] = {}
        """Job ids, by request id."""
        self.unavailable: set[str] = set()
        """Request ids that were told UNAVAILABLE at least once."""
        self.wrong: list[str] = []
        """Whatever else was answered."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._submit) for _ in range(CLIENTS)]
        threads.append(threading.Thread(target=self._look))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def submit(self, mover: Any, name: str) -> int:
        request = {
            "request_id": name,
            "source": {"destination": "archive", "path": "source"},
            "destination": "small",
            "path": name,
        }
        return int(mover.jobs.submit(request)["id"])

    def _submit(self) -> None:
        with ServerProxy(self._url) as mover:
            while not self._over.is_set():
                name = f"n{next(self._numbers)}"
                while (job := self._ask(lambda name=name: self.submit(mover, name), name)) is None:  # type: ignore[misc]
                    time.sleep(0.02)
                self.accepted[name] = job

    def _look(self) -> None:
        """Ask after jobs: one that was accepted is known, and one that is complete stays so."""
        complete: set[int] = set()
        with ServerProxy(self._url) as mover:
            while not self._over.is_set():
                for name, job in list(self.accepted.items())[-20:]:
                    told: Any = self._ask(lambda job=job: mover.jobs.status(job), name)  # type: ignore[misc]
                    if told is None:
                        continue
                    if told["status"] == "COMPLETED":
                        complete.add(job)
                    elif job in complete:
                        self.wrong.append(f"job {job} was complete and is {told['status']}")
                time.sleep(0.05)

    def _ask(self, call: Callable[[], Any], name: str) -> Any:
        try:
            return call()
        except Fault as fault:
            if fault.faultCode == UNAVAILABLE:
                self.unavailable.add(name)
            else:
                self.wrong.append(f"{fault.faultCode} {fault.faultString}")
        except OSError as error:
            self.wrong.append(repr(error))
        return None


def test_the_primary_dies(open_directory: Path) -> None:
    """With a synchronous standby, a primary that is killed under load costs no accepted job: each ends COMPLETED, once;
    clients are told UNAVAILABLE meanwhile, and the same request has the same job afterwards."""
    with (
        postgres.replicated() as (primary, standby),
        running(open_directory, databases=Pair(primary, standby)) as cluster,
    ):
        (cluster.archive / "source").write_bytes(b"content")
        cluster.engine()
        clients = Clients(cluster.door.url)
        with clients.at_work():
            wait_until(lambda: len(clients.accepted) >= BEFORE, "jobs")
            primary.destroy()
            wait_until(lambda: clients.unavailable, "a client that is told UNAVAILABLE")
            standby.promote()
            cluster.database = standby
            enough = len(clients.accepted) + AFTER
            wait_until(lambda: len(clients.accepted) >= enough, f"jobs: {clients.wrong[:3]}")
        assert clients.wrong == []
        _check(cluster, clients)


def _check(cluster: Cluster, clients: Clients) -> None:
    accepted = set(clients.accepted.values())
    assert len(accepted) == len(clients.accepted), "two requests have one job"
    wait_until(lambda: not cluster.sql("SELECT id FROM jobs WHERE finished_at IS NULL"), "the end of every job")
    states = dict(cluster.sql("SELECT id, state FROM jobs"))
    assert set(states) == accepted
    assert Counter(states.values()) == {"COMPLETED": len(accepted)}
    for kind in ("submitted", "completed"):
        told = Counter(dict(cluster.sql(
            f"SELECT job, count(*) FROM events WHERE kind = '{kind}' AND file IS NULL GROUP BY job"
        )).values())  # fmt: skip
        assert told == {1: len(accepted)}, kind
    assert {path.name for path in cluster.small.iterdir()} == set(clients.accepted)
    again = [*clients.unavailable & set(clients.accepted), *list(clients.accepted)[:20]]
    for name in again:
        assert clients.submit(cluster.mover, name) == clients.accepted[name]
    assert cluster.sql("SELECT count(*) FROM jobs") == [(len(accepted),)]
