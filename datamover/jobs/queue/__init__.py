"""The queue: what engines claim, and what they write back."""
