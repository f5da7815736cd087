"""Cleaning of occurrence records, in processes of its own: files are read and written, and nothing else is touched."""
