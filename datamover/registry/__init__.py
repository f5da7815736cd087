"""The registered destinations, and the check that they are apart from the service's own files."""
