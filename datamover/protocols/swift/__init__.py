"""The OpenStack Swift protocol: destinations below a prefix of a container.

``protocol`` declares it; ``login`` gets and renews the token; ``service`` sends requests with it; ``container`` has the
operations with the errors of one side, and ``large_objects`` those on segments. Objects are read by ``http_place`` and
written by ``object_store``.
"""

from datamover.protocols.swift.protocol import SWIFT

__all__ = ["SWIFT"]
