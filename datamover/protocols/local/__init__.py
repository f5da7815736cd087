"""Files on this machine's own disks: the protocol "file".

``protocol`` declares it; ``place`` is its ``Place``, over the blocking calls of ``disk``; ``files`` reads and writes
one file, over ``reader`` and ``writer``; ``put`` writes a small file in one go; ``placing`` gives a part file its name;
``beneath`` resolves paths; ``refusals`` are its errors.
"""

from datamover.protocols.local.protocol import LOCAL

__all__ = ["LOCAL"]
