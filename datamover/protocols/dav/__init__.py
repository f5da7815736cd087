"""The WebDAV protocol (RFC 4918): places below a collection of a web server, and of the clouds that speak it.

``protocol`` declares it; ``service`` sends requests with the ``login``; ``files`` has the operations in the words of
one side; ``place``, ``sink`` and ``chunks`` are the seams' implementations.
"""

from datamover.protocols.dav.protocol import DAV

__all__ = ["DAV"]
