"""The registered destinations: the places that files come from and go to."""
