"""Notices to clients of the ends of their jobs."""
