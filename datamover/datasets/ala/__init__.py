"""Occurrences from the Atlas of Living Australia."""
