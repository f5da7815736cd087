"""An engine between a directory of this machine, "here", and one on a file server, "there"."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from tests.engine.rig import Rig, random_bytes
from tests.servers.ssh import SshServer


class Between:
    """What a test has of it."""

    def __init__(self, rig: Rig, here: Path, there: Path) -> None:
        self.rig = rig
        self.here = here
        self.there = there

    def made(self, root: Path, name: str, size: int) -> str:
        """Make a file of random bytes at either end; return its sha256."""
        content = random_bytes(size)
        (root / name).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    async def told(self, job: int, kind: str) -> list[dict[str, Any]]:
        """Return the details of a job's events of one kind."""
        events = await self.rig.store.events(job=job, limit=1000)
        return [dict(event.details) for event in events if event.kind == kind]

    async def went_without(self, job: int) -> dict[str, str]:
        """Return what a job's files are told to have gone without, in words, by the ability."""
        told = [lack for details in await self.told(job, "without") for lack in details["without"]]
        return {lack["ability"]: lack["message"] for lack in told}


@asynccontextmanager
async def between(
    directory: Path,
    server: SshServer,
    *,
    port: int | None = None,
    transfers: dict[str, Any] | None = None,
    **table: Any,
) -> AsyncIterator[Between]:
    """Have an engine whose "there" is the server's root, reached by ``port`` of this machine if one is given."""
    here = directory / "here"
    here.mkdir()
    known_hosts = directory / "known_hosts"
    ports = (server.port, port or server.port)
    known_hosts.write_text("".join(f"[127.0.0.1]:{each} {server.host_key()}\n" for each in ports))
    there = {
        "url": server.url.replace(f":{server.port}/", f":{ports[1]}/"),
        "known_hosts_file": str(known_hosts),
        "private_key_file": str(server.private_key),
        **table,
    }
    rig = await Rig(reactor, directory).open({"here": {"url": here.as_uri()}, "there": there}, transfers=transfers)
    try:
        await rig.engine()
        yield Between(rig, here, server.root)
    finally:
        await rig.close()


def digest(path: Path) -> str | None:
    """Return a file's sha256, None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
