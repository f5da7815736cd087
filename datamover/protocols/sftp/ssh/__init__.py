"""SSH: packets, host keys and logins."""
