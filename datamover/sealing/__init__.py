"""Encryption of secrets in rows: the key, and its rotation."""
