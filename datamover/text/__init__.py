"""Text of strangers: how much of it is taken, kept and told, and how it is shown."""
