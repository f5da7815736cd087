"""Several clients that repeat one XML-RPC call, each on a persistent connection.

    python -m benchmarks.client PORT PATH CLIENTS CALLS < call.xml

prints the calls a second of all clients together. It is a separate process and does as little as possible: the call is
a fixed text, and only the length of an answer and the absence of a Fault are checked.
"""

import socket
import sys
import threading
import time


def call_often(port: int, request: bytes, calls: int) -> None:
    """Make the calls one after another; raises AssertionError for a Fault."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(calls):
            connection.sendall(request)
            answer = bytearray()
            while b"\r\n\r\n" not in answer:
                answer += _received(connection)
            head, _, start = bytes(answer).partition(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            body = bytearray(start)
            while len(body) < int(length.split(b":")[1]):
                body += _received(connection)
            assert b"<fault>" not in body, body.decode()


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(2**16)
    assert data, "the server closed the connection"
    return data


def main(port: int, path: str, clients: int, calls: int) -> None:
    """Run the clients and print the rate."""
    body = sys.stdin.buffer.read()
    host = f"Host: 127.0.0.1:{port}\r\nContent-Type: text/xml"
    request = f"POST {path} HTTP/1.1\r\n{host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    threads = [threading.Thread(target=call_often, args=(port, request, calls // clients)) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(calls // clients * clients / (time.perf_counter() - start))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
