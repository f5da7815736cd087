-- What operators look into: who did what; and what counts for a client's bytes a day.

CREATE TABLE audit (
    cursor      bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(), -- see events
    at          timestamptz NOT NULL,
    who         text NOT NULL,
    origin      text NOT NULL,                    -- an address, with "telnet" or "ssh" before it at the console
    action      text NOT NULL,                    -- a method's name, "login", "console"
    subject     text NOT NULL,                    -- a job, a destination, the line that was typed
    outcome     text NOT NULL                     -- "ok", or the code of the refusal
);
CREATE INDEX audit_at ON audit (at);

-- Nothing in it is changed, and what is younger than the shortest retention is not removed: by whomever.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is only added to';
END
$$;
CREATE TRIGGER audit_unchanged BEFORE UPDATE OR TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_kept BEFORE DELETE ON audit FOR EACH ROW
    WHEN (OLD.at > now() - interval '23 hours') EXECUTE FUNCTION audit_refuse();

CREATE INDEX transfers_moved ON transfers (owner, finished_at) WHERE state = 'COMPLETED';
CREATE INDEX transfers_cancelling ON transfers (owner) WHERE cancelling AND state = 'PENDING';
