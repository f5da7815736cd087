"""The embedded PostgreSQL: its files, the user that runs it, and starting and stopping it."""
