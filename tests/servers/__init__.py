"""Real servers for the tests, each on loopback and a port that the kernel chose, stopped by whoever started it."""
