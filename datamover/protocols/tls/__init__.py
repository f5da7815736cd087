"""TLS connections to other services, always verified, shared by all protocols.

``options`` are the keys of a destination's table, ``files`` the files that they name, ``verified`` the connections.
"""
