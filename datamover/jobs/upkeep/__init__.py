"""What any engine does for all jobs, now and then."""
