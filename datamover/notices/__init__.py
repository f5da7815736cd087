"""Telling clients of the ends of their jobs."""
