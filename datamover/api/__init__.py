"""The door: XML-RPC over HTTP, who may call, and errors as Faults. ``make_site`` is all that others need."""

from datamover.api.site import make_site

__all__ = ["make_site"]
