-- What clients asked to be told of the ends of their jobs, one notice for a job: its latest end.

CREATE TABLE notices (
    job             integer PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT gen_random_uuid(), -- another with every end: receivers know a repetition by it
    owner           text NOT NULL,
    url             text NOT NULL,                -- as it may be shown
    sealed          bytea,                        -- the whole URL, encrypted, where it differs from the shown one
    host            text NOT NULL,                -- with its port: whose queue it stands in
    state           text NOT NULL DEFAULT 'WAITING' CHECK (state IN
                        ('WAITING', 'DUE', 'DELIVERED')), -- for the job's end; to be sent; acknowledged
    payload         jsonb,                        -- what is told, as the job was at its end
    attempt         integer NOT NULL DEFAULT 0,
    lease           bigint NOT NULL DEFAULT 0,    -- grows with every claim: an older one's outcome is passed over
    next_attempt_at timestamptz NOT NULL DEFAULT now(), -- of a claimed one: when it is anybody's again
    delivered_at    timestamptz,
    error           jsonb                         -- the last one
);
CREATE INDEX notices_due ON notices (host, next_attempt_at, job) WHERE state = 'DUE';
