"""Destinations that are reached by HTTP: what the protocols share whose files are read by GET.

``seam`` is what such a protocol implements; ``origin`` and ``source`` read its files; ``refused`` and ``refusals`` are
its errors; ``agent`` sends requests to the configured hosts only; ``secrets`` reads the files of logins.
"""
