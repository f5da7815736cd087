"""SSH: packets, keys, logins."""
