"""Reading from web servers over HTTP and HTTPS."""

from datamover.protocols.http.protocol import HttpClient

__all__ = ["HttpClient"]
