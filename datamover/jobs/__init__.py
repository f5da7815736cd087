"""Jobs in the database: their values, submission, status, control, history, queue and upkeep."""
