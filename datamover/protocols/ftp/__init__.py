"""FTP (RFC 959), with TLS (RFC 4217) and the extensions of RFC 2428 and RFC 3659; see ``protocol``.

``protocol`` declares it; ``pool`` keeps the logins; ``place`` is its ``Place``. ``source`` reads a file and ``sink``
writes a part file; ``placing`` gives it its name, with ``aside`` on servers that do not replace; ``metadata`` sets its
mode and time, ``measure`` learns its size; ``tree`` resolves paths below the root; ``refusals`` are its errors.
``client`` has the control connection, the data connections, the login, and the sessions that are lent.
"""

from datamover.protocols.ftp.protocol import FTP

__all__ = ["FTP"]
