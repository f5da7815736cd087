"""The protocol "toy": an object store in memory, added as docs/protocols.md says, for the tests alone.

``store`` is the service, ``protocol`` declares the protocol, ``place`` and ``source`` are its names and its files, and
``upload`` is a multipart upload: nothing is renamed, nothing can be read before it is committed.
"""

from tests.protocols.toy.protocol import TOY

__all__ = ["TOY"]
