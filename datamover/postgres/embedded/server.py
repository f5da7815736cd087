"""The embedded PostgreSQL: started on demand, shared by the processes of this machine, stopped by the last of them.

The server outlives a killed process that started it; the next process uses it. Every process that uses the server
holds a shared lock on ``users.lock``; the one that starts or stops it holds ``start.lock``. Files and users are in
``cluster``.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from psycopg2.extensions import make_dsn
from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from datamover.concurrency.threads import Threads
from datamover.errors import StartError
from datamover.postgres.embedded.cluster import PORT, Cluster, Programs, RunningServer, terminate

log = Logger()
Result = TypeVar("Result")

THREADS = 2
"""Threads for the server's programs and files."""
_POLL = 0.05
"""Seconds between two checks of a lock or of the server's status."""
_SURVIVORS = 60.0
"""Seconds that a killed server's processes may take to end."""
_FOREVER = str(10**8)
"""Seconds that pg_ctl waits: a recovery has no time limit, and pg_ctl counts tenths of a second in 32 bits."""
_ERROR_LINE = re.compile(r"FATAL|PANIC|error:|could not")


class EmbeddedPostgres:
    """The server below ``data_directory``, used by this process."""

    def __init__(self, reactor: Any, data_directory: Path) -> None:
        self._reactor = reactor
        self._cluster = Cluster(data_directory)
        self._threads = Threads(reactor, "postgresql", THREADS)
        self._turn = DeferredLock()
        self._users: int | None = None

    def check(self) -> None:
        """Make the directories and find the programs. Blocks. Raises StartError if the server can never run."""
        self._cluster.prepare()

    async def dsn(self) -> str:
        """Return the server's address; makes the cluster and starts the server first, if need be.

        Waits as long as a recovery takes. Raises StartError. Cancelling does not stop a server that is starting.
        """
        if self._users is not None and (server := self._cluster.server()) and server.status == "ready":
            return _dsn(server)
        await self._turn.acquire()
        try:
            return await self._ensure()
        finally:
            self._turn.release()

    async def stop(self, within: float = inf) -> None:
        """Stop using the server; the last process to do so stops it, within ``within`` seconds.

        A server that does not stop in time is left running; the next process that starts uses it.
        """
        await self._turn.acquire()
        try:
            if self._users is not None:
                await self._stop(within)
        finally:
            self._turn.release()

    async def _ensure(self) -> str:
        programs = await self._blocking(self._cluster.prepare)
        start_lock = await self._locked("start.lock", fcntl.LOCK_EX)
        try:
            if self._users is None:
                self._users = await self._locked("users.lock", fcntl.LOCK_SH)
            server = await self._settled()
            if server is None:
                await self._start(programs)
                server = await self._settled()
            if server is None:
                raise StartError(f"the database server ended as soon as it had started: see {self._cluster.log}")
            return _dsn(server)
        finally:
            os.close(start_lock)

    async def _stop(self, within: float) -> None:
        start_lock = await self._locked("start.lock", fcntl.LOCK_EX)
        users, self._users = self._users, None
        try:
            if users is None or not _try_lock(users, fcntl.LOCK_EX):
                return
            server = self._cluster.server()
            if server is not None:
                programs = await self._blocking(self._cluster.prepare)
                await self._stop_server(programs, server, within)
        finally:
            if users is not None:
                os.close(users)
            os.close(start_lock)

    async def _stop_server(self, programs: Programs, server: RunningServer, within: float) -> None:
        """Stop the server fast; if that takes too long, immediately, so that its next start recovers from the log."""
        ways = (
            {"fast": _FOREVER} if within == inf else {"fast": _whole(within * 2 / 3), "immediate": _whole(within / 3)}
        )
        for way, seconds in ways.items():
            try:
                await self._run(programs, "pg_ctl", "stop", "-m", way, "-w", "-t", seconds, "-D", self._directory)
            except StartError as error:
                log.warn("the embedded PostgreSQL did not stop: {reason}", reason=error.message)
            else:
                self._forget(server.sockets)
                log.info("stopped the embedded PostgreSQL")
                return
        log.warn("the embedded PostgreSQL in {directory} is left running", directory=self._directory)

    @property
    def _directory(self) -> str:
        return str(self._cluster.directory)

    async def _settled(self) -> RunningServer | None:
        """Wait until a running server is ready or has ended; return it, None if none runs."""
        while (server := self._cluster.server()) is not None and server.status != "ready":
            await deferLater(self._reactor, _POLL)
        return server

    async def _start(self, programs: Programs) -> None:
        waited = 0.0
        while await self._blocking(self._cluster.survivors):
            if waited > _SURVIVORS:
                raise StartError(f"processes of a killed database server still use {self._directory}: end them first")
            await deferLater(self._reactor, _POLL)
            waited += _POLL
        if not self._cluster.directory.exists():
            await self._make(programs)
        sockets = await self._blocking(self._cluster.sockets, programs.user)
        await self._blocking(self._cluster.forget_stranger)
        await self._blocking(programs.write_settings, self._cluster, sockets)
        arguments = ("-w", "-t", _FOREVER, "-D", self._directory, "-l", str(self._cluster.log))
        try:
            await self._run(programs, "pg_ctl", "start", *arguments)
        except StartError:
            self._forget(sockets)
            raise
        log.info("started the embedded PostgreSQL in {directory}", directory=self._directory)

    def _forget(self, sockets: Path) -> None:
        """Remove a socket directory that was made for one run of the server."""
        if sockets.parent != self._cluster.home:
            shutil.rmtree(sockets, ignore_errors=True)

    async def _make(self, programs: Programs) -> None:
        """Make the cluster under another name and rename it, so that one under its own name is always complete."""
        unfinished = self._cluster.home / "cluster.new"
        await self._blocking(partial(shutil.rmtree, unfinished, ignore_errors=True))
        arguments = ("-U", "datamover", "-E", "UTF8", "--locale=C", "-A", "peer", "--no-instructions")
        await self._run(programs, "initdb", *arguments, "-D", str(unfinished))
        with (unfinished / "postgresql.conf").open("a") as settings:
            settings.write("\ninclude_if_exists = 'datamover.conf'  # written anew at every start\n")
            settings.flush()
            os.fsync(settings.fileno())
        unfinished.rename(self._cluster.directory)
        log.info("made a database in {directory}", directory=self._directory)

    async def _run(self, programs: Programs, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs; raises StartError when it fails."""
        process = programs.begin(program, *arguments)
        try:
            said, _ = await self._blocking(process.communicate)
        except CancelledError:
            terminate(process)
            raise
        if process.returncode:
            file = self._cluster.log
            raise StartError(
                f"PostgreSQL's {program} failed: {_reason(said) or f'exit status {process.returncode}'}"
                f"{f'; see {file}' if file.exists() else ''}"
            )

    async def _locked(self, name: str, kind: int) -> int:
        """Wait for a lock file and return the descriptor that holds it; closing that, or dying, releases the lock."""
        path = self._cluster.layout.beside_postgresql(name)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartError(f"service.data_directory: {path}: {error.strerror}") from None
        try:
            while not _try_lock(descriptor, kind):
                await deferLater(self._reactor, _POLL)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    async def _blocking(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await self._threads.run(function, *arguments)


def _whole(seconds: float) -> str:
    return str(max(1, int(seconds)))


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reason(said: str) -> str:
    """Return the line of a program's output that says most: the first with an error, else the last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if _ERROR_LINE.search(line)), lines[-1] if lines else "")


def _dsn(server: RunningServer) -> str:
    return str(make_dsn(host=str(server.sockets), port=PORT, user="datamover", dbname="postgres"))
