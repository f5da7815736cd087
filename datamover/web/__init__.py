"""URLs, source rules, credentials, and names and paths of files, for registry, protocols and datasets."""
