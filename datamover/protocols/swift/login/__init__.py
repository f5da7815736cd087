"""Logging in to Swift: the kinds of login, and the token that is shared and renewed."""
