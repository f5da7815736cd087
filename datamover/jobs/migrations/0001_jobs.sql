-- Jobs, the transfers they consist of, the nodes that work on them, and the history.

CREATE TABLE installation (
    id      uuid NOT NULL DEFAULT gen_random_uuid(), -- part files are named for it: two services may share a disk
    proof   bytea                                    -- sealed, so that a process with another key finds out at once
);
CREATE UNIQUE INDEX installation_one ON installation ((true));
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE jobs (
    id              integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    owner           text NOT NULL,
    method          text NOT NULL,
    label           text NOT NULL,
    request_id      text,
    fingerprint     text,
    overwrite       text NOT NULL,
    archive         text,
    max_attempts    integer NOT NULL,
    priority        integer NOT NULL CHECK (priority BETWEEN 1 AND 5),
    deadline        timestamptz,
    stop_on_failure boolean NOT NULL,
    paused          boolean NOT NULL DEFAULT false,
    cancelled       boolean NOT NULL DEFAULT false, -- at the client's word
    state           text NOT NULL DEFAULT 'PENDING' CHECK (state IN
                        ('PENDING', 'PREPARING', 'IN_PROGRESS', 'COMPLETED', 'PARTIAL', 'FAILED', 'CANCELLED')),
    files_total     integer NOT NULL,
    files_completed integer NOT NULL DEFAULT 0,
    files_failed    integer NOT NULL DEFAULT 0,
    files_cancelled integer NOT NULL DEFAULT 0,
    files_sized     integer NOT NULL,             -- how many sizes are known
    bytes_sized     bigint NOT NULL,              -- and their sum
    bytes_settled   bigint NOT NULL DEFAULT 0,    -- bytes of the files in place
    error           jsonb,
    first_error     jsonb,
    submitted_at    timestamptz NOT NULL DEFAULT now(),
    started_at      timestamptz,
    finished_at     timestamptz
);
CREATE UNIQUE INDEX jobs_request_id ON jobs (owner, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX jobs_owner ON jobs (owner, id);
CREATE INDEX jobs_label ON jobs (label, id) WHERE label <> '';
CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_at IS NULL;
CREATE INDEX jobs_state ON jobs (state, id) WHERE state <> 'COMPLETED';
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE finished_at IS NULL AND deadline IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- What is left of a job after the retention: enough to tell its owner that it was there.
CREATE TABLE expired_jobs (
    id    integer PRIMARY KEY,
    owner text NOT NULL
);

CREATE TABLE transfers (
    id                 bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    job                integer NOT NULL REFERENCES jobs ON DELETE CASCADE,
    index              integer NOT NULL,          -- the file's place in the request, from 0
    owner              text NOT NULL,             -- the job's, as its priority is: what the queue is ordered by
    priority           integer NOT NULL,
    source_host        text NOT NULL,             -- the server that is read from: "web host" or "place name"
    paused             boolean NOT NULL DEFAULT false,
    leader             integer NOT NULL,          -- index of the file that leads its placement group
    source_url         text,                      -- as it may be shown
    source_sealed      bytea,                     -- the whole URL, encrypted, where it differs from the shown one
    source_member      integer,                   -- of a dataset: which of its files
    source_destination text,                      -- or a registered place
    source_path        text,
    destination        text NOT NULL,
    path               text NOT NULL,
    naming             text NOT NULL,
    target             text,                      -- the file's own path, once its name is known
    checksum           text,
    state              text NOT NULL DEFAULT 'PENDING' CHECK (state IN
                           ('PENDING', 'PREPARING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'CANCELLED')),
    cancelling         boolean NOT NULL DEFAULT false,
    renaming           boolean NOT NULL DEFAULT false,
    traces             boolean NOT NULL DEFAULT false, -- an attempt may have left something: a part file, a request
    attempt            integer NOT NULL DEFAULT 0,
    failures           integer NOT NULL DEFAULT 0,
    next_attempt_at    timestamptz NOT NULL DEFAULT now(),
    expected_size      bigint,
    size               bigint,
    bytes_done         bigint NOT NULL DEFAULT 0,
    rate               double precision NOT NULL DEFAULT 0,
    stage              text,
    digest             text,
    checkpoint         jsonb,
    memory             jsonb,                     -- what the makers of datasets remember, by the dataset's URL
    error              jsonb,
    first_error        jsonb,
    node               uuid,                      -- who holds the lease
    lease              bigint NOT NULL DEFAULT 0, -- grows with every claim: a holder of an older one is fenced off
    lease_until        timestamptz,
    started_at         timestamptz,
    finished_at        timestamptz,
    UNIQUE (job, index)
);
-- What may be claimed: the lanes of the queue, and in each the order in which it is.
CREATE INDEX transfers_claimable ON transfers (destination, owner, source_host, priority DESC, job, index)
    WHERE state = 'PENDING' AND leader = index AND NOT paused;
-- What stands before a transfer in the queue of its destination.
CREATE INDEX transfers_ahead ON transfers (destination, priority DESC, job, index)
    WHERE state = 'PENDING' AND leader = index AND NOT paused;
CREATE INDEX transfers_aimed ON transfers (destination, target, job)
    WHERE state IN ('PENDING', 'PREPARING', 'IN_PROGRESS') AND target IS NOT NULL;
CREATE INDEX transfers_leased ON transfers (destination, lease_until) WHERE node IS NOT NULL;
CREATE INDEX transfers_active ON transfers (job, index) WHERE state IN ('PREPARING', 'IN_PROGRESS');
CREATE INDEX transfers_retrying ON transfers (job, next_attempt_at) WHERE state = 'PENDING' AND attempt > 0;
CREATE INDEX transfers_group ON transfers (job, leader) WHERE leader <> index;
-- Two files of one job may not land on each other, whatever their servers call them.
CREATE UNIQUE INDEX transfers_target ON transfers (job, destination, target) WHERE target IS NOT NULL;

CREATE TABLE nodes (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    roles        text[] NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now(),
    active       integer NOT NULL DEFAULT 0,
    draining     boolean NOT NULL DEFAULT false   -- takes nothing new
);

-- Destinations ("place name") and source hosts ("web host", "place name") that are held, or that fail for everyone.
CREATE TABLE sides (
    name         text PRIMARY KEY,
    held         text,                            -- why an administrator holds it
    failures     integer NOT NULL DEFAULT 0,      -- one after the other, nothing having gone well between them
    closed_until timestamptz,                     -- the breaker: nothing is tried before; then one probe at a time
    error        jsonb
);

CREATE TABLE events (
    cursor      bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    -- A reader takes only rows of transactions that no older one may still precede: see read_events.
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    job         integer NOT NULL,                 -- which may have expired
    owner       text NOT NULL,
    file        integer,
    kind        text NOT NULL,
    details     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX events_job ON events (job, cursor);
CREATE INDEX events_owner ON events (owner, cursor);
CREATE INDEX events_at ON events (at);
