"""Decode what a terminal sends into keys: characters, and names of keys that are no character.

conch's ``ServerProtocol`` tells bytes and control sequences apart; here bytes become characters (UTF-8), and the
sequences that it does not know (xterm's, and the keypad's in application mode) names.
"""

import codecs
from typing import Any

from twisted.conch.insults.insults import FUNCTION_KEYS, ServerProtocol

from datamover.bounds.console import LONGEST_SEQUENCE

UNREADABLE = "\ufffd"
"""Stands for bytes that are not UTF-8."""

_CONTROL = {
    b"\x01": "home", b"\x02": "left", b"\x03": "interrupt", b"\x04": "eof", b"\x05": "end", b"\x06": "right",
    b"\x07": "abort", b"\x08": "backspace", b"\t": "tab", b"\n": "newline", b"\x0b": "kill-after",
    b"\x0c": "clear", b"\r": "enter", b"\x0e": "newer", b"\x10": "older", b"\x12": "search", b"\x15": "kill-before",
    b"\x17": "kill-word", b"\x19": "yank", b"\x7f": "backspace",
}  # fmt: skip
_FUNCTION = {
    b"[UP_ARROW]": "older",
    b"[DOWN_ARROW]": "newer",
    b"[LEFT_ARROW]": "left",
    b"[RIGHT_ARROW]": "right",
    b"[HOME]": "home",
    b"[END]": "end",
    b"[DELETE]": "delete",
}
_ALT = {b"b": "word-left", b"f": "word-right", b"d": "kill-part-after", b"\x7f": "kill-part", b"\x08": "kill-part"}
_SEQUENCES = {
    b"\x1b[OA": "older", b"\x1b[OB": "newer", b"\x1b[OC": "right", b"\x1b[OD": "left", b"\x1b[OH": "home",
    b"\x1b[OF": "end", b"\x1b[7~": "home", b"\x1b[8~": "end", b"\x1b[1;5C": "word-right", b"\x1b[1;5D": "word-left",
    b"\x1b[1;3C": "word-right", b"\x1b[1;3D": "word-left", b"\x1b[3;5~": "kill-part-after",
}  # fmt: skip


class Keys:
    """Decodes the keys of one terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._returned = False

    def read(self, key: bytes, modifier: Any) -> list[str]:
        """Return the keys of one keystroke of conch's, each a character or a name; none for a part of a character."""
        if key in FUNCTION_KEYS:
            return [_FUNCTION[key]] if key in _FUNCTION else ["unknown"]
        if modifier is not None:
            return [_ALT.get(key, "unknown")]
        returned, self._returned = self._returned, key == b"\r"
        if (key == b"\n" and returned) or key == b"\0":
            return []  # The second half of an end of line.
        if key < b" " or key == b"\x7f":
            before = list(self._decoder.decode(b"", True))
            self._decoder.reset()
            name = _CONTROL.get(key, "unknown")
            return [*before, "enter" if name == "newline" else name]
        return ["unknown" if not each.isprintable() else each for each in self._decoder.decode(key)]

    @staticmethod
    def sequence(sequence: bytes) -> str:
        """Return the name of a control sequence that conch does not know."""
        return _SEQUENCES.get(sequence, "unknown")


class ConsoleTerminal(ServerProtocol):
    """conch's terminal protocol, corrected: it clears nothing by itself, and bounds sequences.

    Its protocol also has ``beginTurn`` and ``allRead``, which are called before and after keys that come together.
    """

    escBuf: list[bytes]  # noqa: N815
    terminalProtocol: Any  # noqa: N815
    transport: Any

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.terminalProtocol.beginTurn()
        for start in range(0, len(data), LONGEST_SEQUENCE):
            super().dataReceived(data[start : start + LONGEST_SEQUENCE])
            if self.state == b"bracket-escaped" and len(self.escBuf) > LONGEST_SEQUENCE:
                self.state = b"data"
            if self.terminalProtocol is None:
                return
        self.terminalProtocol.allRead()

    @property
    def busy(self) -> bool:
        """Whether keys wait that will be taken in the next turns of the event loop."""
        return self.terminalProtocol is not None and self.terminalProtocol.busy

    def loseConnection(self) -> None:  # noqa: N802
        self.transport.loseConnection()
