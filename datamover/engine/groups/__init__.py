"""Files that are made first, or placed together."""
