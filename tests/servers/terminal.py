"""A person's terminal, emulated by pyte: over a pty with Debian's ssh in it, or as a telnet client on a socket.

What is asserted is what stands on the screen.
"""

import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from select import select
from typing import Any
from unicodedata import normalize

import pyte

from tests.servers.service import PATIENCE

COLUMNS, ROWS = 80, 24
IAC, SB, SE = 255, 250, 240
WILL, WONT, DO, DONT = 251, 252, 253, 254
BINARY, ECHO, SGA, TERMINAL_TYPE, NAWS, ENVIRONMENT = 0, 1, 3, 24, 31, 39


class Emulated(pyte.HistoryScreen):
    """pyte's screen, and the other one that xterm has."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines, history=1000)
        self._kept: tuple[Any, Any] | None = None

    @property
    def alternate(self) -> bool:
        return self._kept is not None

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        """Be given another size as xterm is: rows go at the bottom, and at the top only where the cursor must stay."""
        lines, columns = lines or self.lines, columns or self.columns
        for _ in range(max(0, self.cursor.y - lines + 1)):
            self.buffer.update({y: self.buffer[y + 1] for y in range(self.lines - 1)})
            self.buffer.pop(self.lines - 1, None)
            self.cursor.y -= 1
        for y in range(lines, self.lines):
            self.buffer.pop(y, None)
        for row in self.buffer.values():
            for x in [x for x in row if x >= columns]:
                del row[x]
        self.lines, self.columns = lines, columns
        self.cursor.x = min(self.cursor.x, columns - 1)
        self.set_margins()

    def set_mode(self, *modes: int, **keywords: Any) -> None:
        super().set_mode(*modes, **keywords)
        if 1049 in modes and keywords.get("private"):
            self._kept = deepcopy(self.buffer), deepcopy(self.cursor)
            self.erase_in_display(2)

    def reset_mode(self, *modes: int, **keywords: Any) -> None:
        super().reset_mode(*modes, **keywords)
        if 1049 in modes and keywords.get("private") and self._kept is not None:
            buffer, self.cursor = self._kept
            self._kept = None
            self.buffer.clear()
            self.buffer.update(buffer)
            self.dirty.update(range(self.lines))


class Person:
    """Somebody at a terminal; ``send`` and ``receive`` are the connection's."""

    def __init__(self, columns: int = COLUMNS, rows: int = ROWS) -> None:
        self.screen = Emulated(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        """All that has come."""
        self.over = False
        self._typed_at = -1
        """How much had come when something was typed last."""

    def send(self, data: bytes) -> None:
        raise NotImplementedError

    def receive(self, seconds: float) -> bytes:
        """Return what has come; nothing where that takes too long."""
        raise NotImplementedError

    def tell_size(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def type(self, text: str) -> None:
        self.press(text.encode())

    def enter(self, line: str) -> None:
        self.press(line.encode() + b"\r")

    def press(self, data: bytes) -> None:
        self.look(0.01)
        self._typed_at = len(self.raw)
        self.send(data)

    @property
    def rows(self) -> list[str]:
        """What stands on the screen, without blanks at the ends."""
        shown = [row.rstrip() for row in self.screen.display]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    @property
    def words(self) -> str:
        """What stands on the screen as one line: sentences are broken between words."""
        return " ".join(self.text.split())

    @property
    def whole(self) -> str:
        """What stands on the screen, and what has left it at the top."""
        above = ["".join(row[column].data for column in range(self.screen.columns)).rstrip() for row in self._above]
        return "\n".join([*above, *self.rows])

    @property
    def _above(self) -> Sequence[Any]:
        return list(self.screen.history.top)

    def until(self, shown: Callable[["Person"], Any], what: str = "") -> None:
        """Look until something is so on the screen."""
        deadline = time.monotonic() + PATIENCE
        while not shown(self):
            assert time.monotonic() < deadline, f"{what}: not on the screen:\n{self.text}"
            assert not self.over, f"{what}: the session is over:\n{self.text}"
            self.look(0.05)

    def prompted(self) -> None:
        """Look until something has come of what was typed, and the prompt is the last row, with nothing behind it."""
        self.until(lambda person: len(person.raw) > person._typed_at and person.rows[-1:] == [">>>"], "a prompt")
        self.look(0.05)
        assert self.rows[-1:] == [">>>"], self.text

    def ask(self, line: str) -> str:
        """Type a line; return what is answered, once the next prompt is there."""
        before, shown = len(self.raw), f">>> {line}"
        self.enter(line)
        self.until(lambda person: shown.encode() in person.raw[before:].replace(b"\r\n", b""), "the line")
        self.prompted()
        rows, first = self.whole.split("\n"), normalize("NFC", shown[: self.screen.columns]).rstrip()
        place = max(index for index, row in enumerate(rows) if row == first)
        return "\n".join(rows[place + -(-len(shown) // self.screen.columns) : -1])

    def look(self, seconds: float) -> None:
        """Take what comes."""
        while data := self.receive(seconds):
            self.raw += data
            self._stream.feed(data)
            seconds = 0.01

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.tell_size()

    def ended(self) -> None:
        """Look until the other side has closed."""
        deadline = time.monotonic() + PATIENCE
        while not self.over:
            assert time.monotonic() < deadline, self.text
            self.look(0.05)


class SshPerson(Person):
    """Debian's own client in a pty."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        kind: str = "xterm-256color",
        columns: int = COLUMNS,
        rows: int = ROWS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(columns, rows)
        self._master, slave = pty.openpty()
        self.tell_size()
        self._client = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": kind, **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def send(self, data: bytes) -> None:
        os.write(self._master, data)

    def receive(self, seconds: float) -> bytes:
        if not select([self._master], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self._master, 65536)
        except OSError:  # The client is gone.
            self.over = True
            return b""

    def tell_size(self) -> None:
        size = struct.pack("HHHH", self.screen.lines, self.screen.columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        if hasattr(self, "_client"):
            os.kill(self._client.pid, signal.SIGWINCH)

    @property
    def status(self) -> int:
        """The client's exit status, once it has ended."""
        return self._client.wait(PATIENCE)

    def close(self) -> None:
        if self._client.poll() is None:
            self._client.terminate()
        self._client.wait(PATIENCE)
        os.close(self._master)


class TelnetPerson(Person):
    """A telnet client as Debian's: it sends each key where the server echoes, and eight bits where that was agreed."""

    def __init__(
        self,
        port: int,
        *,
        kind: str = "xterm-256color",
        columns: int = COLUMNS,
        rows: int = ROWS,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(columns, rows)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._kind = kind
        self._environment = environment or {}
        self._ours: set[int] = set()
        self._buffer = b""

    def login(self, name: str, password: str) -> None:
        self.until(lambda person: "Username:" in person.text)
        self.enter(name)
        self.until(lambda person: "Password:" in person.text)
        self.enter(password)
        self.prompted()

    def send(self, data: bytes) -> None:
        if BINARY in self._ours:
            self._socket.sendall(data.replace(b"\xff", b"\xff\xff"))
        else:
            # An NVT has seven bits (RFC 854): netkit's client takes the eighth off.
            plain = bytes(byte & 0x7F for byte in data)
            self._socket.sendall(plain.replace(b"\r", b"\r\0"))

    def receive(self, seconds: float) -> bytes:
        if not select([self._socket], [], [], seconds)[0]:
            return b""
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.over = True
            return b""
        self._buffer += data
        return self._taken() or (b"\0" if seconds else b"")

    def tell_size(self) -> None:
        if NAWS in self._ours:
            size = struct.pack("!HH", self.screen.columns, self.screen.lines).replace(b"\xff", b"\xff\xff")
            self._socket.sendall(bytes([IAC, SB, NAWS]) + size + bytes([IAC, SE]))

    def close(self) -> None:
        self._socket.close()

    def _taken(self) -> bytes:
        """Return what is to be shown of what has come; answer what the server asks."""
        shown = b""
        while self._buffer:
            if self._buffer[0] != IAC:
                end = self._buffer.find(IAC)
                end = len(self._buffer) if end < 0 else end
                shown, self._buffer = shown + self._buffer[:end], self._buffer[end:]
            elif re.match(rb"\xff[\xfb-\xfe].", self._buffer, re.DOTALL):
                self._negotiate(self._buffer[1], self._buffer[2])
                self._buffer = self._buffer[3:]
            elif found := re.match(rb"\xff\xfa(.*?)\xff\xf0", self._buffer, re.DOTALL):
                if found[1] == bytes([TERMINAL_TYPE, 1]):
                    name = bytes([TERMINAL_TYPE, 0]) + self._kind.upper().encode()
                    self._socket.sendall(bytes([IAC, SB]) + name + bytes([IAC, SE]))
                elif found[1][:2] == bytes([ENVIRONMENT, 1]):
                    told = b"".join(b"\3%b\1%b" % (n.encode(), v.encode()) for n, v in self._environment.items())
                    self._socket.sendall(bytes([IAC, SB, ENVIRONMENT, 0]) + told + bytes([IAC, SE]))
                self._buffer = self._buffer[found.end() :]
            else:
                break  # More of it is to come.
        return shown

    def _negotiate(self, verb: int, option: int) -> None:
        if verb == DO:
            willing = option in (BINARY, SGA, TERMINAL_TYPE, NAWS, ENVIRONMENT)
            if option in self._ours:
                return
            self._socket.sendall(bytes([IAC, WILL if willing else WONT, option]))
            if willing:
                self._ours.add(option)
                if option == NAWS:
                    self.tell_size()
        elif verb == WILL:
            self._socket.sendall(bytes([IAC, DO if option in (ECHO, SGA, BINARY) else DONT, option]))
        elif verb == WONT:
            self._socket.sendall(bytes([IAC, DONT, option]))
