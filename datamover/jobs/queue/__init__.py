"""The queue: what engines claim, what they write back, and what they clean up when it has ended."""
