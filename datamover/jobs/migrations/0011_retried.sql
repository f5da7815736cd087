-- The lease that a transfer had when a client had it tried again: how often it was claimed is counted from there.
ALTER TABLE transfers ADD COLUMN lease_retried bigint NOT NULL DEFAULT 0;
