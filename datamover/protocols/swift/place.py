"""A prefix of a container as a destination."""

from collections.abc import Callable

from datamover.protocols.base import Ability
from datamover.protocols.http_place.origin import ResourceOrigin
from datamover.protocols.lacks import Lacks
from datamover.protocols.object_store.place import ObjectPlace
from datamover.protocols.object_store.token import Token
from datamover.protocols.object_store.upload import Tools
from datamover.protocols.slices import converted, in_order
from datamover.protocols.swift import segments
from datamover.protocols.swift.container import Container
from datamover.protocols.upload import Check


class SwiftPlace(ObjectPlace):
    """``protocols.place.Place`` of a prefix."""

    def __init__(
        self,
        container: Container,
        origin: Callable[[str], ResourceOrigin],
        tools: Tools,
        lacks: Lacks,
    ) -> None:
        super().__init__(container, origin, tools, lacks)
        self.container = container
        self._learnt = lacks

    async def sweep(
        self, target: str, transfer: str, *, check: Check, keep: str | None = None, since: float | None = None
    ) -> None:
        """Remove the segments of the transfer's uploads of ``target`` that no object is made of."""
        kept = Token.parse(keep).upload if keep else None
        inside = not target or target.endswith("/")
        directory = self.container.key(target.rstrip("/"))
        of = (f"{directory}/" if directory else "") if inside else directory
        names: list[str] | None = None
        for upload in await self.container.uploads(transfer):
            if upload == kept or not segments.is_of(upload, of):
                continue
            path = target
            if inside:
                # The upload's object may exist already: it is one of these names.
                names = await self.list(target) if names is None else names
                paths = [f"{target}{name}" for name in names]
                path = next((each for each in paths if segments.is_of(upload, self.container.key(each))), "")
            check()
            await self.container.abort_upload(path, upload)

    async def list(self, path: str) -> list[str]:
        path = path.strip("/")
        key = self.container.key(path)
        prefix = f"{key}/" if key else ""
        # The directory itself may have an object, whose name ends in "/".
        run, found = self.container.service.run, await self.container.entries(path)
        told = await run(converted(found, lambda entry: entry.name.removeprefix(prefix)))
        names = {name.removesuffix("/") for name in told if name}
        for unnamed in names & {"", ".", ".."}:
            raise self.container.refusals.unnameable(path, prefix + unnamed)
        return await run(in_order(names - {segments.TOP}))

    async def free(self) -> int | None:
        free = await self.container.free()
        if free is None:
            self._learnt.learn(Ability.FREE_SPACE, "neither the containers nor the account tell a quota")
        else:
            self._learnt.saw(Ability.FREE_SPACE)
        return free
