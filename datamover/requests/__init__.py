"""Client requests, checked and turned into new jobs."""
