"""Real servers for the tests, each on loopback and on a port that the kernel chose; the caller stops them."""
