"""Text that comes from outside: its escaping, its shortening, and what clients may see of it."""
