"""The interface: XML-RPC over HTTP, callers and their permissions, and errors as Faults. ``make_site`` serves it."""

from datamover.api.site import check_callers, make_site

__all__ = ["check_callers", "make_site"]
