"""Test one destination: connect, write, read, replace and delete a small file, as a transfer would.

Nothing is left behind but a root directory that was missing. The result is what ``destinations.test`` answers.
"""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from datamover.errors import AuthenticationFailed, DataMoverError, Scope, ServerError
from datamover.protocols.base import Ability
from datamover.protocols.place import DestinationPool, Place
from datamover.protocols.upload import Upload, UploadKey

_SIZE = 4096
_MODIFIED = 1_700_000_000.0
"""POSIX seconds; setting it shows whether modification times can be set."""


async def probe(pool: DestinationPool, abilities: frozenset[Ability], clock: Any) -> dict[str, Any]:
    """Return ``{ok, steps: [{step, ok, seconds, error?}]}``; the first step that fails is the last one tried."""
    steps: list[dict[str, Any]] = []

    async def tried(step: str, attempt: Callable[[], Awaitable[None]]) -> bool:
        begun = clock.seconds()
        told: dict[str, Any] = {"step": step, "ok": True}
        try:
            await attempt()
        except DataMoverError as error:
            told.update(ok=False, error=error.as_dict())
            if step == "connect" and isinstance(error, AuthenticationFailed):
                # The login was refused over a connection that was made.
                steps.append({"step": "connect", "ok": True, "seconds": float(clock.seconds() - begun)})
                told["step"] = "authenticate"
        told["seconds"] = float(clock.seconds() - begun)
        steps.append(told)
        return bool(told["ok"])

    ok = await tried("connect", pool.connect)
    if ok:
        # A pool connects and logs in in one step.
        steps.append({"step": "authenticate", "ok": True, "seconds": 0.0})
        if Ability.WRITE in abilities:
            rehearsal = _Rehearsal(pool)
            try:
                for step in (rehearsal.write, rehearsal.read, rehearsal.replace, rehearsal.delete):
                    ok = ok and await tried(step.__name__, step)
            finally:
                await rehearsal.tidy()
    return {"ok": ok, "steps": steps}


class _Rehearsal:
    """The steps on one small file in the root directory."""

    def __init__(self, pool: DestinationPool) -> None:
        self._reading: Place = pool.at(Scope.SOURCE)
        self._writing: Place = pool.at(Scope.DESTINATION)
        self._key = UploadKey("test", os.urandom(8).hex())
        self._target = f".datamover-{self._key.transfer}-{self._key.content}"
        self._content = b""
        self._upload: Upload | None = None
        """The last, until it is committed."""

    async def write(self) -> None:
        await self._put(replace=False)

    async def read(self) -> None:
        origin = self._reading.origin(self._target)
        if (await origin.inspect()).archived:
            return  # It was looked at when it was written; ``lacks`` tells that it cannot be read at once.
        source = await origin.open()
        found = []
        try:
            while data := await source.read():
                found.append(data)
        finally:
            await source.close()
        if b"".join(found) != self._content:
            raise ServerError("what was read is not what was written", scope=Scope.DESTINATION)

    async def replace(self) -> None:
        await self._put(replace=True)
        await self.read()

    async def delete(self) -> None:
        await self._writing.remove(self._target)
        if await self._writing.inspect(self._target) is not None:
            raise ServerError("what was deleted is still there", scope=Scope.DESTINATION)

    async def tidy(self) -> None:
        if self._upload is not None:
            with suppress(DataMoverError):
                await self._upload.abort()
        with suppress(DataMoverError):
            await self._writing.remove(self._target)

    async def _put(self, *, replace: bool) -> None:
        self._content = os.urandom(_SIZE)
        upload = self._writing.begin(self._target, self._key, size=_SIZE, modified=_MODIFIED)
        self._upload = upload
        try:
            await upload.open()
            await upload.write(self._content)
            saved = await upload.finish()
        finally:
            await upload.close()
        if saved.offset != _SIZE:
            raise ServerError(f"{_SIZE} bytes were written and {saved.offset} arrived", scope=Scope.DESTINATION)
        await upload.commit(replace=replace)
        self._upload = None
