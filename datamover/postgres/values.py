"""Conversions of values to and from the server that the driver does not do well: bytes, and long JSON."""

import json
from typing import Any

import psycopg2
import psycopg2.extensions
from twisted.internet.task import deferLater

_SLICE = 2000
"""Elements encoded between two turns of the reactor."""


def _read_bytes(value: str | bytes | None, cursor: Any) -> bytes | None:
    return None if value is None else bytes(psycopg2.BINARY(value, cursor))


BYTES = psycopg2.extensions.new_type((17,), "BYTES", _read_bytes)


_encode = json.JSONEncoder(allow_nan=False).encode


class Json:
    """A parameter that is sent as JSON; a long list is encoded a slice at a time."""

    def __init__(self, value: Any) -> None:
        self.value = value

    async def encode(self, reactor: Any) -> str:
        """Return the JSON text; the reactor runs between two slices."""
        if not isinstance(self.value, list) or len(self.value) <= _SLICE:
            return _encode(self.value)
        parts = []
        for start in range(0, len(self.value), _SLICE):
            parts.append(_encode(self.value[start : start + _SLICE])[1:-1])
            await deferLater(reactor, 0)
        return f"[{','.join(parts)}]"
