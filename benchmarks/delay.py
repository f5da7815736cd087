"""A TCP proxy that delays every byte by a fixed time each way, without loss: a long network path on one machine.

    python -m benchmarks.delay TARGET_PORT MILLISECONDS

prints the port that it listens on, on 127.0.0.1. The time is for one way. The bytes buffered in one direction are
bounded, far above what any of the tools sends without an answer.
"""

import asyncio
import contextlib
import sys
from typing import cast

ROOM = 64 * 2**20
"""Bytes buffered in one direction, at most."""
PIECE = 2**20


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Forward one direction until it ends; the end is delayed like the bytes."""
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    room = ROOM
    made_room = asyncio.Event()

    async def deliver() -> None:
        nonlocal room
        while True:
            due, data = await under_way.get()
            if (early := due - loop.time()) > 0:
                await asyncio.sleep(early)
            if not data:
                break
            writer.write(data)
            await writer.drain()
            room += len(data)
            made_room.set()
        with contextlib.suppress(OSError):
            writer.write_eof()

    delivering = asyncio.create_task(deliver())
    try:
        data = b"."
        while data:
            data = await reader.read(PIECE)
            under_way.put_nowait((loop.time() + seconds, data))
            room -= len(data)
            while room < 0:
                made_room.clear()
                await made_room.wait()
        await delivering
    finally:
        delivering.cancel()


async def serve(target: int, seconds: float) -> None:
    """Listen, print the port, and forward until the process is ended."""

    async def joined(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target, limit=PIECE)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(carry(reader, far_writer, seconds))
                both.create_task(carry(far_reader, writer, seconds))
        except* OSError:
            pass
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(joined, "127.0.0.1", 0, limit=PIECE)
    print(cast(int, server.sockets[0].getsockname()[1]), flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
