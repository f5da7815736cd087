"""Room at destinations with ``keep_free``: asking for it, reserving it, and waiting for it."""
