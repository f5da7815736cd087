"""Servers that refuse, lie and keep less, by what becomes of a file that is moved there."""

from typing import Any

from tests.engine.file_servers import Server
from tests.servers.wayward.misbehaviour import (
    CLOSE,
    EXTENSIONS,
    FAILURE,
    FSETSTAT,
    FSTAT,
    FSYNC,
    HARD_LINK,
    LIMITS,
    LSTAT,
    MKDIR,
    NO_SPACE,
    NO_SUCH_FILE,
    OP_UNSUPPORTED,
    OPEN,
    OPENDIR,
    PERMISSION_DENIED,
    POSIX_RENAME,
    QUOTA,
    READ,
    READDIR,
    REALPATH,
    REMOVE,
    RENAME,
    RMDIR,
    SETSTAT,
    STAT,
    STATVFS,
    WRITE,
    Misbehaviour,
)
from tests.servers.wayward.misbehaviour import Way as Does

LOOKS = (STAT, LSTAT, FSTAT)
SETS = (SETSTAT, FSETSTAT)
NAMING = (HARD_LINK, POSIX_RENAME, RENAME)
AT_ONCE = (HARD_LINK, POSIX_RENAME)
"""What takes no moment without a file."""

CODES = (FAILURE, PERMISSION_DENIED, OP_UNSUPPORTED)


def one(request: str, does: Does = Does.REFUSES, code: int = FAILURE, **more: Any) -> Misbehaviour:
    words = {NO_SPACE: "No space left on device", QUOTA: "Disk quota exceeded"}.get(code, f"no {request} here")
    return Misbehaviour(request, does, code, words, **more)


def all_of(*requests: str, does: Does = Does.REFUSES, code: int = FAILURE, **more: Any) -> tuple[Misbehaviour, ...]:
    return tuple(one(request, does, code, **more) for request in requests)


def refusing(*requests: str, codes: tuple[int, ...] = CODES, **more: Any) -> list[Server]:
    """Return a server for each request and each code."""
    return [Server((one(request, code=code, **more),)) for request in requests for code in codes]


def does(way: Does, *requests: str, **more: Any) -> list[Server]:
    """Return a server for each request."""
    return [Server((one(request, way, **more),)) for request in requests]


def once(way: Does, *requests: str, without: tuple[str, ...] = ()) -> list[Server]:
    """Return a server for each request that does so at the first of each file's."""
    return [Server((one(request, way, nth=1),), without=without) for request in requests]


GATEWAY = (one(OPEN, Does.AT_CLOSE), one(WRITE, Does.IN_ORDER, OP_UNSUPPORTED), *all_of(*SETS, code=OP_UNSUPPORTED))
"""What hands files on to an object store."""

WITHOUT: list[Server] = [
    Server(),
    *refusing(*SETS),
    *refusing(*SETS, codes=(PERMISSION_DENIED,), having="mode"),
    *refusing(FSETSTAT, codes=(FAILURE,), having="times"),
    *[Server(all_of(*SETS, code=code)) for code in CODES],
    *does(Does.IGNORES, *SETS),
    Server(all_of(*SETS, does=Does.IGNORES)),
    *refusing(FSTAT),
    *refusing(FSYNC, codes=(PERMISSION_DENIED, OP_UNSUPPORTED)),
    *refusing(LIMITS, codes=(FAILURE, OP_UNSUPPORTED)),
    *[Server((one(LIMITS, Does.TELLS, amount=amount),)) for amount in (0, 1024, 2**30)],
    *refusing(HARD_LINK, POSIX_RENAME),
    *refusing(OPEN, codes=(FAILURE, OP_UNSUPPORTED), having="exclusive"),
    *refusing(*LOOKS[:2], codes=(FAILURE, PERMISSION_DENIED), having="missing"),
    Server(all_of(*LOOKS[:2], having="missing")),
    Server(all_of(*LOOKS, REALPATH, OPENDIR, REMOVE, having="missing")),
    *[Server(all_of(*LOOKS, does=way)) for way in (Does.NO_SIZE, Does.NO_TIMES, Does.NO_MODE)],
    *does(Does.NO_SIZE, *LOOKS),
    *[Server(all_of(*LOOKS, does=Does.SHIFTS_TIMES, amount=amount)) for amount in (3600, -86400)],
    Server((one(RENAME, Does.REPLACES),), without=AT_ONCE),
    *does(Does.ECHOES, REALPATH),
    *does(Does.AT_CLOSE, OPEN),
    *does(Does.IN_ORDER, WRITE),
    Server(GATEWAY),
    Server(GATEWAY, without=EXTENSIONS),
    *[Server(without=(name,)) for name in EXTENSIONS],
    Server(without=AT_ONCE),
    Server(without=EXTENSIONS),
    Server(all_of(*SETS, code=OP_UNSUPPORTED), without=EXTENSIONS),
    Server((*all_of(*SETS, FSTAT, code=OP_UNSUPPORTED), one(RENAME, Does.REPLACES)), without=EXTENSIONS),
]
"""What a file arrives without."""

NEVER_REMOVED: list[Server] = [
    *refusing(REMOVE),
    Server(all_of(REMOVE, code=PERMISSION_DENIED), without=(HARD_LINK,)),
    Server(all_of(REMOVE, RMDIR, code=PERMISSION_DENIED), without=AT_ONCE),
    Server(all_of(REMOVE, RMDIR, OPENDIR, code=PERMISSION_DENIED), without=AT_ONCE),
    Server(all_of(RMDIR, code=PERMISSION_DENIED), without=AT_ONCE),
]
"""What a file arrives at too; something may be left beside it."""

PASSING: list[Server] = [
    *once(Does.REFUSES, WRITE, FSETSTAT, FSTAT, LSTAT, STAT, MKDIR, REALPATH, *AT_ONCE, FSYNC),
    *[Server((one(request, nth=1, having="writing"),)) for request in (OPEN, CLOSE)],
    *once(Does.DOES_AND_REFUSES, WRITE, FSETSTAT, MKDIR, *AT_ONCE, REMOVE),
    *once(Does.IGNORES, *AT_ONCE, REMOVE),
    *[
        server
        for way in (Does.REFUSES, Does.DOES_AND_REFUSES, Does.IGNORES)
        for server in once(way, RENAME, without=AT_ONCE)
    ],
    Server((one(CLOSE, Does.DOES_AND_REFUSES, nth=1, having="writing"),)),
    Server((one(OPEN, Does.AT_CLOSE), one(CLOSE, nth=1, having="writing"))),
    # What an attempt has left is looked for before the next.
    *[
        Server((one(WRITE, nth=1), one(request, code=code)))
        for request in (OPENDIR, READDIR)
        for code in (FAILURE, PERMISSION_DENIED, OP_UNSUPPORTED)
    ],
    Server((one(WRITE, nth=1), one(READDIR, Does.LISTS_NOTHING))),
    # A part file that cannot be written over.
    Server((one(WRITE, nth=2), one(OPEN, Does.TRUNCATES))),
    Server((one(WRITE, nth=2), *all_of(*SETS, code=OP_UNSUPPORTED))),
]
"""What another attempt mends."""

CUT: list[Server] = [
    server
    for way in (Does.CUTS, Does.DOES_AND_CUTS)
    for server in (
        *once(way, OPEN, WRITE, CLOSE, FSETSTAT, MKDIR, *AT_ONCE, REMOVE),
        *once(way, RENAME, without=AT_ONCE),
    )
]
"""A connection that breaks; what was asked last may be done or not."""

FATAL: list[Server] = [
    *refusing(OPEN, codes=(*CODES, NO_SPACE, QUOTA), having="writing"),
    *refusing(CLOSE, codes=(*CODES, NO_SPACE, QUOTA), having="writing"),
    *[Server((one(OPEN, Does.AT_CLOSE), one(CLOSE, code=code, having="writing"))) for code in (*CODES, QUOTA)],
    Server((one(CLOSE, Does.KEEPS_BELOW, having="writing"), one(CLOSE, Does.DOES_AND_REFUSES, having="writing"))),
    *[Server(all_of(*NAMING, code=code)) for code in CODES],
    *[Server(all_of(RENAME, code=code), without=AT_ONCE) for code in CODES],
]
"""What no file arrives with."""
FATAL_WITH_BYTES: list[Server] = [
    *refusing(WRITE, codes=(*CODES, NO_SPACE, QUOTA)),
    *does(Does.DOES_AND_REFUSES, WRITE),
    Server((one(WRITE), one(STATVFS, Does.TELLS, amount=0))),
    *[Server((one(WRITE), one(STATVFS, code=code))) for code in (FAILURE, OP_UNSUPPORTED)],
]
FATAL_NEW: list[Server] = refusing(MKDIR)

EITHER: list[Server] = [
    *refusing(*LOOKS[:2], REALPATH),
    *refusing(OPEN, STAT, codes=(NO_SUCH_FILE,)),
    *refusing(OPEN, codes=(FAILURE,), having="mode"),
    *refusing(OPEN, codes=(FAILURE, PERMISSION_DENIED), having="reading"),
    *refusing(FSYNC, codes=(FAILURE,)),
    *[Server(all_of(*LOOKS, code=code)) for code in (FAILURE, OP_UNSUPPORTED)],
    *[Server(all_of(*LOOKS, code=NO_SUCH_FILE, name=name)) for name in ("file", ".datamover-*")],
    *[Server(all_of(*LOOKS, does=Does.TELLS, amount=amount)) for amount in (0, 5)],
    *[Server(all_of(*LOOKS, does=Does.TELLS, amount=0, name=name)) for name in ("file", ".datamover-*")],
    *does(Does.TELLS, *LOOKS, amount=0),
    Server((*all_of(*LOOKS, does=Does.NO_SIZE), one(OPEN, having="reading"))),
    Server((*all_of(*LOOKS, does=Does.NO_SIZE), one(READ, Does.EMPTY_AT_END))),
    *does(Does.DOES_AND_REFUSES, OPEN, FSETSTAT, FSYNC, MKDIR, HARD_LINK, POSIX_RENAME, REMOVE, REALPATH),
    Server(all_of(*NAMING, does=Does.DOES_AND_REFUSES)),
    Server(all_of(RENAME, does=Does.DOES_AND_REFUSES), without=AT_ONCE),
    Server(all_of(RENAME, code=PERMISSION_DENIED), without=(HARD_LINK,)),
    *does(Does.TRUNCATES, OPEN),
    Server((one(OPEN, Does.AT_CLOSE), one(OPEN, Does.TRUNCATES))),
    Server(all_of(HARD_LINK, REMOVE, code=PERMISSION_DENIED)),
    Server(all_of(POSIX_RENAME, REMOVE, code=PERMISSION_DENIED)),
]
"""What may end either way."""

LESS: list[Server] = [
    *[Server((one(WRITE, Does.KEEPS_BELOW, amount=amount),)) for amount in (0, 1000, 100_000)],
    *does(Does.KEEPS_HALF, WRITE),
    *[Server((one(CLOSE, Does.KEEPS_BELOW, amount=amount, having="writing"),)) for amount in (0, 1000)],
    *does(Does.KEEPS_HALF, CLOSE, having="writing"),
    *[Server((one(OPEN, Does.AT_CLOSE), one(CLOSE, way, having="writing"))) for way in (Does.IGNORES, Does.KEEPS_HALF)],
    *does(Does.IGNORES, WRITE, MKDIR, HARD_LINK, POSIX_RENAME, REMOVE),
    *does(Does.COPIES, POSIX_RENAME),
    Server(all_of(*NAMING, does=Does.IGNORES)),
    Server(all_of(HARD_LINK, REMOVE, does=Does.IGNORES)),
    *[Server(all_of(RENAME, does=way), without=AT_ONCE) for way in (Does.IGNORES, Does.COPIES)],
    Server(all_of(REMOVE, RMDIR, does=Does.IGNORES), without=AT_ONCE),
    Server((one(WRITE, Does.KEEPS_BELOW, amount=1000), *all_of(*LOOKS, does=Does.NO_SIZE))),
    Server((one(WRITE, Does.KEEPS_BELOW, amount=1000), one(FSTAT, code=OP_UNSUPPORTED))),
    Server((one(WRITE, Does.KEEPS_BELOW, amount=1000), one(REMOVE, code=PERMISSION_DENIED))),
    Server((one(WRITE, Does.KEEPS_HALF), *all_of(*NAMING[:2], code=OP_UNSUPPORTED))),
    Server((one(WRITE, Does.KEEPS_HALF),), without=EXTENSIONS),
    Server((one(CLOSE, Does.KEEPS_HALF, having="writing"),), without=EXTENSIONS),
]
"""Servers that keep less than they say."""

WIDE: list[Server] = [
    Server(wide=True),
    Server((one(WRITE, Does.IN_ORDER, OP_UNSUPPORTED),), wide=True),
    Server(GATEWAY, wide=True),
    Server((one(OPEN, Does.AT_CLOSE), one(CLOSE, nth=1, having="writing")), wide=True),
    Server((one(WRITE, nth=20),), wide=True),
]
"""Called OpenSSH, and written to by several handles until that fails: another attempt writes in order."""
WIDE_FATAL: list[Server] = [
    Server((one(CLOSE, code=QUOTA, having="writing"),), wide=True),
    Server((one(WRITE, Does.KEEPS_BELOW, amount=10_000_000),), wide=True),
    Server((one(CLOSE, Does.KEEPS_HALF, having="writing"),), wide=True),
]
