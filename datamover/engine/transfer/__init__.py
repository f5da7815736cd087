"""One file's story, and its parts."""
