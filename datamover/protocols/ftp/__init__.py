"""FTP (RFC 959), with TLS (RFC 4217) and the extensions of RFC 2428 and RFC 3659; see ``protocol``.

client/    replies, the control connection, data connections, the login, sessions that are lent
tree       names below the root; ``names`` that a server may keep otherwise
source     one file being read
sink       one part file being written
placing    a part file takes its target's name; ``aside`` where the server does not replace
place      all of it, for the engine; ``pool`` and ``protocol`` for the registry
"""

from datamover.protocols.ftp.protocol import FTP

__all__ = ["FTP"]
