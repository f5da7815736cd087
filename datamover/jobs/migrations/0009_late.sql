-- What a process wrote at a destination after it had lost its lease, as one that was suspended does.

ALTER TABLE transfers ADD COLUMN late boolean NOT NULL DEFAULT false; -- such a process may have left something
DROP INDEX transfers_left;
CREATE INDEX transfers_left ON transfers (next_attempt_at) WHERE traces AND state IN ('COMPLETED', 'FAILED', 'CANCELLED');
