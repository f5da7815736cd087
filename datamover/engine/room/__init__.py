"""Room at destinations that keep some free (``keep_free``): asked for, reserved, and waited for."""
