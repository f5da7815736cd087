"""What rows keep secret: the key, and its exchange for another."""
