"""Text that comes from outside: its limits, its escaping, and what clients may see of it."""
