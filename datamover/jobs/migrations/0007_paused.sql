-- What waits in paused jobs, by destination: for counting it without reading what does not wait.
CREATE INDEX transfers_paused ON transfers (destination) WHERE state = 'PENDING' AND leader = index AND paused;
