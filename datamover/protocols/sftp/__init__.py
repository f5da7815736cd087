"""Files on SSH servers: the protocol "sftp", over Twisted's conch.

``protocol`` declares it; ``pool`` keeps the connection, ``place`` holds its names, ``source`` and ``sink`` move bytes,
``tree`` resolves names below the root, ``refusals`` words what the server refuses. ``link`` is one connection made and
logged in, of ``transport`` (SSH packets and keys, ``ciphers``), ``login``, ``known_hosts`` and ``channel`` (requests
and answers); ``session`` has SFTP's requests as calls, ``messages`` and ``wire`` their bytes. ``scan`` asks a server
for its host keys.
"""

from datamover.protocols.sftp.protocol import SFTP
from datamover.protocols.sftp.scan import scan_host_key

__all__ = ["SFTP", "scan_host_key"]
