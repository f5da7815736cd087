"""The process: what its services share, how it starts, what a signal means."""
