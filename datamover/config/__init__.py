"""What `datamover.toml` says: read, checked, and given as frozen values."""
