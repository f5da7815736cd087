"""The protocols: one package for each, and what several of them share.

``PLACES`` lists those that a destination may use; a new one is added here and nowhere else (docs/protocols.md).
``http`` is not among them: it only reads, from URLs that clients give.
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
    """Return the schemes of URLs that name files at destinations; clients give these as a destination and a path."""
    return frozenset(scheme for each in PLACES for scheme in (*each.schemes, *each.other_schemes))


def secret_keys() -> frozenset[str]:
    """Return the keys of destinations' tables that name files that hold secrets."""
    return frozenset(key for each in PLACES for key in secret_files.secret_options(each.options))
