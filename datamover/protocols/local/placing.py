"""How a part file takes its target's name, in steps that block:

    keep        if the target exists and is to be replaced, give it a second, hidden name
    take_name   give the part file the target's name, and check the target
    settle      remove the part file's own name and the old file
    undo        instead of settle: remove a wrong file under the target's name, and restore the old one

A crash between two steps leaves the old file or the whole new one under the target's name.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from datamover.errors import DataMoverError
from datamover.protocols.base import Ability, Lack
from datamover.protocols.lacks import Lacks
from datamover.protocols.local.refusals import DiskRefusals
from datamover.protocols.local.syscalls import FileStatus, look, rename_exclusively
from datamover.protocols.part_files.names import OLD


@dataclass(slots=True, eq=False)
class LocalPlacement:
    """The placing of one finished part file. The steps raise OSError, and DataMoverErrors for what they find wrong."""

    source: int
    """The part file's directory, open."""
    part: bytes
    directory: int
    """The target's directory, open."""
    name: bytes
    target: str
    """The target's path, for messages."""
    size: int
    replace: bool
    refusals: DiskRefusals
    lacks: Lacks
    without: list[Lack] = field(default_factory=list)
    """What could not be done for the file."""
    _old_linked: bool = False
    _linked: bool = False
    _named: bool = False

    def keep(self) -> bool:
        """Give the old file a second name; return whether there is none, or it is kept.

        If it cannot be kept, the part file is checked now.
        """
        if not self.replace:
            return True
        if look(self.directory, self.name) is None:
            return True
        with suppress(FileExistsError):
            found = self._link(self.directory, self.name, self.directory, self._old, self._link_anew)
            self._old_linked = found is not None
        if not self._old_linked:
            self._check(look(self.source, self.part), "in its part file")
        return self._old_linked

    def take_name(self) -> None:
        """Give the part file the target's name and check the target; if it is wrong, undo that and raise."""
        found = None
        if self.replace:
            self._take_over()
        else:
            found = self._link(self.source, self.part, self.directory, self.name, self._exists)
            self._linked = found is not None
            if not self._linked:
                try:
                    rename_exclusively(self.source, self.part, self.directory, self.name)
                except FileExistsError:
                    raise self.refusals.exists(self.target) from None
        self._named = True
        try:
            self._look(found or look(self.directory, self.name))
        except DataMoverError:
            self.undo()
            raise

    def settle(self) -> None:
        """Remove the part file's own name, and the old file."""
        if self._linked:
            self._remove(self.source, self.part, "its part file")
        if self._old_linked:
            self._remove(self.directory, self._old, "the old file's second name")
            self._old_linked = False

    def undo(self) -> None:
        """Remove the file that has the target's name, if it is the part file, and restore the old one."""
        if self._named and self._linked:
            self._take_away()
        elif self._named and look(self.source, self.part) is None:
            if self._old_linked:
                os.rename(self._old, self.name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
                self._old_linked = False
            else:
                self._take_away()
        self._named = False
        if self._old_linked:
            self._remove(self.directory, self._old, "the old file's second name")
            self._old_linked = False

    def _take_over(self) -> None:
        """Rename the part file over the target. A file system may report an error for a rename that it made."""
        try:
            os.rename(self.part, self.name, src_dir_fd=self.source, dst_dir_fd=self.directory)
        except OSError:
            found = look(self.directory, self.name)
            done = found is not None and found.regular and found.size == self.size
            if not done or look(self.source, self.part) is not None:
                self.undo()
                raise

    @property
    def _old(self) -> bytes:
        return self.part + OLD.encode()

    def _link_anew(self) -> None:
        """Replace the second name if it is not the old file's, but left by an earlier call or by somebody else.

        Raises FileExistsError if that is impossible.
        """
        found, old = look(self.directory, self._old), look(self.directory, self.name)
        if found is None or old is None or found.file != old.file:
            try:
                os.unlink(self._old, dir_fd=self.directory)
                os.link(
                    self.name, self._old, src_dir_fd=self.directory, dst_dir_fd=self.directory, follow_symlinks=False
                )
            except OSError as error:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error

    def _exists(self) -> None:
        """Accept an existing target that is the part file, linked by an interrupted call; raise for any other."""
        found, part = look(self.directory, self.name), look(self.source, self.part)
        if found is not None and found.directory:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if found is None or part is None or found.file != part.file:
            raise self.refusals.exists(self.target) from None

    def _link(
        self, source: int, old: bytes, directory: int, new: bytes, exists: Callable[[], None] = lambda: None
    ) -> FileStatus | None:
        """Give a file a second name and return what is found there, None if the disk has no hard links."""
        try:
            os.link(old, new, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            exists()
            return look(directory, new)
        except FileNotFoundError:
            raise
        except OSError as error:
            found = look(directory, new)
            if found is not None:  # It was made in spite of the error, or another file has the name by now.
                exists()
                return found
            # If the error does not concern links alone, the rename that follows will raise it again.
            why = f"the disk gives no second name: {os.strerror(error.errno) if error.errno else error}"
            self.lacks.learn(Ability.KEEP_OLD, why)
            return None
        found = look(directory, new)
        if found is None:
            self.lacks.learn(Ability.KEEP_OLD, "the disk says that it gave a second name, and there is none")
        else:
            self.lacks.saw(Ability.KEEP_OLD)
        return found

    def _look(self, found: FileStatus | None) -> None:
        """Check what was found under the target's name; raises ServerError, SizeMismatch."""
        found = self._check(found, "under its name")
        left = None if self._linked else look(self.source, self.part)
        if left is not None and left.file != found.file:
            raise self.refusals.not_renamed(self.target)
        # If both names were links to one file before, a rename did nothing (rename(2)).
        self._linked = self._linked or left is not None

    def _check(self, found: FileStatus | None, where: str) -> FileStatus:
        if found is None:
            raise self.refusals.vanished(self.target, where)
        if not found.regular or found.size != self.size:
            raise self.refusals.other_size(self.target, where, found.size, self.size)
        return found

    def _take_away(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.directory)

    def _remove(self, directory: int, name: bytes, what: str) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return
        except OSError as error:
            why = f"{what} stays, as {name.decode('utf-8', 'replace')!r}: {error.strerror}"
            self.without.append(self.lacks.learn(Ability.REMOVE, why))
