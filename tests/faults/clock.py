"""A wall clock that can be set, for one process (libfaketime)."""

from pathlib import Path

GLANCE = 1
"""Seconds between two looks of the process at how wrong its clock is. At every reading it would do little else."""


class WrongClock:
    """The wall clock of a process that was started with ``environment``; its monotonic clock is the machine's."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.set(0)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(GLANCE),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, hours: int) -> None:
        """Have it go wrong by so many hours from its next look on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours * 3600:+d}")
        new.rename(self._file)
