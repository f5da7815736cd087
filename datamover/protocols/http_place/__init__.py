"""Places that are reached by HTTP: what every protocol shares whose files are read by GET.

``seam`` is what such a protocol provides; ``origin`` and ``source`` read its files; ``refused`` and ``refusals`` tell
what its server refuses; ``agent`` asks the configured hosts and no others.
"""
