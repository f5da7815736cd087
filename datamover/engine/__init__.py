"""Doing what was asked: claim it, move it, try again, say how it ended."""
