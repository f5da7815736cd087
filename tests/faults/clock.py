"""A wall clock that can be set, for one process (libfaketime)."""

from pathlib import Path

GLANCE = 1
"""Seconds between two looks of a process with threads at how wrong its clock is. At every reading it would do little
else: whenever a thread waits for another it reads the clock.
"""


class WrongClock:
    """The wall clock of a process that was started with ``environment``; its monotonic clock is the machine's."""

    def __init__(self, directory: Path, *, glance: int = GLANCE) -> None:
        """The process looks ``glance`` seconds after its last look, with 0 whenever it reads its clock."""
        self._file = directory / "clock"
        self.set(0)
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            **({"FAKETIME_CACHE_DURATION": str(glance)} if glance else {"FAKETIME_NO_CACHE": "1"}),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, hours: int) -> None:
        """Have it go wrong by so many hours from its next look on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours * 3600:+d}")
        new.rename(self._file)
