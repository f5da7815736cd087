"""A TCP proxy that delays every byte by a fixed time each way, without loss: a long network path on one machine.

    python -m benchmarks.delay TARGET_PORT MILLISECONDS

prints the port that it listens on, on 127.0.0.1. The time is for one way. The bytes buffered in one direction are
bounded, far above what any of the tools sends without an answer.

A real path takes no time of the processor, so this one is to take little: bytes are never joined or copied, but
received and sent as they are.
"""

import asyncio
import contextlib
import socket
import sys

ROOM = 64 * 2**20
"""Bytes buffered in one direction, at most."""
PIECE = 2**20


async def carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
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
            await loop.sock_sendall(target, data)
            room += len(data)
            made_room.set()
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    delivering = asyncio.create_task(deliver())
    try:
        data = b"."
        while data:
            data = await loop.sock_recv(source, PIECE)
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
    loop = asyncio.get_running_loop()

    async def joined(near: socket.socket) -> None:
        with near, socket.socket() as far:
            for end in (near, far):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await loop.sock_connect(far, ("127.0.0.1", target))
                async with asyncio.TaskGroup() as both:
                    both.create_task(carry(near, far, seconds))
                    both.create_task(carry(far, near, seconds))
            except* OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        print(server.getsockname()[1], flush=True)
        async with asyncio.TaskGroup() as connections:
            while True:
                near, _ = await loop.sock_accept(server)
                connections.create_task(joined(near))


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
