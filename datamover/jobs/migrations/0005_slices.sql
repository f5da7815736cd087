-- What is done a slice at a time, and how readers of the history know what may still come.

-- In the order in which transactions take them: this waits for those under way, and no two wait for each other.
LOCK TABLE jobs, events, audit IN SHARE ROW EXCLUSIVE MODE;

-- What was asked of a job and has not reached all of its files yet. NULL: it has. Files that make a group others are
-- stopped, and put back, from the one that leads it: stopped first and put back last.
CREATE TABLE changes (
    job     integer PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    follow  integer,                              -- files from this index on: to be as the job is, stopped, paused or not
    retry   integer,                              -- files before this index: what failed is to be tried again
    overdue boolean NOT NULL DEFAULT false        -- its deadline had passed when this began
);

-- Jobs whose retention is over, while their rows go. They are told as expired already.
CREATE TABLE retiring (
    job   integer PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    event bigint NOT NULL DEFAULT 0,              -- events up to this cursor are gone
    file  integer NOT NULL DEFAULT 0              -- files before this index are gone
);

-- The database's clock was set back, and what was put off by the clock before is being brought forward.
CREATE TABLE setbacks (
    id      integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    seconds double precision NOT NULL,
    what    text NOT NULL CHECK (what IN ('transfers', 'notices')),
    job     integer NOT NULL DEFAULT 0,           -- the last job, and file of it, that was looked at
    index   integer NOT NULL DEFAULT -1
);

-- Cursors are given out in another order than transactions are committed. So who writes to the history has, until the
-- end of its transaction, a shared lock whose number tells where it began: all its cursors are greater. Readers find it
-- in pg_locks (read_horizon), and serve what no running writer can precede. As a trigger it holds for every version of
-- datamover that writes. Once in a transaction is enough: what it writes later is greater still. It is made of
-- expressions alone, which cost a third of what statements do.
CREATE FUNCTION events_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('datamover.events', true), '') = '' THEN
        IF pg_advisory_xact_lock_shared(
               (25709::bigint << 48) + coalesce(pg_sequence_last_value('events_cursor_seq'::regclass), 0)) IS NULL
           OR set_config('datamover.events', 'begun', true) IS NULL THEN
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_begun BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION events_begin();

-- The audit trail's, likewise.
CREATE FUNCTION audit_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(current_setting('datamover.audit', true), '') = '' THEN
        IF pg_advisory_xact_lock_shared(
               (25710::bigint << 48) + coalesce(pg_sequence_last_value('audit_cursor_seq'::regclass), 0)) IS NULL
           OR set_config('datamover.audit', 'begun', true) IS NULL THEN
        END IF;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER audit_begun BEFORE INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_begin();
