"""Logging in to Swift: the ways of doing it, and the token that is had and renewed."""
