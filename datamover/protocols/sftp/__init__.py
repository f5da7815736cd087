"""Files on SSH servers: the protocol "sftp", over Twisted's conch.

``protocol`` declares it; ``pool`` keeps the connection; ``place`` holds its names; ``reader`` and ``parts`` open files;
``source`` and ``sink`` (over ``lanes``) move bytes, as many at a time as ``window`` says; ``put`` is a small file in
one go; ``placing`` gives a part file its name; ``tree`` resolves names below the root; ``refusals`` words what the
server refuses. ``link`` is one connection made and logged in, of ``transport`` (SSH packets and keys, ``ciphers``),
``login`` and ``known_hosts``; ``leases`` shares out its channels, each a ``channel`` (requests, and ``answers``) and a
``session`` (SFTP's requests as calls), whose bytes are of ``messages`` and ``wire``. ``scan`` asks a server for its
host keys.
"""

from datamover.protocols.sftp.protocol import SFTP
from datamover.protocols.sftp.ssh.known_hosts import fingerprint
from datamover.protocols.sftp.ssh.scan import scan_host_key

__all__ = ["SFTP", "fingerprint", "scan_host_key"]
