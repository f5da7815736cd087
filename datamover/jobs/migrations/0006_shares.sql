-- Whose errors close what, and whose turn it is.

-- Who failed at a side (sides.name), where everyone's transfers of that owner would. What several failed at is closed
-- to all, by the row in sides; else to its owner alone.
CREATE TABLE breakers (
    side         text NOT NULL,
    owner        text NOT NULL,
    failures     integer NOT NULL,                -- one after the other, nothing having gone well between them
    closed_until timestamptz,                     -- nothing of the owner's is tried before; then one probe at a time
    error        jsonb,
    failed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (side, owner)
);

-- When owners were last served, as numbers that grow, which no clock sets back. Only claims write here, so that none
-- waits for anybody; without a row an owner goes first.
CREATE TABLE turns (
    side  text NOT NULL,                          -- "to destination"; a source's host; "" for all of them
    owner text NOT NULL,
    turn  bigint NOT NULL,
    PRIMARY KEY (side, owner)
);
CREATE SEQUENCE turns_taken;
