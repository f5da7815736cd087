"""Files on this machine's own disks: the protocol "file".

``protocol`` declares it; ``place`` holds its names; ``disk`` makes the blocking calls; ``files`` reads and writes one
file, over ``reader`` and ``writer``; ``put`` is a small file in one go; ``placing`` gives a part file its name;
``beneath`` resolves names; ``refusals`` words what the disk refuses.
"""

from datamover.protocols.local.protocol import LOCAL

__all__ = ["LOCAL"]
