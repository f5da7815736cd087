"""Where files may come from and go: destinations, credentials, the access policy."""
