"""A TCP path to a server that can be made slow, to stand still, or to break, while connections go over it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PIECE = 2**16


class Path:
    """From a port of its own, on 127.0.0.1, to another; carries in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._ended = asyncio.Event()
        self._joined: set[asyncio.Future[Any]] = set()
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="a path")

    def start(self) -> None:
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    def slow(self, seconds: float) -> None:
        """Have what comes from now on take so long, each way."""
        self._delay = seconds

    def stand(self) -> None:
        """Let nothing through, and break nothing."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def go_on(self) -> None:
        """Let everything through that had to wait."""
        self._loop.call_soon_threadsafe(self._open.set)

    def cut(self) -> None:
        """Break every connection, and carry those that come after."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for carrying in self._joined:
            carrying.cancel()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        self._begun.set()
        await self._ended.wait()
        server.close()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        carrying = asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        self._joined.add(carrying)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await carrying
        self._joined.discard(carrying)
        for end in (writer, far_writer):
            end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(PIECE):
                await asyncio.sleep(self._delay)
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@contextmanager
def path_to(target: int) -> Iterator[Path]:
    """Have a path, gone afterwards."""
    path = Path(target)
    path.start()
    try:
        yield path
    finally:
        path.stop()
