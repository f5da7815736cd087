"""Uploads in parts: what every protocol shares whose side makes an object of parts, and cannot rename one.

``seam`` is what such a protocol provides, ``upload`` makes the engine's seam of it; ``parts`` keeps several parts in
flight, ``bodies`` sends each, ``token`` says what an upload is gone on with from, and ``conditions`` makes an object
only where none is.
"""
