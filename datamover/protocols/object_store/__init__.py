"""Uploads in parts, shared by the protocols whose services assemble objects from parts and cannot rename them.

``seam`` is what such a protocol implements; ``place`` and ``upload`` build ``Place`` and ``Upload`` on it; ``parts``
keeps several parts in flight, ``bodies`` sends each; ``token`` is what an upload is resumed from; ``conditions`` makes
requests conditional where the service supports that.
"""
