"""The configuration: reads and checks `datamover.toml`, and returns it as frozen values."""
