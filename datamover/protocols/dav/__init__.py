"""The WebDAV protocol (RFC 4918): destinations below a collection of a web server, Nextcloud or ownCloud.

``protocol`` declares it; ``service`` sends requests with the ``login``; ``files`` has the operations, with the errors
of one side; ``place`` is its ``Place``; ``upload``, ``sink`` and ``chunks`` are its uploads; ``habits`` finds out what
a server supports.
"""

from datamover.protocols.dav.protocol import DAV

__all__ = ["DAV"]
