"""The S3 protocol: destinations below a prefix of a bucket, at Amazon's service and compatible ones.

``protocol`` declares it; ``service`` signs and sends requests; ``bucket`` has the operations; objects are read by
``http_place`` and written by ``object_store``.
"""

from datamover.protocols.s3.protocol import S3

__all__ = ["S3"]
