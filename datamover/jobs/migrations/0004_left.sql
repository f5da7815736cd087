-- What is left at a destination that was away when its transfer ended, to be swept.

CREATE INDEX transfers_left ON transfers (next_attempt_at) WHERE traces AND state IN ('FAILED', 'CANCELLED');
