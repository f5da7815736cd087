"""TLS to other services, always verified, for every protocol: ``options`` for a destination's table, ``verified``."""
