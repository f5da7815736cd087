"""What can be called, by namespace."""
