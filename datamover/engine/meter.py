"""How far one file is: set by the transfer, read by whoever writes or shows it."""

from collections.abc import Callable
from dataclasses import replace

from datamover.jobs.values import Checkpoint, Progress
from datamover.protocols.upload import Upload

_SMOOTHING = 0.4
"""Weight of the newest second in the shown rate."""


class Meter:
    """The figures of one file's attempt."""

    def __init__(self, transfer: int, lease: int, *, stage: str = "connecting", staging: bool = False) -> None:
        """With ``staging`` the checkpoints are of this node's own files, and of no use to others."""
        self.transfer = transfer
        self._staging = staging
        self.lease = lease
        self.stage = stage
        """What is being done, in words."""
        self.bytes_done = 0
        self.moved = 0
        """Bytes that this attempt moved and that nobody has counted yet."""
        self.size: int | None = None
        self.digest: str | None = None
        self.upload: Upload | None = None
        """What was begun at the destination."""
        self.checkpoint: Checkpoint | None = None
        self.resumed: dict[str, int] | None = None
        """Where this attempt goes on from, and how many bytes that had arrived it moves once more; None once told."""
        self.went_on = False
        """Whether this attempt went on from an earlier one."""
        self.rate = 0.0
        """Bytes a second, smoothed."""
        self.urge: Callable[[], None] = lambda: None
        """Called when there is a checkpoint that is worth writing at once."""
        self.refuse: Callable[[], None] = lambda: None
        """Called when what this tells is what the database refuses: the transfer cannot go on."""
        self._sampled: tuple[float, int] | None = None
        self._told: Progress | None = None
        self._telling: dict[str, int] | None = None
        """What the last progress told of ``resumed``."""

    def sample(self, now: float) -> None:
        """Take the rate's next sample; ``now`` in seconds."""
        if self._sampled is not None and now > self._sampled[0]:
            newest = max(0, self.bytes_done - self._sampled[1]) / (now - self._sampled[0])
            self.rate = newest if not self.rate else self.rate + _SMOOTHING * (newest - self.rate)
        self._sampled = (now, self.bytes_done)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Take note of where the next attempt may begin."""
        self.checkpoint = checkpoint
        if not self._staging:
            self.urge()

    def resume(self, offset: int, *, resent: int) -> None:
        """Have it told at once that this attempt goes on from ``offset``."""
        self.resumed = {"from": offset, "resent": resent}
        self.went_on = True
        self.urge()

    def begin(self, bytes_done: int) -> None:
        """Count from ``bytes_done``, which did not move just now."""
        self.bytes_done = bytes_done
        self._sampled = None

    def news(self) -> Progress | None:
        """Return what to write, None where nothing changed since the last time."""
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
        self._telling, self.resumed = self.resumed, None
        if current == self._told and self._telling is None:
            return None
        self._told = current
        return replace(current, resumed=self._telling)

    def forget_told(self) -> None:
        """Tell everything again: the last news did not arrive."""
        self._told = None
        self.resumed = self.resumed or self._telling

    def repeat(self) -> None:
        """Tell the figures again, which did arrive."""
        self._told = None
