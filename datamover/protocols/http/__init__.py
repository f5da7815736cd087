"""Reading from web servers over HTTP and HTTPS."""

from datamover.protocols.http.client import HttpClient

__all__ = ["HttpClient"]
