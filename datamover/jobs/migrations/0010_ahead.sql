-- Only what counts the transfers ahead of one may read this index, and asks for "priority > 0": a claim that was planned
-- while the table was small would read a lane by it, and so the whole queue of the destination for each lane.
DROP INDEX transfers_ahead;
CREATE INDEX transfers_ahead ON transfers (destination, priority DESC, job, index)
    WHERE state = 'PENDING' AND leader = index AND NOT paused AND priority > 0;
