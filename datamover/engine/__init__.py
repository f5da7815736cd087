"""The engine: it claims transfers, moves their files, tries again, and records the outcomes."""
