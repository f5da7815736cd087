"""From what a client asks to a new job."""
