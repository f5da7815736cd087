"""SFTP version 3 over this machine's files, as OpenSSH serves them, except for the misbehaviours.

It is written from draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL, and shares no code with datamover.
"""

import errno
import itertools
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers.wayward import misbehaviour as sftp
from tests.servers.wayward.files import LARGEST, OpenFiles, attributes_of, set_attributes, told_of
from tests.servers.wayward.misbehaviour import Way
from tests.servers.wayward.packets import EXTENDED_REPLY, HANDLE, LONG, NAME, NUMBER, Attributes, Reader, string
from tests.servers.wayward.world import EOF, OK, Answer, Asked, Refused, Ways, World

_EXTENDED = 200
_AT_ONCE = 100
"""Names in one answer to READDIR."""
_CODES = {
    errno.ENOENT: (sftp.NO_SUCH_FILE, "No such file"),
    errno.ENOTDIR: (sftp.FAILURE, "Not a directory"),  # As Green End's server and lsh's say.
    errno.ELOOP: (sftp.NO_SUCH_FILE, "No such file"),
    errno.EACCES: (sftp.PERMISSION_DENIED, "Permission denied"),
    errno.EPERM: (sftp.PERMISSION_DENIED, "Permission denied"),
    errno.ENAMETOOLONG: (sftp.FAILURE, "File name too long"),  # As asyncssh's says.
    errno.EINVAL: (sftp.BAD_MESSAGE, "Bad message"),
}


@dataclass(slots=True)
class _Listing:
    path: str
    names: list[str] | None = None
    """The names that were not listed yet; None: a directory that is not there shows only when it is read (asyncssh)."""


class Channel:
    """Handles the requests of one SFTP channel."""

    def __init__(self, world: World, user: str, cut: Callable[[], None]) -> None:
        self._world = world
        self._user = user
        self._cut = cut
        self._numbers = itertools.count()
        self._files = OpenFiles(world, self._numbers)
        self._listings: dict[bytes, _Listing] = {}
        of_files = self._files.parsers()
        self._close_file = of_files[4]
        self._parsers: dict[int | str, Callable[[Reader], Asked]] = {
            **of_files,
            4: self._close,
            7: self._lstat,
            9: self._setstat,
            11: self._opendir,
            12: self._readdir,
            13: self._remove,
            14: self._mkdir,
            15: self._rmdir,
            16: self._realpath,
            17: self._stat,
            18: self._rename,
            sftp.POSIX_RENAME: self._posix_rename,
            sftp.HARD_LINK: self._link,
            sftp.STATVFS: self._statvfs,
            sftp.LIMITS: self._limits,
        }

    def take(self, kind: int, packet: Reader) -> Answer | None:
        """Handle a request, or misbehave; return the answer, None for none."""
        try:
            parse = self._parsers.get(packet.string().decode() if kind == _EXTENDED else kind, _unknown)
            return self._answer(parse(packet))
        except Refused as refused:
            return refused.answer
        except OSError as error:
            return Refused(*_CODES.get(error.errno or 0, (sftp.FAILURE, "Failure"))).answer

    def end(self) -> None:
        self._files.end()

    def _answer(self, asked: Asked) -> Answer | None:
        ways = self._world.ways(asked, self._user)
        if Way.HANGS in ways:
            return None
        if Way.CUTS in ways:
            self._cut()
            return None
        if Way.REFUSES in ways:
            asked.otherwise()
            raise Refused.by(ways[Way.REFUSES])
        if Way.IGNORES in ways:
            asked.otherwise()
            return OK
        answer = asked.act(ways) or OK
        if Way.DOES_AND_CUTS in ways:
            self._cut()
            return None
        if Way.DOES_AND_REFUSES in ways:
            raise Refused.by(ways[Way.DOES_AND_REFUSES])
        return answer

    # Paths ----------------------------------------------------------------------------------------------------

    def _stat(self, packet: Reader) -> Asked:
        path = packet.path()
        return Asked(sftp.STAT, [path], lambda ways: told_of(os.stat(path), ways))

    def _lstat(self, packet: Reader) -> Asked:
        path = packet.path()
        return Asked(sftp.LSTAT, [path], lambda ways: told_of(os.lstat(path), ways))

    def _setstat(self, packet: Reader) -> Asked:
        path, attributes = packet.path(), packet.attributes()
        told = {"sets": sorted(attributes.tags)}
        return Asked(sftp.SETSTAT, [path], lambda _: set_attributes(path, attributes), attributes.tags, told)

    def _realpath(self, packet: Reader) -> Asked:
        path = packet.path()

        def act(ways: Ways) -> Answer:
            found = os.path.normpath(path)
            if Way.ECHOES not in ways:
                above, name = os.path.split(path)
                # The last segment need not exist.
                found = os.path.realpath(os.path.join(os.path.realpath(above, strict=True), name))
            return NAME, NUMBER.pack(1) + string(os.fsencode(found)) * 2 + Attributes().packed()

        return Asked(sftp.REALPATH, [path], act)

    # Names ----------------------------------------------------------------------------------------------------

    def _mkdir(self, packet: Reader) -> Asked:
        path, attributes = packet.path(), packet.attributes()
        mode = 0o777 if attributes.mode is None else stat.S_IMODE(attributes.mode)
        return Asked(sftp.MKDIR, [path], lambda _: os.mkdir(path, mode), attributes.tags)

    def _rmdir(self, packet: Reader) -> Asked:
        path = packet.path()
        return Asked(sftp.RMDIR, [path], lambda _: os.rmdir(path))

    def _remove(self, packet: Reader) -> Asked:
        path = packet.path()

        def act(_: Ways) -> None:
            # As copyparty's does, a directory is removed with all that is in it.
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

        return Asked(sftp.REMOVE, [path], act)

    def _rename(self, packet: Reader) -> Asked:
        old, new = packet.path(), packet.path()

        def act(ways: Ways) -> None:
            if os.path.lexists(new) and Way.REPLACES not in ways:
                raise FileExistsError(errno.EEXIST, "")
            _move(old, new, ways)

        return Asked(sftp.RENAME, [old, new], act)

    def _posix_rename(self, packet: Reader) -> Asked:
        old, new = packet.path(), packet.path()
        return Asked(sftp.POSIX_RENAME, [old, new], lambda ways: _move(old, new, ways))

    def _link(self, packet: Reader) -> Asked:
        old, new = packet.path(), packet.path()
        return Asked(sftp.HARD_LINK, [old, new], lambda _: os.link(old, new))

    # Directories ----------------------------------------------------------------------------------------------

    def _opendir(self, packet: Reader) -> Asked:
        path = packet.path()

        def act(_: Ways) -> Answer:
            key = f"directory {next(self._numbers)}".encode()
            self._listings[key] = _Listing(path)
            return HANDLE, string(key)

        return Asked(sftp.OPENDIR, [path], act)

    def _readdir(self, packet: Reader) -> Asked:
        listing = self._listings.get(packet.string())
        if listing is None:
            raise Refused(sftp.FAILURE, "Failure")

        def act(ways: Ways) -> Answer:
            if listing.names is None:
                listing.names = [".", "..", *os.listdir(listing.path)]
            told, listing.names = listing.names[:_AT_ONCE], listing.names[_AT_ONCE:]
            entries = []
            for name in told if Way.LISTS_NOTHING not in ways else ():
                with suppress(FileNotFoundError):
                    found = attributes_of(os.lstat(os.path.join(listing.path, name)), ways)
                    entries.append(string(os.fsencode(name)) * 2 + found.packed())
            if not entries:
                raise Refused(EOF, "End of file")
            return NAME, NUMBER.pack(len(entries)) + b"".join(entries)

        return Asked(sftp.READDIR, [listing.path], act)

    def _close(self, packet: Reader) -> Asked:
        key = packet.string()
        listing = self._listings.pop(key, None)
        if listing is None:
            return self._close_file(Reader(string(key)))
        return Asked(sftp.CLOSE, [listing.path], lambda _: None, {"directory"})

    # The server -----------------------------------------------------------------------------------------------

    def _statvfs(self, packet: Reader) -> Asked:
        path = packet.path()

        def act(ways: Ways) -> Answer:
            of = os.statvfs(path)
            free = ways[Way.TELLS].amount // of.f_frsize if Way.TELLS in ways else of.f_bavail
            room = (of.f_bsize, of.f_frsize, of.f_blocks, free, free, of.f_files, of.f_ffree, of.f_favail)
            return EXTENDED_REPLY, b"".join(map(LONG.pack, (*room, 0, 0, of.f_namemax)))

        return Asked(sftp.STATVFS, [path], act)

    def _limits(self, _: Reader) -> Asked:
        def act(ways: Ways) -> Answer:
            packet, each = (ways[Way.TELLS].amount,) * 2 if Way.TELLS in ways else (2**18, LARGEST)
            return EXTENDED_REPLY, b"".join(map(LONG.pack, (packet, each, each, 1000)))

        return Asked(sftp.LIMITS, [self._world.root], act)


def _unknown(_: Reader) -> Asked:
    raise Refused(sftp.OP_UNSUPPORTED, "Operation unsupported")


def _move(old: str, new: str, ways: Ways) -> None:
    if Way.COPIES in ways:
        Path(new).write_bytes(Path(old).read_bytes())
    else:
        os.rename(old, new)
