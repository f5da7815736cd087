"""Files on this machine's own disks: the protocol "file".

``protocol`` declares it, ``place`` holds its names, ``disk`` makes the blocking calls, ``files`` reads and
writes one file, ``beneath`` resolves names,
``refusals`` words what the disk refuses, ``threads`` keeps blocking calls off the reactor.
"""

from datamover.protocols.local.protocol import LOCAL

__all__ = ["LOCAL"]
