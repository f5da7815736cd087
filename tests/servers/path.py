"""A TCP proxy whose connections a test can delay, stall or break."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PIECE = 2**16


class Path:
    """Forwards from a port on 127.0.0.1, by default a free one, to another port, in a thread."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port
        self.sent = 0
        """Bytes that came from clients so far."""
        self.asked = 0
        """How often it was connected to."""
        self._came = 0
        """Bytes that came from the server so far."""
        self._most = 0
        self._altered: dict[bytes, bytes] = {}
        self._target = target
        self._delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._answered = asyncio.Event()
        self._answered.set()
        self._let = asyncio.Event()
        self._let.set()
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
        """Delay what is received from now on by so many seconds, each way."""
        self._delay = seconds

    def alter(self, sent: bytes, instead: bytes) -> None:
        """Forward other bytes from now on where clients send these in one piece, as the heads of requests are."""
        self._altered[sent] = instead

    def stand(self) -> None:
        """Stall both directions without breaking connections."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def mute(self) -> None:
        """Stall the server's direction without breaking connections."""
        self._loop.call_soon_threadsafe(self._answered.clear)

    def hold(self, most: int) -> None:
        """Stall a direction once so many bytes have passed in it, without breaking connections."""
        self._most = most
        self._loop.call_soon_threadsafe(self._let.clear)

    def go_on(self) -> None:
        """Forward everything that was stalled, or is to be."""
        for event in (self._open, self._answered, self._let):
            self._loop.call_soon_threadsafe(event.set)

    def cut(self) -> None:
        """Break every connection, and accept new ones; return when they are broken."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    async def _cut(self) -> None:
        broken = list(self._joined)
        for carrying in broken:
            carrying.cancel()
        await asyncio.gather(*broken, return_exceptions=True)

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = int(server.sockets[0].getsockname()[1])
        self._begun.set()
        await self._ended.wait()
        server.close()
        carrying = asyncio.all_tasks() - {asyncio.current_task()}
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        carrying = asyncio.gather(
            self._carry(reader, far_writer, self._open), self._carry(far_reader, writer, self._open, self._answered)
        )
        self._joined.add(carrying)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await carrying
        self._joined.discard(carrying)
        for end in (writer, far_writer):
            end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *events: asyncio.Event) -> None:
        try:
            while data := await reader.read(PIECE):
                if events == (self._open,):  # Only the clients' direction waits for nothing else.
                    self.sent += len(data)
                    for sent, instead in self._altered.items():
                        data = data.replace(sent, instead)
                    passed = self.sent
                else:
                    self._came += len(data)
                    passed = self._came
                await asyncio.sleep(self._delay)
                if passed > self._most:
                    await self._let.wait()
                for event in events:
                    await event.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@contextmanager
def path_to(target: int, port: int = 0) -> Iterator[Path]:
    """Run a path while the block runs."""
    path = Path(target, port)
    path.start()
    try:
        yield path
    finally:
        path.stop()
