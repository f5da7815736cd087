"""How bytes travel: one module or package for each protocol.

``PLACES`` names those that a registered destination may use; a new one is added here and nowhere else, as
docs/protocols.md says. ``http`` only reads, from URLs that clients name, and holds no place.
"""

from datamover.protocols.dav import DAV
from datamover.protocols.ftp import FTP
from datamover.protocols.local import LOCAL
from datamover.protocols.place import PlaceProtocol
from datamover.protocols.s3 import S3
from datamover.protocols.sftp import SFTP
from datamover.protocols.swift import SWIFT
from datamover.security import secret_files

PLACES: tuple[PlaceProtocol, ...] = (LOCAL, SFTP, FTP, DAV, S3, SWIFT)


def place_schemes() -> frozenset[str]:
    """Return the schemes of URLs that name a file of a place, which clients name by a registered destination."""
    return frozenset(scheme for each in PLACES for scheme in (*each.schemes, *each.other_schemes))


def secret_keys() -> frozenset[str]:
    """Return the keys of destinations' tables that name files that hold secrets."""
    return frozenset(key for each in PLACES for key in secret_files.secret_options(each.options))
