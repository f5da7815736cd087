"""The process of ``Wayward``: SSH by asyncssh, SFTP by ``names``, commands on its standard input.

Each line of the input is a JSON object, and is answered by one on the standard output; the process ends with its input.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import asyncssh

from tests.servers.wayward.misbehaviour import EXTENSIONS, STATVFS, Misbehaviour
from tests.servers.wayward.names import Channel
from tests.servers.wayward.packets import NUMBER, VERSION, Reader, string
from tests.servers.wayward.world import World

_REVISIONS = {STATVFS: b"2"}


class Session(asyncssh.SSHServerSession[bytes]):
    """One channel with the subsystem SFTP."""

    def __init__(self, world: World, user: str, extensions: list[str], greeting: str) -> None:
        self._world = world
        self._user = user
        self._extensions = extensions
        self._greeting = greeting
        self._received = bytearray()

    def connection_made(self, chan: Any) -> None:
        self._chan = chan
        self._channel = Channel(self._world, self._user, chan.get_connection().abort)

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        if self._greeting:
            self._chan.write(self._greeting.encode())

    def data_received(self, data: bytes, datatype: Any) -> None:
        self._received += data
        at = 0
        while len(self._received) - at >= 4 and not self._chan.is_closing():
            size = NUMBER.unpack_from(self._received, at)[0]
            if len(self._received) - at < 4 + size:
                break
            self._take(bytes(self._received[at + 4 : at + 4 + size]))
            at += 4 + size
        del self._received[:at]

    def eof_received(self) -> bool:
        self._chan.exit(0)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.end()

    def _take(self, packet: bytes) -> None:
        kind, rest = packet[0], Reader(packet[1:])
        if kind == 1:
            announced = b"".join(
                string(name.encode()) + string(_REVISIONS.get(name, b"1")) for name in self._extensions
            )
            self._send(VERSION, NUMBER.pack(3) + announced)
            return
        key = rest.number()
        answer = self._channel.take(kind, rest)
        if answer is not None:
            self._send(answer[0], NUMBER.pack(key) + answer[1])

    def _send(self, kind: int, body: bytes) -> None:
        self._chan.write(string(bytes((kind,)) + body))


class Login(asyncssh.SSHServer):
    """Accepts the key under any user name; the name decides which extensions are announced."""

    def __init__(self, process: "Process") -> None:
        self._process = process

    def connection_made(self, conn: Any) -> None:
        self._conn = conn
        self._process.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._process.connections.discard(self._conn)

    def begin_auth(self, username: str) -> bool:
        self._user = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return bool(key == self._process.client)

    def session_requested(self) -> Session:
        lacking = self._process.lacking.get(self._user, ())
        extensions = [name for name in EXTENSIONS if name not in lacking]
        return Session(self._process.world, self._user, extensions, self._process.greeting)


class Process:
    """The server's state, and its commands."""

    def __init__(self, directory: Path) -> None:
        spools = directory / "spools"
        spools.mkdir(exist_ok=True)
        self.world = World(directory / "root", spools)
        self.client = asyncssh.read_public_key(directory / "client_ed25519.pub")
        self.connections: set[Any] = set()
        self.lacking: dict[str, list[str]] = {}
        """User name -> the extensions that are not announced."""
        self.greeting = ""

    def execute(self, command: dict[str, Any]) -> Any:
        for key, value in command.items():
            if key == "misbehave":
                self.world.misbehave([Misbehaviour.from_dict(each) for each in value])
            elif key == "lacking":
                self.lacking |= value
            elif key == "greeting":
                self.greeting = value
            elif key == "user":
                os.seteuid(value)
            elif key == "cut":
                for connection in list(self.connections):
                    connection.abort()
            elif key == "met":
                return self.world.met
            elif key == "open":
                return self.world.open_files()
            elif key == "asked":
                return self.world.take_asked()
        return None


async def serve(directory: Path, port: int, version: str) -> None:
    """Serve until the standard input ends."""
    process = Process(directory)
    listening = await asyncssh.create_server(
        lambda: Login(process),
        "127.0.0.1",
        port,
        server_host_keys=[asyncssh.read_private_key(directory / "host_ed25519")],
        server_version=version,
        encoding=None,
        line_editor=False,
        # Only algorithms that current clients prefer.
        encryption_algs=["aes128-gcm@openssh.com", "aes128-ctr"],
        compression_algs=["none"],
    )
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=2**26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        print(json.dumps(process.execute(json.loads(line))), flush=True)
    listening.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    os.umask(0o022)
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
