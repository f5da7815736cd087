"""Faults in any order, for as long as is asked: ``make faults``; a short run is part of the suite.

The seed decides which faults come and what is asked for; what they meet is up to the machine. FAULTS_SEED and
FAULTS_SECONDS are read from the environment.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from xmlrpc.client import Fault

from tests.faults.clock import WrongClock
from tests.faults.cluster import Cluster, running
from tests.faults.process import command
from tests.faults.work import MIB, Asked, Work
from tests.waiting import wait_until

SEED = int(os.environ.get("FAULTS_SEED") or 20)
SECONDS = float(os.environ.get("FAULTS_SECONDS") or 8)
MOST = 12
"""Jobs under way at a time."""
LEASE = 3.0
INVALID_STATE = 1009
FLAKY = """\
[destinations.flaky]
url = "broken://{directory}/flaky?call=write&error=EIO&at=4194304&times=3"
"""
"""A disk that fails the first large writes of each process."""


class Chaos:
    """Asks for work and breaks what does it, as ``dice`` say."""

    def __init__(self, cluster: Cluster, dice: random.Random, clock: WrongClock) -> None:
        self.cluster = cluster
        self.clock = clock
        self.dice = dice
        self.work = Work(cluster)
        self.cancelled: list[Asked] = []
        self._standing: list[Asked] = []

    def turn(self) -> str:
        """Ask for something, and break something; return what."""
        under_way = [one for one in self._standing if self._runs(one)]
        self._standing = under_way
        if len(under_way) < MOST:
            self._standing += self.dice.choice((self._big, self.work.tiny, self._archive))()
        fault: Callable[[], None] = self.dice.choice(
            (
                self._kill,
                self._stall,
                self._drain,
                self.cluster.sshd.cut,
                self.cluster.sshd.restart,
                self._restart_web,
                self.cluster.cut_database,
                self.cluster.database.restart,
                self._kill_database,
                self._cancel,
                self._set_clock,
            )
        )
        fault()
        return fault.__qualname__

    def _runs(self, asked: Asked) -> bool:
        return self.work.status(asked).get("status", "PENDING") in ("PENDING", "PREPARING", "IN_PROGRESS")

    def _big(self) -> list[Asked]:
        size = self.dice.randrange(8 * MIB, 48 * MIB)
        destination = self.dice.choice(("archive", "visualiser", "archive-too", "visualiser-too", "flaky"))
        return [self.work.one(size, destination)]

    def _archive(self) -> list[Asked]:
        size = self.dice.randrange(1, 6 * MIB)
        return self.work.archive(size=size, destination=self.dice.choice(("archive", "visualiser")))

    def _kill(self) -> None:
        engine = self.dice.choice(self.cluster.engines)
        engine.kill()
        engine.start()

    def _stall(self) -> None:
        engine = self.dice.choice(self.cluster.engines)
        engine.stall()
        # The time is the fault itself, not a wait for something: now within the lease, now past it.
        time.sleep(self.dice.uniform(0.1, 2 * LEASE))
        engine.go_on()

    def _drain(self) -> None:
        engine = self.dice.choice(self.cluster.engines)
        engine.stop()
        engine.start()

    def _restart_web(self) -> None:
        self.cluster.web.stop()
        self.cluster.web.start()

    def _kill_database(self) -> None:
        self.cluster.database.kill()
        self.cluster.database.start()

    def _set_clock(self) -> None:
        self.clock.set(self.dice.randrange(-12, 13))

    def _cancel(self) -> None:
        if not self._standing:
            return
        asked = self.dice.choice(self._standing)
        try:
            done = self.cluster.ask(lambda: self.cluster.mover.jobs.cancel(asked.job))
        except Fault as fault:
            if fault.faultCode != INVALID_STATE:
                raise
            return  # It has ended.
        if done and asked not in self.cancelled:
            self.cancelled.append(asked)

    def check(self) -> None:
        """Assert that everything ended as it should."""
        wait_until(lambda: self.cluster.nodes(), "an engine")
        for asked in self.cancelled:
            status = self.work.ended(asked)["status"]
            if status != "COMPLETED":  # The word came too late, at the last moment.
                self.work.asked.remove(asked)
                assert status in ("CANCELLED", "PARTIAL"), status
        self.work.check()


def test_random(open_directory: Path) -> None:
    """Whatever breaks in whatever order, everything that was accepted arrives, whole and once."""
    print(f"FAULTS_SEED={SEED} FAULTS_SECONDS={SECONDS:.0f}", flush=True)
    (open_directory / "flaky").mkdir()
    tables = FLAKY.format(directory=open_directory)
    with running(open_directory, lease=f"{LEASE:.0f}s", tables=tables, command=command()) as cluster:
        clock = WrongClock(open_directory)
        cluster.engine()
        cluster.engine(environment=clock.environment)
        chaos = Chaos(cluster, random.Random(SEED), clock)
        ends_at = time.monotonic() + SECONDS
        while time.monotonic() < ends_at:
            fault = chaos.turn()
            print(f"{SECONDS - (ends_at - time.monotonic()):6.1f} s  {fault}", flush=True)
        chaos.check()
        print(f"{len(chaos.work.asked)} jobs arrived, {len(chaos.cancelled)} were cancelled", flush=True)
