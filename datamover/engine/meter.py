"""The progress of one file: set by its transfer, read by the recorder and by what shows it."""

from collections.abc import Callable
from dataclasses import replace

from datamover.jobs.values import Checkpoint, Progress
from datamover.protocols.upload import Upload

_SMOOTHING = 0.4
"""Weight of the newest second in the shown rate."""


class Meter:
    """The figures of one file's attempt."""

    def __init__(self, transfer: int, lease: int, *, stage: str = "connecting", staging: bool = False) -> None:
        """With ``staging`` the checkpoints are of this node's own files: they are not written, for others lack them."""
        self.transfer = transfer
        self._staging = staging
        self.lease = lease
        self.stage = stage
        """What the transfer does at present, in words."""
        self.bytes_done = 0
        self.moved = 0
        """Bytes that this attempt moved and that are not counted yet."""
        self.size: int | None = None
        self.digest: str | None = None
        self.upload: Upload | None = None
        """The upload that was begun at the destination."""
        self.checkpoint: Checkpoint | None = None
        self.resumed: dict[str, int] | None = None
        """The offset this attempt resumes from, and the bytes it moves again; None once ``unwritten`` returned it."""
        self.went_on = False
        """Whether this attempt resumed an earlier one."""
        self.rate = 0.0
        """Bytes a second, smoothed."""
        self.urge: Callable[[], None] = lambda: None
        """Called when a checkpoint should be written at once."""
        self.refuse: Callable[[], None] = lambda: None
        """Called when the database refuses this meter's progress: the transfer cannot go on."""
        self._sampled: tuple[float, int] | None = None
        self._last: Progress | None = None
        """What ``unwritten`` returned last; None: all of it is new."""
        self._last_resumed: dict[str, int] | None = None
        """``resumed`` of what ``unwritten`` returned last."""

    def sample(self, now: float) -> None:
        """Update the rate; ``now`` is in seconds."""
        if self._sampled is not None and now > self._sampled[0]:
            newest = max(0, self.bytes_done - self._sampled[1]) / (now - self._sampled[0])
            self.rate = newest if not self.rate else self.rate + _SMOOTHING * (newest - self.rate)
        self._sampled = (now, self.bytes_done)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Store a checkpoint: where the next attempt may begin."""
        self.checkpoint = checkpoint
        if not self._staging:
            self.urge()

    def resume(self, offset: int, *, resent: int) -> None:
        """Record that this attempt resumes from ``offset``, and have that written at once."""
        self.resumed = {"from": offset, "resent": resent}
        self.went_on = True
        self.urge()

    def begin(self, bytes_done: int) -> None:
        """Count from ``bytes_done``, which earlier attempts moved."""
        self.bytes_done = bytes_done
        self._sampled = None

    def unwritten(self) -> Progress | None:
        """Return the progress to write, None if nothing changed since the last call."""
        current = Progress(
            self.transfer,
            self.lease,
            self.bytes_done,
            self.size,
            self.rate,
            self.stage,
            self.digest,
            None if self._staging else self.checkpoint,
        )
        self._last_resumed, self.resumed = self.resumed, None
        if current == self._last and self._last_resumed is None:
            return None
        self._last = current
        return current if self._last_resumed is None else replace(current, resumed=self._last_resumed)

    def forget_written(self) -> None:
        """Return everything again from the next ``unwritten``: the last was not written."""
        self._last = None
        self.resumed = self.resumed or self._last_resumed

    def repeat(self) -> None:
        """Return the figures again from the next ``unwritten``, though the last were written."""
        self._last = None
