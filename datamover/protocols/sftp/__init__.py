"""Files on SSH servers: the protocol "sftp", over Twisted's conch.

``protocol`` declares it; ``pool`` keeps the connection; ``place`` is its ``Place``. ``reader`` and ``parts`` open
files; ``source`` and ``sink`` move their bytes; ``put`` writes a small file in one go; ``placing`` gives a part file
its name; ``tree`` resolves paths below the root; ``refusals`` are its errors. ``client`` is an SFTP client with many
requests in flight, and ``ssh`` the transport, the login and the host keys below it.
"""

from datamover.protocols.sftp.protocol import SFTP

__all__ = ["SFTP"]
