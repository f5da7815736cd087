-- The named statements, except for the one whose text depends on its parameters (listing.py).
--
-- Lock order everywhere: jobs by id, then transfers. Every change of state is one statement that names the states that
-- may precede it. "Side" (the tables sides, breakers, turns) is what Python calls an endpoint.

-- Submission ---------------------------------------------------------------------------------------------------

-- name: find_request
SELECT id, state, fingerprint FROM jobs WHERE owner = %(owner)s AND request_id = %(request_id)s;

-- name: insert_jobs
-- prepared: jobs json, files json, notices json
-- Insert any number of jobs with their files and notices, and notify engines. A job whose request_id exists already is
-- not inserted, and not returned. Columns that are missing in a row are NULL.
WITH asked AS MATERIALIZED (
    SELECT nextval('jobs_id_seq')::integer AS id, j.*
    FROM json_to_recordset(%(jobs)s) AS j (
        position integer, owner text, method text, label text, request_id text, fingerprint text, overwrite text,
        archive text, max_attempts integer, priority integer, deadline double precision, stop_on_failure boolean,
        files_total integer, files_sized integer, bytes_sized bigint)
), made AS (
    INSERT INTO jobs (id, owner, method, label, request_id, fingerprint, overwrite, archive, max_attempts, priority,
                      deadline, stop_on_failure, files_total, files_sized, bytes_sized)
    OVERRIDING SYSTEM VALUE
    SELECT id, owner, method, label, request_id, fingerprint, overwrite, archive, max_attempts, priority,
           now() + deadline * interval '1 second', stop_on_failure, files_total, files_sized, bytes_sized
    FROM asked ORDER BY position
    ON CONFLICT (owner, request_id) WHERE request_id IS NOT NULL DO NOTHING
    RETURNING id, owner, priority, files_total
), moved AS (
    INSERT INTO transfers (job, index, leader, owner, priority, source_host, source_url, source_sealed, source_member,
                           source_destination, source_path, destination, path, naming, target, checksum, expected_size)
    SELECT made.id, f.index, leader, made.owner, made.priority, source_host, source_url, source_sealed::bytea,
           source_member, source_destination, source_path, destination, path, naming, target, checksum, expected_size
    FROM made JOIN asked USING (id) JOIN json_to_recordset(%(files)s) AS f (
        position integer, index integer, leader integer, source_host text, source_url text, source_sealed text,
        source_member integer, source_destination text, source_path text, destination text, path text, naming text,
        target text, checksum text, expected_size bigint) USING (position)
), noticed AS (
    INSERT INTO notices (job, owner, url, sealed, host)
    SELECT made.id, made.owner, n.url, n.sealed::bytea, n.host
    FROM made JOIN asked USING (id)
    JOIN json_to_recordset(%(notices)s) AS n (position integer, url text, sealed text, host text) USING (position)
), told AS (
    INSERT INTO events (job, owner, kind, details)
    SELECT id, owner, 'submitted', jsonb_build_object('files', files_total) FROM made ORDER BY id
)
SELECT position, id, (SELECT pg_notify('datamover', 'work')) AS told FROM asked JOIN made USING (id);

-- name: read_queued
SELECT owner, sum(files_total - files_completed - files_failed - files_cancelled)::bigint AS files
FROM jobs WHERE finished_at IS NULL GROUP BY owner;

-- name: insert_events
-- prepared: events jsonb
INSERT INTO events (job, owner, file, kind, details)
SELECT e.job, j.owner, e.file, e.kind, coalesce(e.details, '{}')
FROM ROWS FROM (jsonb_to_recordset(%(events)s) AS (job integer, file integer, kind text, details jsonb))
         WITH ORDINALITY AS e (job, file, kind, details, position)
CROSS JOIN LATERAL (SELECT owner FROM jobs WHERE id = e.job LIMIT 1) AS j
ORDER BY e.position;

-- Status -------------------------------------------------------------------------------------------------------

-- name: read_files
SELECT index, source_url, source_member, source_destination, source_path, destination, coalesce(target, path) AS path, state,
       coalesce(size, expected_size) AS size, bytes_done, rate, digest, error, first_error, started_at, finished_at,
       least(attempt, (SELECT max_attempts FROM jobs WHERE id = %(job)s)) AS attempt,
       CASE WHEN state = 'PENDING' AND attempt > 0 AND room_wanted IS NULL AND NOT (SELECT j.paused FROM jobs j WHERE j.id = %(job)s)
            THEN next_attempt_at END AS next_retry_at
FROM transfers
WHERE job = %(job)s AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY index OFFSET %(offset)s LIMIT %(limit)s;

-- name: read_horizon
-- The cursor up to which all events are final: the last cursor that was given out, or the one at which the oldest
-- running writer began (events_begin). The last cursor is read first: every writer of cursors up to it has taken its
-- lock by then, or has ended, so that the statement after this one sees its events.
SELECT least(given.cursor, (
    SELECT min((classid::bigint << 32 | objid::bigint) - (25709::bigint << 48)) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 25709
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND given.cursor IS NOT NULL)) AS cursor
FROM (SELECT coalesce(pg_sequence_last_value('events_cursor_seq'::regclass), 0) AS cursor OFFSET 0) AS given;

-- name: read_events
-- Of a job that is being retired only the event that it has expired is returned.
SELECT cursor, at, job, file, kind, details FROM events
WHERE cursor > %(after)s AND cursor <= %(horizon)s
  AND (%(job)s::integer IS NULL OR job = %(job)s)
  AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND (kind = 'expired' OR job <> ALL (ARRAY(SELECT r.job FROM retiring r)))
ORDER BY cursor LIMIT %(limit)s;

-- name: read_newest_events
SELECT cursor, at, job, file, kind, details FROM events
WHERE cursor <= %(horizon)s AND (%(job)s::integer IS NULL OR job = %(job)s)
  AND (kind = 'expired' OR job <> ALL (ARRAY(SELECT r.job FROM retiring r)))
ORDER BY cursor DESC LIMIT %(limit)s;

-- name: read_written
-- The owners and jobs with events between two cursors.
SELECT DISTINCT owner, job FROM events WHERE cursor > %(after)s AND cursor <= %(horizon)s;

-- name: read_ended
-- Of the given jobs, those that have ended or been removed.
SELECT w.job FROM unnest(%(jobs)s::integer[]) AS w (job) LEFT JOIN jobs j ON j.id = w.job
WHERE j.id IS NULL OR j.finished_at IS NOT NULL;

-- name: read_queue
-- Of each destination with unfinished work, the placement groups that wait (paused ones included), those that an engine
-- works on, and their rate. At most %(most)s of those that wait and as many of the paused ones are counted.
WITH RECURSIVE waiting AS (
    (SELECT destination FROM transfers WHERE state = 'PENDING' AND leader = index AND NOT paused
     ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT next.* FROM waiting w CROSS JOIN LATERAL (
        SELECT t.destination FROM transfers t
        WHERE t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused AND t.destination > w.destination
        ORDER BY t.destination LIMIT 1) AS next
), paused AS (
    (SELECT destination FROM transfers WHERE state = 'PENDING' AND leader = index AND paused
     ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT next.* FROM paused p CROSS JOIN LATERAL (
        SELECT t.destination FROM transfers t
        WHERE t.state = 'PENDING' AND t.leader = t.index AND t.paused AND t.destination > p.destination
        ORDER BY t.destination LIMIT 1) AS next
), active AS (
    SELECT destination, count(*)::integer AS active, sum(rate) AS rate
    FROM transfers WHERE node IS NOT NULL GROUP BY destination
)
SELECT destination,
       ((SELECT count(*) FROM (SELECT FROM transfers t WHERE t.destination = d.destination AND t.state = 'PENDING'
             AND t.leader = t.index AND NOT t.paused LIMIT %(most)s) AS counted)
      + (SELECT count(*) FROM (SELECT FROM transfers t WHERE t.destination = d.destination AND t.state = 'PENDING'
             AND t.leader = t.index AND t.paused LIMIT %(most)s) AS counted))::integer AS pending,
       coalesce(active, 0) AS active, coalesce(rate, 0) AS rate
FROM (SELECT destination FROM waiting UNION SELECT destination FROM paused UNION SELECT destination FROM active) AS d
LEFT JOIN active USING (destination) ORDER BY destination;

-- name: read_nodes
SELECT name, roles, heartbeat_at, active, draining FROM nodes
WHERE heartbeat_at > now() - %(lease)s * interval '1 second' ORDER BY name, started_at;

-- name: read_rate
SELECT coalesce(sum(rate), 0) AS rate FROM transfers WHERE node IS NOT NULL;

-- name: read_newest_id
SELECT coalesce(max(id), 0) AS id FROM jobs;

-- name: read_waiting
-- What a job's next file waits for, as a part of the job's status (listing.py): holds, breakers, active transfers, and
-- the number ahead of it. No more of those are counted than are shown, so that a long queue costs no more than a short
-- one. The file is chosen before anything else is read about it, so that a job of many files costs no more than one of a
-- few.
WITH fresh AS MATERIALIZED (
    SELECT id FROM transfers WHERE job = %(job)s AND state = 'PENDING' AND leader = index AND attempt = 0
    ORDER BY index LIMIT 1
), tried AS MATERIALIZED (
    SELECT id FROM transfers WHERE job = %(job)s AND state = 'PENDING' AND leader = index AND attempt > 0
    ORDER BY next_attempt_at LIMIT 1
), chosen AS MATERIALIZED (
    SELECT t.* FROM transfers t WHERE t.id = ANY (ARRAY(SELECT id FROM fresh UNION ALL SELECT id FROM tried))
    ORDER BY t.next_attempt_at, t.index LIMIT 1
)
SELECT t.destination, t.source_host, t.owner, j.paused, t.next_attempt_at > now() AS pausing, t.error,
       CASE WHEN t.paused THEN t.room_wanted END AS room_wanted, r.free AS room_free, r.keep AS room_keep,
       r.under_way AS room_under_way, r.longest <> t.id AS room_shared,
       extract(epoch FROM t.next_attempt_at - now())::double precision AS pausing_for,
       d.held, coalesce(d.closed_until, od.closed_until) > now() AS closed, coalesce(d.error, od.error) AS closed_error,
       extract(epoch FROM coalesce(d.closed_until, od.closed_until) - now())::double precision AS closed_for,
       coalesce(h.closed_until, oh.closed_until) > now() AS source_closed, coalesce(h.error, oh.error) AS source_error,
       extract(epoch FROM coalesce(h.closed_until, oh.closed_until) - now())::double precision AS source_closed_for,
       active.destination AS active, active.owner AS owner_active, active.host AS host_active, active.total,
       active.own_destination AS own_active, active.own_host AS own_host_active,
       (SELECT count(*) FILTER (WHERE next_attempt_at <= now()) FROM (
            (SELECT p.next_attempt_at FROM transfers p WHERE p.destination = t.destination AND p.state = 'PENDING'
                AND p.leader = p.index AND NOT p.paused AND p.priority > 0 AND p.priority > t.priority
             ORDER BY p.priority DESC, p.job, p.index LIMIT %(counted)s)
            UNION ALL
            (SELECT p.next_attempt_at FROM transfers p WHERE p.destination = t.destination AND p.state = 'PENDING'
                AND p.leader = p.index AND NOT p.paused AND p.priority > 0 AND p.priority = t.priority
                AND (p.job, p.index) < (t.job, t.index)
             ORDER BY p.job, p.index LIMIT %(counted)s)) AS before)::integer AS ahead,
       behind.job AS behind, behind.owner AS behind_owner,
       engines.*
FROM chosen t JOIN jobs j ON j.id = t.job
LEFT JOIN rooms r ON r.destination = t.destination
LEFT JOIN sides d ON d.name = 'place ' || t.destination
LEFT JOIN sides h ON h.name = t.source_host
LEFT JOIN breakers od ON od.side = 'place ' || t.destination AND od.owner = t.owner
LEFT JOIN breakers oh ON oh.side = t.source_host AND oh.owner = t.owner
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE to_it)::integer AS destination, count(*) FILTER (WHERE own)::integer AS owner,
           count(*) FILTER (WHERE from_it)::integer AS host, count(*)::integer AS total,
           count(*) FILTER (WHERE to_it AND own)::integer AS own_destination, count(*) FILTER (WHERE from_it AND own)::integer AS own_host
    FROM (SELECT a.destination = t.destination AS to_it, a.owner = t.owner AS own,
                 a.source_host = t.source_host OR t.source_host LIKE 'web %%' AND a.source_host LIKE 'web %%'
                 AND split_part(a.source_host, ' ', 2) = split_part(t.source_host, ' ', 2) AS from_it
          FROM transfers a WHERE a.node IS NOT NULL) AS a) AS active
CROSS JOIN LATERAL (
    -- here, own_here: the active transfers, and this owner's, of the engine that has the fewest.
    SELECT count(*) FILTER (WHERE NOT draining)::integer AS engines, count(*) FILTER (WHERE draining)::integer AS draining,
           min(here) FILTER (WHERE NOT draining)::integer AS here, min(own) FILTER (WHERE NOT draining)::integer AS own_here
    FROM (SELECT n.draining, count(a.id) AS here, count(a.id) FILTER (WHERE a.owner = t.owner) AS own
          FROM nodes n LEFT JOIN transfers a ON a.node = n.id AND a.node IS NOT NULL
          WHERE 'engine' = ANY (n.roles) AND n.heartbeat_at > now() - %(lease)s * interval '1 second'
          GROUP BY n.id) AS n) AS engines
LEFT JOIN LATERAL (
    SELECT o.job, o.owner FROM transfers o WHERE o.destination = t.destination AND o.target = t.target AND o.job <> t.job
        AND (o.state <> 'PENDING' OR o.job < t.job AND o.owner = t.owner
             AND (NOT o.paused OR o.room_wanted IS NOT NULL))
        AND o.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS') ORDER BY o.job LIMIT 1) AS behind ON true;

-- name: read_moved
-- The bytes of each owner's files that were completed within a day, and of those that move, by their known sizes.
SELECT o.owner, least(9223372036854775807,
    (SELECT coalesce(sum(size), 0) FROM transfers t
     WHERE t.owner = o.owner AND t.state = 'COMPLETED' AND t.finished_at > now() - interval '1 day')
    + (SELECT coalesce(sum(greatest(size, expected_size, bytes_done)), 0) FROM transfers a
       WHERE a.owner = o.owner AND a.node IS NOT NULL))::bigint AS bytes
FROM unnest(%(owners)s::text[]) AS o (owner);

-- name: read_active
SELECT t.id, t.job, t.index, j.owner, t.source_url, t.source_member, t.source_destination, t.source_path, t.destination,
       coalesce(t.target, t.path) AS path, t.state, coalesce(t.size, t.expected_size) AS size, t.bytes_done, t.rate,
       t.stage, least(t.attempt, j.max_attempts) AS attempt, t.started_at, n.name AS node
FROM transfers t JOIN jobs j ON j.id = t.job LEFT JOIN nodes n ON n.id = t.node
WHERE t.node IS NOT NULL ORDER BY t.job, t.index LIMIT %(limit)s;

-- Control ------------------------------------------------------------------------------------------------------

-- name: lock_job
SELECT id, state, owner, cancelled, files_total, files_failed FROM jobs WHERE id = %(job)s FOR UPDATE;

-- name: lock_jobs
-- prepared: jobs integer[]
SELECT id FROM jobs WHERE id = ANY (%(jobs)s) ORDER BY id FOR UPDATE;

-- name: lock_free_jobs
-- Skips jobs that others have locked.
SELECT id FROM jobs WHERE id = ANY (%(jobs)s) ORDER BY id FOR UPDATE SKIP LOCKED;

-- name: mark_cancelled
UPDATE jobs SET cancelled = true, paused = false WHERE id = %(job)s;

-- name: pause_job
UPDATE jobs SET paused = %(paused)s WHERE id = %(job)s AND paused <> %(paused)s RETURNING id;

-- name: read_put_off
SELECT FROM transfers WHERE job = %(job)s AND state = 'PENDING' AND attempt > 0
  AND (next_attempt_at > now() OR room_wanted IS NOT NULL) LIMIT 1;

-- name: reopen_job
UPDATE jobs SET state = 'IN_PROGRESS', finished_at = NULL, files_failed = 0, deadline = NULL WHERE id = %(job)s;

-- name: hold
INSERT INTO sides (name, held) VALUES (%(name)s, %(reason)s) ON CONFLICT (name) DO UPDATE SET held = excluded.held;

-- name: release
WITH gone AS (DELETE FROM breakers WHERE side = %(name)s)
UPDATE sides SET held = NULL, failures = 0, closed_until = NULL, error = NULL WHERE name = %(name)s;

-- name: read_uploading
-- Which targets are those of transfers that have not ended, or whose leftovers are still to be removed.
SELECT target FROM transfers
WHERE destination = %(destination)s AND target = ANY (%(targets)s) AND state IN ('PENDING', 'PREPARING', 'IN_PROGRESS')
UNION
SELECT target FROM transfers
WHERE destination = %(destination)s AND target = ANY (%(targets)s) AND traces
  AND state IN ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: read_endpoints
-- A breaker that is open for the only owner with waiting transfers to a destination counts as open for all.
SELECT name, s.held,
       CASE WHEN s.closed_until IS NOT NULL THEN s.failures ELSE coalesce(b.failures, 0) END AS failures,
       coalesce(s.closed_until, b.closed_until) AS closed_until,
       CASE WHEN s.closed_until IS NOT NULL THEN s.error ELSE b.error END AS error
FROM sides s FULL JOIN (
    SELECT side AS name, b.* FROM breakers b
    WHERE closed_until IS NOT NULL AND side LIKE 'place %%' AND NOT EXISTS (
        SELECT FROM transfers t WHERE t.destination = substr(b.side, 7) AND t.owner > b.owner
        AND t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused) AND NOT EXISTS (
        SELECT FROM transfers t WHERE t.destination = substr(b.side, 7) AND t.owner < b.owner
        AND t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused) AND NOT EXISTS (
        SELECT FROM breakers o WHERE o.side = b.side AND o.owner <> b.owner AND o.closed_until IS NOT NULL)) AS b USING (name)
WHERE s.held IS NOT NULL OR s.closed_until IS NOT NULL OR b.closed_until IS NOT NULL
ORDER BY name;

-- name: drain
UPDATE nodes SET draining = %(draining)s WHERE coalesce(%(node)s = name, true) RETURNING name;

-- Changes of a job's files, a slice at a time -------------------------------------------------------------------

-- name: begin_change
INSERT INTO changes (job, follow, retry) VALUES (%(job)s, %(follow)s, %(retry)s)
ON CONFLICT (job) DO UPDATE SET follow = coalesce(excluded.follow, changes.follow),
    retry = coalesce(excluded.retry, changes.retry), overdue = false;

-- name: begin_overdue
-- Begin to end jobs whose deadline has passed. The rows in changes stay until the jobs have ended, so each is begun once.
-- Jobs that others have locked are left for the next time.
WITH chosen AS MATERIALIZED (
    SELECT id FROM jobs j
    WHERE finished_at IS NULL AND deadline < now()
      AND (SELECT true FROM changes begun WHERE begun.job = j.id AND begun.overdue) IS NULL
      AND (%(only)s::integer[] IS NULL OR id = ANY (%(only)s::integer[])) AND id <> ALL (%(passed_over)s::integer[])
    ORDER BY deadline LIMIT 1000 FOR UPDATE SKIP LOCKED
)
-- until here, as begin_overdue.chosen: SELECT id FROM chosen
INSERT INTO changes AS c (job, follow, overdue) SELECT id, 0, true FROM chosen
ON CONFLICT (job) DO UPDATE SET follow = 0, overdue = true WHERE NOT c.overdue
RETURNING job;

-- name: begin_overdue_again
-- Begin again with jobs of which a transfer waits for its next attempt, after it was running when its file was reached.
WITH chosen AS MATERIALIZED (
    SELECT job AS id FROM changes c
    WHERE overdue AND follow IS NULL AND EXISTS (
        SELECT FROM transfers t WHERE t.job = c.job AND t.state = 'PENDING' AND t.attempt > 0
        AND (t.paused OR t.next_attempt_at > now()
             OR (SELECT l.traces FROM transfers l WHERE l.job = t.job AND l.index = t.leader) IS NOT TRUE))
      AND (%(only)s::integer[] IS NULL OR job = ANY (%(only)s::integer[])) AND job <> ALL (%(passed_over)s::integer[])
    FOR UPDATE SKIP LOCKED
)
-- until here, as begin_overdue_again.chosen: SELECT id FROM chosen
UPDATE changes c SET follow = 0 FROM chosen WHERE c.job = chosen.id RETURNING c.job;

-- name: forget_changes
-- Remove the changes of jobs that have ended.
WITH chosen AS MATERIALIZED (
    SELECT c.job AS id FROM changes c JOIN jobs j ON j.id = c.job WHERE j.finished_at IS NOT NULL
      AND (%(only)s::integer[] IS NULL OR c.job = ANY (%(only)s::integer[]))
      AND c.job <> ALL (%(passed_over)s::integer[])
    FOR UPDATE OF c SKIP LOCKED
)
-- until here, as forget_changes.chosen: SELECT id FROM chosen
DELETE FROM changes c USING chosen WHERE c.job = chosen.id RETURNING c.job;

-- name: lock_changing
SELECT c.job AS id FROM changes c JOIN jobs j ON j.id = c.job
WHERE (c.follow IS NOT NULL OR c.retry IS NOT NULL) AND c.job <> ALL (%(passed_over)s::integer[])
  AND (%(only)s::integer[] IS NULL OR c.job = ANY (%(only)s::integer[]))
ORDER BY c.job LIMIT %(jobs)s FOR UPDATE OF j SKIP LOCKED;

-- name: read_change
-- The job must be locked, else others may have made the change meanwhile.
SELECT c.follow, c.retry, c.overdue AS begun_overdue, j.files_total, j.cancelled, j.paused,
       j.stop_on_failure AND j.files_failed > 0 AS stopped, coalesce(j.deadline < now(), false) AS overdue,
       j.finished_at IS NOT NULL AS ended, now() AS now
FROM jobs j JOIN changes c ON c.job = j.id WHERE j.id = %(job)s AND (c.follow IS NOT NULL OR c.retry IS NOT NULL);

-- name: note_change
UPDATE changes SET follow = %(follow)s, retry = %(retry)s WHERE job = %(job)s;

-- name: end_change
DELETE FROM changes WHERE job = %(job)s;

-- name: cancel_waiting
-- Not transfers with leftovers (a part file, a request to a dataset's service): those are claimed once more.
UPDATE transfers t SET state = 'CANCELLED', finished_at = now(), stage = NULL, rate = 0
WHERE job = %(job)s AND index >= %(first)s AND index < %(last)s AND state = 'PENDING' AND NOT EXISTS (
    SELECT FROM transfers l WHERE l.job = t.job AND l.index = t.leader
    AND l.traces)
RETURNING index;

-- name: cancel_running
-- A transfer with leftovers is claimed once more to remove them, even if it is held or paused.
UPDATE transfers SET cancelling = true, paused = false, next_attempt_at = least(next_attempt_at, now())
WHERE job = %(job)s AND index >= %(first)s AND index < %(last)s AND state IN ('PENDING', 'PREPARING', 'IN_PROGRESS');

-- name: count_cancelled
UPDATE jobs SET files_cancelled = files_cancelled + %(files)s WHERE id = %(job)s;

-- name: fail_waiting
-- Not transfers with leftovers: those are claimed once more, and end then.
UPDATE transfers t SET state = 'FAILED', finished_at = now(), stage = NULL, rate = 0, error = %(error)s,
    first_error = coalesce(first_error, %(error)s)
WHERE job = %(job)s AND index >= %(first)s AND index < %(last)s AND state = 'PENDING' AND NOT EXISTS (
    SELECT FROM transfers l WHERE l.job = t.job AND l.index = t.leader
    AND l.traces)
RETURNING index;

-- name: count_failed
UPDATE jobs SET files_failed = files_failed + %(files)s, error = %(error)s, first_error = coalesce(first_error, %(error)s)
WHERE id = %(job)s;

-- name: pause_transfers
-- What waits for room (paused already) is paused as the others are.
UPDATE transfers SET paused = true, room_wanted = NULL
WHERE job = %(job)s AND index >= %(first)s AND index < %(last)s AND state IN ('PENDING', 'PREPARING', 'IN_PROGRESS')
  AND NOT cancelling AND (NOT paused OR room_wanted IS NOT NULL);

-- name: unpause_transfers
-- Ends the pauses before their next attempts, too.
UPDATE transfers SET paused = false, next_attempt_at = least(next_attempt_at, now())
WHERE job = %(job)s AND index >= %(first)s AND index < %(last)s AND state IN ('PENDING', 'PREPARING', 'IN_PROGRESS')
  AND (paused OR next_attempt_at > now());

-- name: retry_failed
-- Put the whole placement group of a failed file back in the queue; its checkpoint stays usable. If its leftovers may be
-- being swept now, it waits until that is over.
UPDATE transfers t
SET state = 'PENDING', failures = 0, lease_retried = lease, finished_at = NULL, cancelling = false, paused = j.paused,
    room_wanted = NULL, room_since = NULL,
    next_attempt_at = CASE WHEN traces THEN greatest(now(), next_attempt_at) ELSE now() END
FROM jobs j
WHERE t.job = %(job)s AND j.id = t.job AND t.index >= %(first)s AND t.index < %(last)s AND t.state = 'FAILED';

-- name: finish_jobs
-- prepared: jobs integer[]
-- A job whose last file is terminal becomes terminal, and its notice falls due.
WITH ended AS (
    UPDATE jobs
    SET finished_at = now(),
        error = CASE WHEN files_completed < files_total THEN error END,
        state = CASE WHEN files_completed = files_total THEN 'COMPLETED'
                     WHEN cancelled THEN 'CANCELLED'
                     WHEN files_completed > 0 THEN 'PARTIAL'
                     ELSE 'FAILED' END
    WHERE id = ANY (%(jobs)s) AND finished_at IS NULL
      AND files_completed + files_failed + files_cancelled = files_total
    RETURNING *
)
-- until here, as finish_jobs.untold: SELECT id, state FROM ended
, noted AS (
    UPDATE notices n
    SET id = gen_random_uuid(), state = 'DUE', attempt = 0, lease = n.lease + 1, next_attempt_at = now(),
        delivered_at = NULL, error = NULL,
        payload = jsonb_strip_nulls(jsonb_build_object(
            'status', e.state, 'at', to_char(e.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
            'label', e.label, 'request_id', e.request_id, 'files_total', e.files_total,
            'files_completed', e.files_completed, 'files_failed', e.files_failed, 'bytes_done', e.bytes_settled,
            'error', e.error))
    FROM ended e WHERE n.job = e.id AND n.job = ANY (ARRAY(SELECT id FROM ended))
    RETURNING pg_notify('datamover', 'notice')
)
SELECT id, state FROM ended;

-- Work ---------------------------------------------------------------------------------------------------------

-- name: heartbeat
INSERT INTO nodes (id, name, roles, active) VALUES (%(node)s, %(name)s, %(roles)s, %(active)s)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = greatest(nodes.heartbeat_at, now()), active = excluded.active;

-- name: read_set_back
-- The seconds, at least, by which the clock was set back: only then can a heartbeat lie in the future.
SELECT extract(epoch FROM max(heartbeat_at) - now())::double precision AS seconds FROM nodes;

-- name: serialise_mending
SELECT pg_advisory_xact_lock(hashtext('datamover.app.clock'));

-- name: mend_nodes
UPDATE nodes SET heartbeat_at = least(heartbeat_at, now());

-- name: mend_leases
-- A lease that ends earlier was given after the setback.
UPDATE transfers SET lease_until = lease_until - %(seconds)s * interval '1 second'
WHERE node IS NOT NULL AND lease_until > now() + %(seconds)s * interval '1 second';

-- name: mend_breakers
WITH own AS (
    UPDATE breakers SET closed_until = greatest(now(), closed_until - %(seconds)s * interval '1 second'),
        failed_at = least(failed_at, now())
    WHERE closed_until > now() OR failed_at > now()
)
UPDATE sides SET closed_until = greatest(now(), closed_until - %(seconds)s * interval '1 second') WHERE closed_until > now();

-- name: begin_mending
INSERT INTO setbacks (seconds, what) VALUES (%(seconds)s, 'transfers'), (%(seconds)s, 'notices');

-- name: lock_setback
SELECT id, seconds, what, job, index FROM setbacks ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: note_setback
UPDATE setbacks SET job = %(job)s, index = %(index)s WHERE id = %(id)s;

-- name: end_setback
DELETE FROM setbacks WHERE id = %(id)s;

-- name: mend_transfers
-- Transfers of jobs that have not ended, after the last one that was corrected.
WITH found AS MATERIALIZED (
    SELECT t.id, t.job, t.index
    FROM (SELECT id FROM jobs WHERE finished_at IS NULL AND id >= %(job)s ORDER BY id LIMIT %(rows)s) AS j
    CROSS JOIN LATERAL (
        SELECT o.id, o.job, o.index FROM transfers o
        WHERE o.job = j.id AND o.index > CASE WHEN j.id = %(job)s THEN %(index)s ELSE -1 END
        ORDER BY o.index LIMIT %(rows)s) AS t
    LIMIT %(rows)s
)
-- until here, as mend_transfers.passed_over: SELECT job, index FROM found ORDER BY job DESC, index DESC LIMIT 1
, mended AS (
    UPDATE transfers SET next_attempt_at = greatest(now(), next_attempt_at - %(seconds)s * interval '1 second')
    WHERE id = ANY (ARRAY(SELECT id FROM found)) AND state = 'PENDING' AND next_attempt_at > now()
)
SELECT job, index FROM found ORDER BY job DESC, index DESC LIMIT 1;

-- name: mend_notices
WITH found AS MATERIALIZED (
    SELECT job FROM notices WHERE job > %(job)s ORDER BY job LIMIT %(rows)s
)
-- until here, as mend_notices.passed_over: SELECT job, -1 AS index FROM found ORDER BY job DESC LIMIT 1
, mended AS (
    UPDATE notices SET next_attempt_at = greatest(now(), next_attempt_at - %(seconds)s * interval '1 second')
    WHERE job = ANY (ARRAY(SELECT job FROM found)) AND state = 'DUE' AND next_attempt_at > now()
)
SELECT job, -1 AS index FROM found ORDER BY job DESC LIMIT 1;

-- name: forget_nodes
DELETE FROM nodes n WHERE heartbeat_at < now() - interval '1 hour'
AND NOT EXISTS (SELECT FROM transfers t WHERE t.node = n.id);

-- name: forget_node
DELETE FROM nodes WHERE id = %(node)s RETURNING draining;

-- name: expire_leases
-- For a node whose process is known to have ended, so that others need not wait for its leases to run out.
UPDATE transfers SET lease_until = '-infinity' WHERE node = %(node)s;

-- name: serialise_claims
-- One process claims at a time, so that counting the active transfers and adding to them is one step. Only claims take
-- this lock, and only for as long as the server takes: see Claims.claim.
SELECT pg_advisory_xact_lock(hashtext('datamover.claim'));

-- name: let_claims_end
-- After this, every claim that may not see what was committed before it has ended.
SELECT pg_advisory_xact_lock_shared(hashtext('datamover.claim'));

-- name: claim
-- prepared: destinations text[], limits integer[], limits_of_one integer[], max_active integer, per_owner integer
-- prepared: owners text[], quotas integer[], over_quota text[], per_source_host integer, per_source_host_of_one integer
-- prepared: here_of_one integer, room integer, node uuid, lease double precision, only bigint[], passed_over bigint[]
-- prepared: told boolean
-- The queue consists of lanes: the transfers of one owner from one endpoint to one destination. Each lane is read from
-- its front, so a lane that is full, held or whose breaker is open costs the others nothing. At most 1000 lanes of one
-- owner to one destination are read, so that an owner with many source hosts does not slow down the others. Of owners
-- that have used their bytes of the day only cancelled transfers are claimed, to remove their leftovers.
--
-- Owners have shares: free slots of a destination, of a source host and of the whole cluster go to the owner that has
-- the fewest there, and among equals to the one that was served longest ago (turns). Priority orders the transfers of
-- one owner, and owners that are equal in all that. One owner has at most limits_of_one, per_source_host_of_one and, of
-- this node, here_of_one, so that there are slots for others at once, whatever it moves. No more of a lane is read than
-- its owner's share of the free slots of its destination, unless slots would stay free. The limits are applied one after
-- the other, so that something is left if anything can be claimed, however they conflict.
--
-- Where a breaker is open (sides: for all owners, breakers: for one), one transfer at a time is a probe, and owners take
-- turns regardless of priority.
--
-- Jobs of one owner with the same target take turns, the older one first. A transfer does not wait for waiting transfers
-- of other owners or of paused jobs with its target, only for those that are active. This is looked up file by file by
-- the target's index: as an anti-join it would be planned by the sizes that the tables had when they were empty.
--
-- The lease starts now, not when this claim began to wait for another one to end. The claim waits for no row: a transfer,
-- or a job that starts with it, that others have locked is left for the next claim. "only" and "passed_over" restrict the
-- claim to some transfers or exclude some, when the database refuses to change one of them.
WITH RECURSIVE lanes AS (
    (SELECT destination, owner, source_host, 1 AS nth FROM transfers
     WHERE state = 'PENDING' AND leader = index AND NOT paused
     ORDER BY destination, owner, source_host LIMIT 1)
    UNION ALL
    SELECT next.destination, next.owner, next.source_host,
           CASE WHEN (next.destination, next.owner) = (l.destination, l.owner) THEN l.nth + 1 ELSE 1 END
    FROM lanes l CROSS JOIN LATERAL (
        (SELECT t.destination, t.owner, t.source_host FROM transfers t
         WHERE t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused AND l.nth < 1000
           AND (t.destination, t.owner, t.source_host) > (l.destination, l.owner, l.source_host)
         ORDER BY t.destination, t.owner, t.source_host LIMIT 1)
        UNION ALL
        (SELECT t.destination, t.owner, t.source_host FROM transfers t
         WHERE t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused AND l.nth >= 1000
           AND (t.destination, t.owner) > (l.destination, l.owner)
         ORDER BY t.destination, t.owner, t.source_host LIMIT 1)) AS next
), active AS MATERIALIZED (
    SELECT destination, owner, source_host,
           CASE WHEN source_host LIKE 'web %%' THEN 'web ' || split_part(source_host, ' ', 2) ELSE source_host END AS host,
           CASE WHEN node = %(node)s THEN 'here' END AS here
    FROM transfers WHERE node IS NOT NULL
), known AS MATERIALIZED (
    -- JSON maps, keyed by side or by side and owner: a look-up costs the same whatever the plan.
    SELECT (SELECT jsonb_object_agg(c.side || coalesce(E'\n' || c.owner, ''), c.files) FROM (
                SELECT u.side, a.owner, count(*) AS files
                FROM active a CROSS JOIN LATERAL (VALUES ('to ' || a.destination), (a.host), (''), (a.here)) AS u (side)
                WHERE u.side IS NOT NULL
                GROUP BY GROUPING SETS ((u.side, a.owner), (u.side))) AS c) AS used,
           (SELECT jsonb_object_agg(side || E'\n' || owner, turn) FROM turns) AS turns,
           (SELECT jsonb_object_agg(name, extract(epoch FROM closed_until)) FROM (
                SELECT name, closed_until FROM sides UNION ALL
                SELECT side || E'\n' || owner, closed_until FROM breakers) AS c
            WHERE closed_until IS NOT NULL) AS closed,
           ARRAY(SELECT name FROM sides WHERE held IS NOT NULL) AS held
), named AS (
    SELECT l.*, 'place ' || l.destination || E'\n' || l.owner AS own_place, 'to ' || l.destination AS there,
           l.source_host || E'\n' || l.owner AS own_source, 'to ' || l.destination || E'\n' || l.owner AS own_there,
           l.host || E'\n' || l.owner AS own_host, E'\n' || l.owner AS own, E'here\n' || l.owner AS own_here
    FROM (SELECT destination, owner, source_host,
                 CASE WHEN source_host LIKE 'web %%' THEN 'web ' || split_part(source_host, ' ', 2) ELSE source_host END AS host
          FROM lanes) AS l
), counted AS (
    SELECT n.destination, n.owner, n.source_host, n.host,
           limits.max_active - coalesce((used -> there)::integer, 0) AS destination_free,
           least(coalesce(q.max_active, %(per_owner)s) - coalesce((used -> own)::integer, 0),
                 %(here_of_one)s - coalesce((used -> own_here)::integer, 0)) AS owner_free,
           %(per_source_host)s - coalesce((used -> n.host)::integer, 0) AS host_free,
           limits.of_one - coalesce((used -> own_there)::integer, 0) AS own_there_free,
           %(per_source_host_of_one)s - coalesce((used -> own_host)::integer, 0) AS own_host_free,
           coalesce((used -> own_there)::integer, 0) AS had_there, coalesce((used -> own_host)::integer, 0) AS had_thence,
           coalesce((used -> own)::integer, 0) AS had,
           (turns -> own_there)::bigint AS turn_there, (turns -> own_host)::bigint AS turn_thence,
           (turns -> own_source)::bigint AS turn_at_source, (turns -> own)::bigint AS turn,
           (k.closed -> ('place ' || n.destination))::double precision AS closed,
           (k.closed -> n.source_host)::double precision AS source_closed,
           (k.closed -> own_place)::double precision AS own_closed,
           (k.closed -> own_source)::double precision AS own_source_closed
    FROM named n CROSS JOIN known k
    JOIN unnest(%(destinations)s::text[], %(limits)s::integer[], %(limits_of_one)s::integer[])
        AS limits (destination, max_active, of_one) USING (destination)
    LEFT JOIN unnest(%(owners)s::text[], %(quotas)s::integer[]) AS q (owner, max_active) ON q.owner = n.owner
    WHERE 'place ' || n.destination <> ALL (held) AND n.source_host <> ALL (held)
      AND (n.owner <> ALL (%(over_quota)s::text[])
           OR EXISTS (SELECT FROM transfers c WHERE c.owner = n.owner AND c.cancelling AND c.state = 'PENDING'))
      AND (n.source_host NOT LIKE 'place %%' OR substr(n.source_host, 7) = ANY (%(destinations)s))
), open_lanes AS MATERIALIZED (
    SELECT c.*, coalesce(closed, own_closed) IS NOT NULL AS probing,
           coalesce(source_closed, own_source_closed) IS NOT NULL AS source_probing
    FROM counted c
    WHERE coalesce(closed, own_closed, 0) <= extract(epoch FROM now())
      AND coalesce(source_closed, own_source_closed, 0) <= extract(epoch FROM now())
      AND NOT EXISTS (
          SELECT FROM active a
          WHERE coalesce(closed, own_closed) IS NOT NULL AND a.destination = c.destination
                AND (closed IS NOT NULL OR a.owner = c.owner)
             OR coalesce(source_closed, own_source_closed) IS NOT NULL AND a.source_host = c.source_host
                AND (source_closed IS NOT NULL OR a.owner = c.owner))
), bounded AS (
    SELECT o.*, row_number() OVER () AS lane, least(destination_free, %(room)s) AS wanted,
           CASE WHEN probing OR source_probing THEN 1
                ELSE least(destination_free, own_there_free, owner_free, host_free, own_host_free, %(room)s) END AS most,
           ceil(least(destination_free, %(room)s)
                / max(owners_there) OVER (PARTITION BY destination)::double precision)::integer AS share
    FROM (SELECT *, dense_rank() OVER (PARTITION BY destination ORDER BY owner) AS owners_there FROM open_lanes
          WHERE least(destination_free, own_there_free, owner_free, host_free, own_host_free) > 0) AS o
), first_look AS MATERIALIZED (
    SELECT b.*, next.* FROM bounded b CROSS JOIN LATERAL (
        SELECT t.id, t.job, t.index, t.priority, t.target FROM transfers t
        WHERE t.destination = b.destination AND t.owner = b.owner AND t.source_host = b.source_host
          AND t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused AND t.next_attempt_at <= now()
          AND (t.cancelling OR t.owner <> ALL (%(over_quota)s::text[])) AND t.id <> ALL (%(passed_over)s::bigint[])
          AND (SELECT true FROM transfers f WHERE f.destination = t.destination AND f.target = t.target
               AND f.job <> t.job AND (f.state <> 'PENDING' OR f.job < t.job AND f.owner = t.owner
                                       AND (NOT f.paused OR f.room_wanted IS NOT NULL))
               AND f.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS') LIMIT 1) IS NULL
        ORDER BY t.priority DESC, t.job, t.index
        LIMIT least(b.most, b.share)) AS next
), second_look AS (
    SELECT c.*, next.* FROM (
        SELECT destination, owner, source_host, host, destination_free, owner_free, host_free, own_there_free, own_host_free,
               had_there, had_thence, had,
               turn_there, turn_thence, turn_at_source, turn, closed, source_closed, own_closed, own_source_closed,
               probing, source_probing, owners_there, lane, wanted, most, share
        FROM (
            SELECT f.*, count(*) OVER (PARTITION BY lane) AS found, count(*) OVER (PARTITION BY destination) AS found_there,
                   row_number() OVER (PARTITION BY lane) AS first
            FROM first_look f) AS f
        WHERE first = 1 AND found = share AND share < most AND found_there < wanted) AS c
    CROSS JOIN LATERAL (
        SELECT t.id, t.job, t.index, t.priority, t.target FROM transfers t
        WHERE t.destination = c.destination AND t.owner = c.owner AND t.source_host = c.source_host
          AND t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused AND t.next_attempt_at <= now()
          AND (t.cancelling OR t.owner <> ALL (%(over_quota)s::text[])) AND t.id <> ALL (%(passed_over)s::bigint[])
          AND (SELECT true FROM transfers f WHERE f.destination = t.destination AND f.target = t.target
               AND f.job <> t.job AND (f.state <> 'PENDING' OR f.job < t.job AND f.owner = t.owner
                                       AND (NOT f.paused OR f.room_wanted IS NOT NULL))
               AND f.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS') LIMIT 1) IS NULL
        ORDER BY t.priority DESC, t.job, t.index
        OFFSET c.share LIMIT c.most - c.share) AS next
), front AS MATERIALIZED (
    SELECT * FROM first_look UNION ALL SELECT * FROM second_look
), probes AS (
    SELECT id, probing, source_probing,
           row_number() OVER (PARTITION BY destination, CASE WHEN closed IS NULL THEN owner END
                              ORDER BY turn_there NULLS FIRST, priority DESC, job, index) AS at_destination,
           row_number() OVER (PARTITION BY source_host, CASE WHEN source_closed IS NULL THEN owner END
                              ORDER BY turn_at_source NULLS FIRST, priority DESC, job, index) AS at_source
    FROM front WHERE probing OR source_probing
), of_owner AS (
    SELECT f.*, row_number() OVER (PARTITION BY owner ORDER BY priority DESC, job, index) AS nth
    FROM front f
    WHERE NOT (probing OR source_probing) OR id IN (
        SELECT id FROM probes
        WHERE (NOT probing OR at_destination = 1) AND (NOT source_probing OR at_source = 1))
), of_target AS (
    SELECT o.*, row_number() OVER (PARTITION BY destination, owner ORDER BY nth) AS nth_there,
           row_number() OVER (PARTITION BY destination, target ORDER BY turn_there NULLS FIRST, nth, job) AS at_target
    FROM of_owner o WHERE nth <= owner_free
), of_destination AS (
    SELECT t.*, row_number() OVER (
        PARTITION BY destination
        ORDER BY had_there + nth_there, turn_there NULLS FIRST, priority DESC, job, index) AS at_destination
    FROM of_target t WHERE (target IS NULL OR at_target = 1) AND nth_there <= own_there_free
), of_host AS (
    SELECT d.*, row_number() OVER (PARTITION BY host, owner ORDER BY nth) AS nth_thence
    FROM of_destination d WHERE at_destination <= destination_free
), of_all AS (
    SELECT h.*, row_number() OVER (
        PARTITION BY host ORDER BY had_thence + nth_thence, turn_thence NULLS FIRST, priority DESC, job, index) AS at_host
    FROM of_host h WHERE nth_thence <= own_host_free
), kept AS (
    SELECT a.*, row_number() OVER (PARTITION BY owner ORDER BY nth) AS nth_kept FROM of_all a WHERE at_host <= host_free
), chosen AS MATERIALIZED (
    SELECT id, job, owner, destination, host, CASE WHEN source_probing THEN source_host END AS probed FROM kept
    ORDER BY had + nth_kept, turn NULLS FIRST, priority DESC, job, index
    LIMIT greatest(0, least(%(room)s, %(max_active)s - (SELECT count(*) FROM active)))
), beginning AS MATERIALIZED (
    SELECT id FROM jobs WHERE id = ANY (ARRAY(SELECT job FROM chosen)) AND state IN ('PENDING', 'PREPARING')
    FOR NO KEY UPDATE SKIP LOCKED
), locked AS (
    SELECT t.id, t.lease FROM transfers t JOIN chosen USING (id)
    WHERE t.state = 'PENDING' AND NOT t.paused AND (%(only)s::bigint[] IS NULL OR t.id = ANY (%(only)s::bigint[])) AND (
        (SELECT true FROM jobs j WHERE j.id = t.job AND j.state = 'IN_PROGRESS')
        OR t.job = ANY (ARRAY(SELECT id FROM beginning)))
    FOR UPDATE OF t SKIP LOCKED
)
-- until here, as claim.chosen: SELECT id, lease FROM locked
, claimed AS (
    UPDATE transfers t
    SET state = CASE WHEN j.archive IS NULL AND t.source_member IS NULL THEN 'IN_PROGRESS' ELSE 'PREPARING' END,
        node = %(node)s, lease = t.lease + 1, lease_until = clock_timestamp() + %(lease)s * interval '1 second',
        attempt = t.failures + 1, started_at = coalesce(t.started_at, now()), rate = 0,
        stage = 'connecting', traces = true
    FROM locked, jobs j
    WHERE t.id = locked.id AND j.id = t.job AND NOT EXISTS (SELECT FROM nodes n WHERE n.id = %(node)s AND n.draining)
    RETURNING t.id, t.job, t.index, t.leader, t.source_url, t.source_sealed, t.source_member, t.source_destination,
              t.source_path, t.destination, t.path, t.naming, t.target, t.checksum, t.expected_size, t.attempt,
              t.failures, t.checkpoint, t.memory, t.room_wanted, t.bytes_done, t.cancelling,
              coalesce(j.deadline < now(), false) AS overdue, t.renaming, t.lease,
              t.lease - t.lease_retried AS claims, t.state, j.owner, j.overwrite,
              j.archive, j.max_attempts, j.stop_on_failure, t.started_at
), begun AS (
    UPDATE jobs j SET started_at = coalesce(started_at, now()),
        state = CASE WHEN EXISTS (SELECT FROM claimed c WHERE c.job = j.id AND c.state = 'IN_PROGRESS')
                       OR EXISTS (SELECT FROM transfers t WHERE t.job = j.id AND t.state = 'IN_PROGRESS')
                     THEN 'IN_PROGRESS' ELSE 'PREPARING' END
    WHERE id = ANY (ARRAY(SELECT job FROM claimed)) AND state IN ('PENDING', 'PREPARING')
), turned AS (
    INSERT INTO turns (side, owner, turn)
    SELECT DISTINCT u.side, c.owner, (SELECT nextval('turns_taken'))
    FROM chosen c CROSS JOIN LATERAL (VALUES ('to ' || c.destination), (c.host), (c.probed), ('')) AS u (side)
    WHERE c.id IN (SELECT id FROM claimed) AND u.side IS NOT NULL AND (SELECT min(owner) <> max(owner) FROM open_lanes)
    ON CONFLICT (side, owner) DO UPDATE SET turn = excluded.turn
), told AS (
    INSERT INTO events (job, owner, file, kind, details)
    SELECT job, owner, index, CASE state WHEN 'PREPARING' THEN 'preparing' ELSE 'started' END,
           jsonb_build_object('attempt', attempt)
    FROM claimed WHERE %(told)s ORDER BY job, index
)
SELECT * FROM claimed ORDER BY job, index;

-- name: start_members
-- The members of groups that this node has just claimed.
UPDATE transfers t SET state = 'PREPARING', attempt = l.attempt, started_at = coalesce(t.started_at, now())
FROM unnest(%(transfers)s::bigint[], %(leases)s::bigint[]) AS held (id, lease)
JOIN transfers l ON l.id = held.id AND l.lease = held.lease AND l.node = %(node)s
WHERE t.job = l.job AND t.leader = l.index AND t.index <> t.leader AND t.state = 'PENDING';

-- name: read_members
-- Members that never began get a started_at, since a group that ended before they began is swept, too.
SELECT t.id, t.job, t.index, t.leader, t.source_url, t.source_sealed, t.source_member, t.source_destination, t.source_path,
       t.destination, t.path, t.naming, t.target, t.checksum, t.expected_size, t.attempt, t.failures, t.checkpoint, t.memory,
       t.room_wanted, t.bytes_done, t.cancelling, coalesce(j.deadline < now(), false) AS overdue, t.renaming, t.lease,
       t.lease - t.lease_retried AS claims, t.state, j.owner, j.overwrite, j.archive, j.max_attempts, j.stop_on_failure,
       coalesce(t.started_at, now()) AS started_at
FROM transfers t JOIN jobs j ON j.id = t.job
WHERE t.job = %(job)s AND t.leader = %(leader)s ORDER BY t.index;

-- name: read_shares
SELECT destination, count(*) FILTER (WHERE node = %(node)s)::integer AS here, count(*)::integer AS everywhere
FROM transfers WHERE node IS NOT NULL GROUP BY destination;

-- name: read_own
SELECT id, job, lease FROM transfers WHERE node = %(node)s;

-- name: renew
-- prepared: node uuid, transfers bigint[], leases bigint[], lease double precision
-- Returns the leases that this node still holds; "cancelling", "overdue" and "paused" tell that the transfer is to stop.
UPDATE transfers t SET lease_until = now() + %(lease)s * interval '1 second'
FROM unnest(%(transfers)s::bigint[], %(leases)s::bigint[]) AS held (id, lease)
WHERE t.id = held.id AND t.lease = held.lease AND t.node = %(node)s
RETURNING t.id, t.lease, t.cancelling, t.paused,
          coalesce((SELECT deadline FROM jobs j WHERE j.id = t.job) < now(), false) AS overdue;

-- name: read_stopping
SELECT t.id, t.lease, t.cancelling, t.paused, coalesce(j.deadline < now(), false) AS overdue
FROM transfers t JOIN jobs j ON j.id = t.job
WHERE t.node = %(node)s AND (t.cancelling OR t.paused OR j.deadline < now());

-- Retirement ---------------------------------------------------------------------------------------------------

-- name: limit_slice
-- A slice that runs or waits for longer is tried again with fewer rows.
SELECT set_config('statement_timeout', '3000', true), set_config('lock_timeout', '250', true);

-- name: lift_limit
-- For statements that lock nothing others need, but read index entries of many deleted rows.
SELECT set_config('statement_timeout', '30000', true);

-- name: try_retiring
-- One process at a time retires jobs; the others do not wait for it.
SELECT pg_try_advisory_xact_lock(hashtext('datamover.retire')) AS ours;

-- name: begin_retiring
-- From here on a job counts as expired, however long the removal of its rows takes.
WITH chosen AS MATERIALIZED (
    SELECT id, owner FROM jobs j
    WHERE finished_at < now() - %(retention)s * interval '1 second'
      AND (SELECT true FROM retiring r WHERE r.job = j.id) IS NULL
      AND (%(only)s::integer[] IS NULL OR id = ANY (%(only)s::integer[])) AND id <> ALL (%(passed_over)s::integer[])
    ORDER BY finished_at LIMIT %(jobs)s FOR UPDATE SKIP LOCKED
)
-- until here, as begin_retiring.chosen: SELECT id FROM chosen
, kept AS (
    INSERT INTO expired_jobs (id, owner) SELECT id, owner FROM chosen ON CONFLICT DO NOTHING
), begun AS (
    INSERT INTO retiring (job) SELECT id FROM chosen ON CONFLICT DO NOTHING
), silenced AS (
    DELETE FROM notices WHERE job = ANY (ARRAY(SELECT id FROM chosen))
), freed AS (
    UPDATE jobs SET request_id = NULL WHERE id = ANY (ARRAY(SELECT id FROM chosen)) AND request_id IS NOT NULL
), told AS (
    INSERT INTO events (job, owner, kind) SELECT id, owner, 'expired' FROM chosen WHERE %(told)s ORDER BY id
)
SELECT id FROM chosen;

-- name: find_retiring
SELECT FROM retiring WHERE job = %(job)s;

-- name: read_retiring
SELECT job AS id, event, file FROM retiring
WHERE job <> ALL (%(passed_over)s::integer[]) AND (%(only)s::integer[] IS NULL OR job = ANY (%(only)s::integer[]))
ORDER BY job LIMIT %(jobs)s FOR UPDATE SKIP LOCKED;

-- name: retire_events
WITH found AS MATERIALIZED (
    SELECT e.job, e.cursor FROM unnest(%(jobs)s::integer[], %(events)s::bigint[]) AS r (job, event) CROSS JOIN LATERAL (
        SELECT o.job, o.cursor FROM events o WHERE o.job = r.job AND o.cursor > r.event AND o.kind <> 'expired'
        ORDER BY o.cursor LIMIT %(rows)s) AS e
    LIMIT %(rows)s
), gone AS (
    DELETE FROM events WHERE cursor = ANY (ARRAY(SELECT cursor FROM found))
), noted AS (
    UPDATE retiring r SET event = f.cursor FROM (SELECT job, max(cursor) AS cursor FROM found GROUP BY job) AS f
    WHERE r.job = f.job
)
SELECT count(*)::integer AS rows FROM found;

-- name: retire_files
WITH found AS MATERIALIZED (
    SELECT t.id, t.job, t.index FROM unnest(%(jobs)s::integer[], %(files)s::integer[]) AS r (job, file)
    CROSS JOIN LATERAL (
        SELECT o.id, o.job, o.index FROM transfers o WHERE o.job = r.job AND o.index >= r.file
        ORDER BY o.index LIMIT %(rows)s) AS t
    LIMIT %(rows)s
), gone AS (
    DELETE FROM transfers WHERE id = ANY (ARRAY(SELECT id FROM found))
), noted AS (
    UPDATE retiring r SET file = f.index + 1 FROM (SELECT job, max(index) AS index FROM found GROUP BY job) AS f
    WHERE r.job = f.job
)
SELECT count(*)::integer AS rows FROM found;

-- name: retire_jobs
DELETE FROM jobs WHERE id = ANY (%(jobs)s);

-- name: forget_expired
-- The event that a job has expired is kept for the retention once more; expired_jobs keeps the job's id and owner. Jobs
-- that took long have many events that are older than that, so only a slice of the events is read, from the last one that
-- was examined on.
WITH found AS MATERIALIZED (
    SELECT cursor, at, kind FROM events
    WHERE at > %(after)s AND at < now() - %(retention)s * interval '1 second' ORDER BY at LIMIT %(rows)s
), gone AS (
    DELETE FROM events WHERE cursor = ANY (ARRAY(SELECT cursor FROM found WHERE kind = 'expired'))
)
SELECT max(at) AS at, count(*)::integer AS rows FROM found;

-- name: read_expired_job
SELECT owner FROM expired_jobs WHERE id = %(job)s;

-- name: note_endpoint_failures
-- Count a failure of an owner at an endpoint, and open the breaker for this owner after enough of them. It opens for all
-- owners if it has lately opened for several, and stays open as long as the probes fail.
WITH news AS (
    SELECT * FROM jsonb_to_recordset(%(news)s) AS n (side text, owner text, error jsonb)
), noted AS (
    INSERT INTO breakers AS b (side, owner, failures, error)
    SELECT side, owner, 1, error FROM news ORDER BY side, owner
    ON CONFLICT (side, owner) DO UPDATE
    SET failures = b.failures + 1, error = excluded.error, failed_at = now(),
        closed_until = CASE WHEN b.failures + 1 >= %(patience)s THEN now() + interval '1 second'
            * least(%(cap)s, %(base)s * power(2, least(b.failures + 1 - %(patience)s, 30))) END
    RETURNING side, owner, failures
), owners AS (
    SELECT side, owner FROM noted WHERE failures >= %(patience)s
    UNION
    SELECT b.side, b.owner FROM breakers b
    WHERE b.side IN (SELECT side FROM news) AND b.failures >= %(patience)s
      AND b.closed_until > now() - %(cap)s * interval '1 second'
)
INSERT INTO sides AS s (name, failures, closed_until, error)
SELECT DISTINCT ON (n.side) n.side, %(patience)s, now() + interval '1 second' * least(%(cap)s, %(base)s), n.error
FROM news n
WHERE (SELECT count(*) FROM owners o WHERE o.side = n.side) > 1
   OR EXISTS (SELECT FROM sides o WHERE o.name = n.side AND o.closed_until IS NOT NULL)
ORDER BY n.side
ON CONFLICT (name) DO UPDATE
SET failures = greatest(s.failures + 1, %(patience)s), error = excluded.error,
    closed_until = now() + interval '1 second'
        * least(%(cap)s, %(base)s * power(2, least(greatest(s.failures + 1 - %(patience)s, 0), 30)));

-- name: mend_endpoints
-- prepared: sides text[], owners text[]
-- A success of one owner closes the breaker for all owners if it was open for all, else for that owner.
WITH mended AS (
    UPDATE sides SET failures = 0, closed_until = NULL, error = NULL
    WHERE name = ANY (%(sides)s) AND (failures > 0 OR closed_until IS NOT NULL)
    RETURNING name
)
DELETE FROM breakers b
WHERE side = ANY (%(sides)s) AND (side IN (SELECT name FROM mended) OR EXISTS (
    SELECT FROM unnest(%(sides)s::text[], %(owners)s::text[]) AS w (side, owner)
    WHERE w.side = b.side AND w.owner = b.owner));

-- name: forget_endpoints
-- Remove endpoints without a failure for a day, and old turns. It waits for no lock, and is a transaction of its own.
WITH sides_gone AS (
    DELETE FROM sides WHERE name IN (
        SELECT name FROM sides WHERE held IS NULL AND coalesce(closed_until < now() - interval '1 day', true)
        FOR UPDATE SKIP LOCKED)
), turns_gone AS (
    DELETE FROM turns WHERE (side, owner) IN (
        SELECT side, owner FROM turns WHERE turn < pg_sequence_last_value('turns_taken'::regclass) - 200
        FOR UPDATE SKIP LOCKED)
)
DELETE FROM breakers WHERE (side, owner) IN (
    SELECT side, owner FROM breakers WHERE failed_at < now() - interval '1 day' FOR UPDATE SKIP LOCKED);

-- name: read_expired
-- Groups of dead nodes. Rows that others have locked are left for the next time.
SELECT t.id, t.job, t.lease FROM transfers t JOIN jobs j ON j.id = t.job WHERE t.node IS NOT NULL AND t.lease_until < now()
FOR UPDATE OF j SKIP LOCKED;

-- name: release_expired
-- A process that was suspended goes on writing when it wakes, and may be killed before it can report that. So its groups
-- are marked as late, unless it is known to have ended.
UPDATE transfers t
SET state = 'PENDING', node = NULL, lease_until = NULL, next_attempt_at = now(), rate = 0, stage = NULL,
    late = late OR lease_until > '-infinity'
WHERE id = ANY (%(transfers)s) AND node IS NOT NULL AND lease_until < now()
RETURNING id, job, index, cancelling;

-- name: release_members
UPDATE transfers t SET state = 'PENDING', rate = 0
FROM unnest(%(jobs)s::integer[], %(leaders)s::integer[]) AS g (job, leader)
WHERE t.job = g.job AND t.leader = g.leader AND t.index <> t.leader AND t.state IN ('PREPARING', 'IN_PROGRESS');

-- name: release_held
-- For a node that releases what it holds.
UPDATE transfers t
SET state = 'PENDING', node = NULL, lease_until = NULL, next_attempt_at = now(), rate = 0, stage = NULL
FROM unnest(%(transfers)s::bigint[], %(leases)s::bigint[]) AS held (id, lease)
WHERE t.id = held.id AND t.lease = held.lease AND t.node = %(node)s
RETURNING t.id, t.job, t.index, t.cancelling;

-- name: claim_leftovers
-- An ended group with leftovers at a destination that is not held or broken. Others do not get it for the given seconds.
-- It waits for other jobs' files of its targets, whose uploads could be taken for its own.
WITH found AS (
    SELECT t.id FROM transfers t LEFT JOIN sides d ON d.name = 'place ' || t.destination
    LEFT JOIN breakers o ON o.side = 'place ' || t.destination AND o.owner = t.owner
    WHERE t.traces AND t.state IN ('COMPLETED', 'FAILED', 'CANCELLED') AND t.next_attempt_at <= now()
      AND t.destination = ANY (%(destinations)s) AND d.held IS NULL AND coalesce(d.closed_until, o.closed_until, now()) <= now()
      AND t.id <> ALL (%(passed_over)s::bigint[])
      AND NOT EXISTS (
          SELECT FROM (
              SELECT t.target
              UNION ALL
              SELECT m.target FROM transfers m WHERE m.job = t.job AND m.leader = t.index AND m.leader <> m.index) AS own
          JOIN transfers f ON f.destination = t.destination AND f.target = own.target AND f.job <> t.job
          WHERE f.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS'))
    ORDER BY t.next_attempt_at LIMIT 1 FOR UPDATE OF t SKIP LOCKED
)
-- until here, as claim_leftovers.chosen: SELECT id FROM found
UPDATE transfers t SET lease = t.lease + 1, next_attempt_at = now() + %(seconds)s * interval '1 second'
FROM found, jobs j WHERE t.id = found.id AND j.id = t.job
RETURNING t.id, t.job, t.index, t.leader, t.source_url, t.source_sealed, t.source_member, t.source_destination,
          t.source_path, t.destination, t.path, t.naming, t.target, t.checksum, t.expected_size, t.attempt,
          t.failures, t.checkpoint, t.memory, t.room_wanted, t.bytes_done, t.cancelling, true AS overdue, t.renaming,
          t.lease, t.lease - t.lease_retried AS claims, t.state, j.owner, j.overwrite, j.archive, j.max_attempts,
          j.stop_on_failure, t.started_at;

-- name: settle_leftovers
-- A late group is swept once more, when the seconds of claim_leftovers are over.
UPDATE transfers SET traces = late, late = false
WHERE id = %(transfer)s AND lease = %(lease)s AND state IN ('COMPLETED', 'FAILED', 'CANCELLED');

-- name: note_late
-- Mark groups as late that others have claimed since, or that have ended. They are swept now, or when they have ended.
UPDATE transfers t
SET late = true, traces = t.traces OR t.finished_at IS NOT NULL,
    next_attempt_at = CASE WHEN t.finished_at IS NULL THEN t.next_attempt_at ELSE now() END
FROM unnest(%(transfers)s::bigint[], %(leases)s::bigint[]) AS lost (id, lease)
WHERE t.id = lost.id AND (t.lease > lost.lease OR t.finished_at IS NOT NULL);

-- name: progress
-- prepared: news jsonb, node uuid
-- The members of a group are fenced by their leader's lease. The jobs are changed first, for the order of locks.
WITH news AS (
    SELECT * FROM jsonb_to_recordset(%(news)s)
        AS n (transfer bigint, lease bigint, bytes_done bigint, size bigint, rate double precision, stage text,
              digest text, checkpoint jsonb)
), held AS (
    SELECT t.id, n.*, t.job, t.size AS old_size, t.expected_size
    FROM news n JOIN transfers t ON t.id = n.transfer
    JOIN transfers l ON l.job = t.job AND l.index = t.leader
    WHERE l.node = %(node)s AND l.lease = n.lease AND t.state IN ('PREPARING', 'IN_PROGRESS')
), sized AS (
    SELECT job, count(*) FILTER (WHERE coalesce(old_size, expected_size) IS NULL) AS more,
           sum(size - coalesce(old_size, expected_size, 0)) AS bytes
    FROM held WHERE size IS NOT NULL AND size IS DISTINCT FROM coalesce(old_size, expected_size) GROUP BY job
), counted AS (
    -- The sum of many files of up to 2^53 bytes may exceed bigint: it is capped.
    UPDATE jobs j SET files_sized = files_sized + sized.more,
        bytes_sized = least(bytes_sized + sized.bytes, 9223372036854775807)
    FROM sized WHERE j.id = sized.job AND j.id = ANY (ARRAY(SELECT job FROM sized))
    RETURNING j.id
)
UPDATE transfers t
SET bytes_done = held.bytes_done, size = coalesce(held.size, t.size), rate = held.rate, stage = held.stage,
    digest = coalesce(held.digest, t.digest), checkpoint = coalesce(held.checkpoint, t.checkpoint)
FROM held WHERE t.id = held.id AND (SELECT count(*) FROM counted) >= 0;

-- name: set_targets
-- prepared: transfers bigint[], leases bigint[], targets text[], node uuid
-- Returns the transfers whose lease this node still holds.
UPDATE transfers t SET target = n.target
FROM unnest(%(transfers)s::bigint[], %(leases)s::bigint[], %(targets)s::text[]) AS n (id, lease, target)
WHERE t.id = n.id AND EXISTS (
    SELECT FROM transfers l WHERE l.job = t.job AND l.index = t.leader AND l.node = %(node)s AND l.lease = n.lease)
RETURNING t.id;

-- name: read_may_go_on
-- prepared: transfers bigint[]
-- Of transfers whose targets have been committed, those that "claim" would not hold back. Run after let_claims_end, so
-- that no claim has missed such a target without being seen here. If two transfers get the same target at the same time
-- both may be held back; then they are claimed in their order.
SELECT t.id FROM transfers t
WHERE t.id = ANY (%(transfers)s) AND (
    SELECT true FROM transfers o WHERE o.destination = t.destination AND o.target = t.target
    AND o.job <> t.job AND (o.state <> 'PENDING' OR o.job < t.job AND o.owner = t.owner
                            AND (NOT o.paused OR o.room_wanted IS NOT NULL))
    AND o.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS') LIMIT 1) IS NULL;

-- name: tell_resumed
-- Write the events of transfers that resume, if their leases are still held.
INSERT INTO events (job, owner, file, kind, details)
SELECT t.job, t.owner, t.index, 'resumed', n.resumed
FROM jsonb_to_recordset(%(news)s) AS n (transfer bigint, lease bigint, resumed jsonb)
JOIN transfers t ON t.id = n.transfer
JOIN transfers l ON l.job = t.job AND l.index = t.leader
WHERE l.node = %(node)s AND l.lease = n.lease AND t.state IN ('PREPARING', 'IN_PROGRESS') AND n.resumed IS NOT NULL
ORDER BY t.id;

-- name: remember
UPDATE transfers SET memory = %(memory)s
WHERE id = %(transfer)s AND node = %(node)s AND lease = %(lease)s
RETURNING id;

-- name: set_moving
UPDATE transfers t SET state = 'IN_PROGRESS'
FROM transfers l
WHERE t.job = l.job AND t.leader = l.index AND l.id = %(transfer)s AND l.node = %(node)s AND l.lease = %(lease)s
  AND t.state = 'PREPARING'
RETURNING t.id;

-- name: set_placing
-- From here on the placing of the group is rolled forward, by whichever node; each row stores its own upload.
WITH placed AS (
    SELECT t.id, t.job, coalesce(t.size, t.expected_size) AS known, p.target, p.size, p.digest, p.checkpoint
    FROM jsonb_to_recordset(%(placements)s)
             AS p (transfer bigint, target text, size bigint, digest text, checkpoint jsonb)
    JOIN transfers t ON t.id = p.transfer
    JOIN transfers l ON l.job = t.job AND l.index = t.leader
    WHERE l.id = %(transfer)s AND l.node = %(node)s AND l.lease = %(lease)s
      AND t.state IN ('PREPARING', 'IN_PROGRESS')
), counted AS (
    UPDATE jobs j SET files_sized = files_sized + c.more,
        bytes_sized = least(bytes_sized + c.bytes, 9223372036854775807)
    FROM (SELECT job, count(*) FILTER (WHERE known IS NULL) AS more, sum(size - coalesce(known, 0)) AS bytes
          FROM placed WHERE size IS NOT NULL GROUP BY job) AS c
    WHERE j.id = c.job
)
UPDATE transfers t
SET renaming = true, state = 'IN_PROGRESS', target = p.target, size = coalesce(p.size, t.size),
    digest = coalesce(p.digest, t.digest), checkpoint = p.checkpoint
FROM placed p WHERE t.id = p.id
RETURNING t.id;

-- name: job_moves_on
UPDATE jobs SET state = 'IN_PROGRESS' WHERE id = %(job)s AND state = 'PREPARING';

-- name: lock_held
-- prepared: node uuid, transfers bigint[], leases bigint[]
SELECT t.id, t.job, t.index, t.paused, now() AS now FROM transfers t
JOIN unnest(%(transfers)s::bigint[], %(leases)s::bigint[]) AS held (id, lease) ON t.id = held.id
WHERE t.lease = held.lease AND t.node = %(node)s AND t.state IN ('PREPARING', 'IN_PROGRESS')
ORDER BY t.id FOR UPDATE OF t;

-- name: settle
-- prepared: outcomes jsonb
-- The end of an attempt, for the whole placement group: completed, to be tried again, failed or cancelled. The rows of
-- members have their sizes and digests already; the leader's may not. The rows to be changed are given by an array beside
-- the join, so that they are looked up by index whatever the sizes of the tables when this was planned.
WITH outcome AS (
    SELECT * FROM jsonb_to_recordset(%(outcomes)s)
        AS o (job integer, leader integer, state text, failures integer, pause double precision, error jsonb,
              checkpoint jsonb, renaming boolean, bytes_done bigint, size bigint, digest text, cleaned boolean)
), before AS (
    SELECT t.id, o.*, t.index = o.leader AS leads, coalesce(t.size, t.expected_size) AS known,
           CASE WHEN t.index = o.leader THEN coalesce(o.size, t.size) ELSE t.size END AS now_size
    FROM outcome o CROSS JOIN LATERAL (
        SELECT * FROM transfers l WHERE l.job = o.job AND l.index = o.leader
        UNION ALL
        SELECT * FROM transfers m WHERE m.job = o.job AND m.leader = o.leader AND m.leader <> m.index) AS t
    WHERE t.state IN ('PREPARING', 'IN_PROGRESS')
), ended AS (
    UPDATE transfers t
    SET state = b.state,
        node = NULL, lease_until = NULL, renaming = b.renaming, stage = NULL, rate = 0,
        failures = b.failures,
        next_attempt_at = now() + CASE WHEN t.cancelling AND b.state = 'PENDING' THEN 0 ELSE coalesce(b.pause, 0) END
                                  * interval '1 second',
        error = CASE WHEN b.state = 'COMPLETED' THEN NULL ELSE coalesce(b.error, t.error) END,
        first_error = coalesce(t.first_error, b.error),
        traces = t.late OR b.leads AND NOT b.cleaned
                 OR b.state = 'PENDING' AND (b.renaming OR b.checkpoint IS NOT NULL OR t.memory IS NOT NULL),
        checkpoint = CASE WHEN b.renaming THEN t.checkpoint WHEN b.leads THEN b.checkpoint END,
        memory = CASE WHEN b.state = 'PENDING' THEN t.memory END,
        size = b.now_size,
        digest = CASE WHEN b.leads THEN coalesce(b.digest, t.digest) ELSE t.digest END,
        bytes_done = CASE WHEN b.state = 'COMPLETED' THEN coalesce(b.now_size, 0)
                          WHEN b.leads THEN b.bytes_done ELSE 0 END,
        finished_at = CASE WHEN b.state <> 'PENDING' THEN now() END
    FROM before b WHERE t.id = b.id AND t.id = ANY (ARRAY(SELECT id FROM before))
), counted AS (
    SELECT job, count(*) FILTER (WHERE state = 'COMPLETED') AS completed,
           count(*) FILTER (WHERE state = 'FAILED') AS failed,
           count(*) FILTER (WHERE state = 'CANCELLED') AS cancelled,
           coalesce(sum(now_size) FILTER (WHERE state = 'COMPLETED'), 0) AS bytes,
           count(*) FILTER (WHERE known IS NULL AND now_size IS NOT NULL) AS newly_sized,
           coalesce(sum(now_size - coalesce(known, 0)) FILTER (WHERE now_size IS NOT NULL), 0) AS newly_bytes
    FROM before GROUP BY job
), erred AS (
    SELECT DISTINCT ON (job) job, error FROM outcome WHERE error IS NOT NULL ORDER BY job, leader
)
UPDATE jobs j
SET files_completed = files_completed + c.completed, files_failed = files_failed + c.failed,
    files_cancelled = files_cancelled + c.cancelled,
    bytes_settled = least(bytes_settled + c.bytes, 9223372036854775807),
    files_sized = files_sized + c.newly_sized, bytes_sized = least(bytes_sized + c.newly_bytes, 9223372036854775807),
    state = CASE WHEN j.state = 'PREPARING' AND c.completed > 0 THEN 'IN_PROGRESS' ELSE j.state END,
    error = coalesce(e.error, j.error), first_error = coalesce(j.first_error, e.error)
FROM counted c LEFT JOIN erred e USING (job)
WHERE j.id = c.job AND j.id = ANY (ARRAY(SELECT job FROM counted));

-- name: wait_for_room
-- Groups whose attempts have just been settled as PENDING: claims read past them until wake_for_room.
UPDATE transfers t
SET paused = true, room_wanted = w.wanted, room_since = coalesce(t.room_since, now())
FROM unnest(%(transfers)s::bigint[], %(wanted)s::bigint[]) AS w (id, wanted)
WHERE t.id = w.id AND t.state = 'PENDING' AND NOT t.paused AND NOT t.cancelling;

-- name: lock_job_of
SELECT t.job, t.index, t.attempt, j.stop_on_failure, now() AS now FROM transfers t JOIN jobs j ON j.id = t.job
WHERE t.id = %(transfer)s FOR UPDATE OF j;

-- name: end_refused
-- End a placement group whose outcome the database refuses: the smallest change that says so. Its leftovers are swept.
WITH ended AS (
    UPDATE transfers t
    SET state = 'FAILED', node = NULL, lease_until = NULL, renaming = false, stage = NULL, rate = 0,
        finished_at = now(), error = %(error)s, first_error = coalesce(t.first_error, %(error)s)
    FROM transfers l
    WHERE l.id = %(transfer)s AND l.lease = %(lease)s AND l.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS')
      AND t.job = l.job AND t.leader = l.index AND t.state IN ('PENDING', 'PREPARING', 'IN_PROGRESS')
    RETURNING t.job
)
UPDATE jobs j SET files_failed = files_failed + e.files, error = %(error)s, first_error = coalesce(j.first_error, %(error)s)
FROM (SELECT job, count(*) AS files FROM ended GROUP BY job) AS e WHERE j.id = e.job
RETURNING e.files;

-- Room at destinations --------------------------------------------------------------------------------------------

-- name: read_reserved
-- prepared: destinations text[]
-- What was ever reserved at destinations, and what is reserved by transfers that are worked on.
SELECT r.destination, r.given, t.id, t.lease, t.room_from, t.room_until, t.bytes_done
FROM rooms r LEFT JOIN transfers t ON t.destination = r.destination AND t.node IS NOT NULL AND t.room_lease = t.lease
WHERE r.destination = ANY (%(destinations)s);

-- name: begin_rooms
INSERT INTO rooms (destination) SELECT unnest(%(destinations)s::text[]) ON CONFLICT DO NOTHING;

-- name: lock_rooms
-- prepared: destinations text[]
SELECT destination, given, longest, passed FROM rooms
WHERE destination = ANY (%(destinations)s) ORDER BY destination FOR UPDATE;

-- name: read_room_order
-- prepared: destinations text[], transfers bigint[]
-- Since when some transfers have wanted room, and the one of each destination that waits and has wanted it longest.
SELECT id, destination, room_since, room_wanted, false AS longest FROM transfers WHERE id = ANY (%(transfers)s)
UNION ALL
SELECT first.id, d.destination, first.room_since, first.room_wanted, true
FROM unnest(%(destinations)s::text[]) AS d (destination) CROSS JOIN LATERAL (
    SELECT t.id, t.room_since, t.room_wanted FROM transfers t
    WHERE t.destination = d.destination AND t.state = 'PENDING' AND t.room_wanted IS NOT NULL AND NOT t.cancelling
    ORDER BY t.room_since, t.id LIMIT 1) AS first;

-- name: reserve_room
-- prepared: transfers bigint[], leases bigint[], starts bigint[], untils bigint[], dones bigint[], node uuid
-- Only for transfers whose lease this node still holds; returns those.
UPDATE transfers t
SET room_lease = t.lease, room_from = r.start, room_until = r.until, room_wanted = NULL, room_since = NULL,
    bytes_done = coalesce(r.done, t.bytes_done)
FROM unnest(%(transfers)s::bigint[], %(leases)s::bigint[], %(starts)s::bigint[], %(untils)s::bigint[],
            %(dones)s::bigint[]) AS r (id, lease, start, until, done)
WHERE t.id = r.id AND t.id = ANY (%(transfers)s) AND t.lease = r.lease AND t.node = %(node)s
RETURNING t.id;

-- name: note_rooms
-- prepared: destinations text[], free bigint[], keep bigint[], under_way bigint[], given bigint[], longest bigint[]
-- prepared: passed bigint[]
UPDATE rooms
SET free = n.free, keep = n.keep, under_way = n.under_way, given = n.given, longest = n.longest, passed = n.passed
FROM unnest(%(destinations)s::text[], %(free)s::bigint[], %(keep)s::bigint[], %(under_way)s::bigint[],
            %(given)s::bigint[], %(longest)s::bigint[], %(passed)s::bigint[])
     AS n (destination, free, keep, under_way, given, longest, passed)
WHERE rooms.destination = n.destination;

-- name: read_without_room
-- The destinations where something waits for room.
WITH RECURSIVE waiting AS (
    (SELECT destination FROM transfers WHERE state = 'PENDING' AND room_wanted IS NOT NULL ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT next.* FROM waiting w CROSS JOIN LATERAL (
        SELECT t.destination FROM transfers t
        WHERE t.state = 'PENDING' AND t.room_wanted IS NOT NULL AND t.destination > w.destination
        ORDER BY t.destination LIMIT 1) AS next
)
SELECT destination FROM waiting;

-- name: take_room_turn
-- One process at a time asks a destination for its room, again after the given seconds. A clock that was set back ends
-- the pause.
INSERT INTO rooms (destination) SELECT unnest(%(destinations)s::text[])
ON CONFLICT (destination) DO UPDATE SET asked_at = now()
    WHERE rooms.asked_at NOT BETWEEN now() - %(seconds)s * interval '1 second' AND now()
RETURNING destination;

-- name: read_waiting_for_room
-- prepared: destination text, limit integer
SELECT id, room_wanted, paused FROM transfers
WHERE destination = %(destination)s AND state = 'PENDING' AND room_wanted IS NOT NULL AND NOT cancelling
ORDER BY room_since, id LIMIT %(limit)s;

-- name: wake_for_room
-- Transfers that others have locked are left for the next time.
WITH found AS (
    SELECT id FROM transfers WHERE id = ANY (%(transfers)s) AND state = 'PENDING' AND room_wanted IS NOT NULL AND paused
    FOR UPDATE SKIP LOCKED
)
UPDATE transfers t SET paused = false, next_attempt_at = now() FROM found WHERE t.id = found.id;

-- name: wake_first_for_room
WITH found AS (
    SELECT id FROM transfers
    WHERE destination = %(destination)s AND state = 'PENDING' AND room_wanted IS NOT NULL AND paused
    ORDER BY room_since, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE transfers t SET paused = false, next_attempt_at = now() FROM found WHERE t.id = found.id RETURNING t.id;

-- name: read_rooms
SELECT destination, free FROM rooms WHERE free IS NOT NULL;

-- Notices ------------------------------------------------------------------------------------------------------

-- name: claim_notices
-- Each receiver's queue is read from its front, so that a receiver that is slow or away costs the others nothing. The
-- owners with the fewest notices under way go first, so that one with many such receivers costs other owners nothing.
-- The next attempt of a claimed notice is postponed; until then it belongs to the node that claimed it.
WITH RECURSIVE hosts AS (
    (SELECT host FROM notices WHERE state = 'DUE' ORDER BY host LIMIT 1)
    UNION ALL
    SELECT next.host FROM hosts h CROSS JOIN LATERAL (
        SELECT n.host FROM notices n WHERE n.state = 'DUE' AND n.host > h.host ORDER BY n.host LIMIT 1) AS next
), fronts AS (
    SELECT next.job, next.next_attempt_at, coalesce(o.active, 0)
           + row_number() OVER (PARTITION BY next.owner ORDER BY next.next_attempt_at, next.job) AS place
    FROM hosts h
    LEFT JOIN unnest(%(busy)s::text[], %(counts)s::integer[]) AS b (host, active) ON b.host = h.host
    CROSS JOIN LATERAL (
        SELECT n.job, n.owner, n.next_attempt_at FROM notices n
        WHERE n.state = 'DUE' AND n.host = h.host AND n.next_attempt_at <= now()
          AND n.job <> ALL (%(passed_over)s::integer[])
        ORDER BY n.next_attempt_at, n.job
        LIMIT greatest(0, %(per_host)s - coalesce(b.active, 0))) AS next
    LEFT JOIN unnest(%(owners)s::text[], %(owned)s::integer[]) AS o (owner, active) ON o.owner = next.owner
), chosen AS (
    SELECT job FROM fronts WHERE place <= %(per_owner)s ORDER BY place, next_attempt_at, job LIMIT %(room)s
), locked AS (
    SELECT n.job, n.lease FROM notices n JOIN chosen USING (job)
    WHERE n.state = 'DUE' AND n.next_attempt_at <= now()
      AND (%(only)s::integer[] IS NULL OR n.job = ANY (%(only)s::integer[]))
    FOR UPDATE OF n SKIP LOCKED
)
-- until here, as claim_notices.chosen: SELECT job AS id, lease FROM locked
UPDATE notices n
SET attempt = n.attempt + 1, lease = n.lease + 1, next_attempt_at = now() + %(lease)s * interval '1 second'
FROM locked WHERE n.job = locked.job
RETURNING n.job, n.id::text, n.owner, n.url, n.sealed, n.host, n.attempt, n.lease, n.payload;

-- name: deliver_notice
UPDATE notices SET state = 'DELIVERED', delivered_at = now(), error = NULL
WHERE job = %(job)s AND lease = %(lease)s AND state = 'DUE'
RETURNING job;

-- name: put_off_notice
UPDATE notices SET next_attempt_at = now() + %(pause)s * interval '1 second', error = %(error)s
WHERE job = %(job)s AND lease = %(lease)s AND state = 'DUE'
RETURNING next_attempt_at;

-- name: set_aside_notice
-- A notice that cannot be sent, or whose row cannot be changed further, is not sent until jobs.renotify.
UPDATE notices SET state = 'WAITING', error = %(error)s
WHERE job = %(job)s AND lease = %(lease)s AND state = 'DUE'
RETURNING job;

-- name: release_notices
-- The notices that a stopping engine has not sent, or whose answer it does not know.
UPDATE notices n SET next_attempt_at = now()
FROM unnest(%(jobs)s::integer[], %(leases)s::bigint[]) AS held (job, lease)
WHERE n.job = held.job AND n.lease = held.lease AND n.state = 'DUE';

-- name: renotify
UPDATE notices SET state = 'DUE', attempt = 0, lease = lease + 1, next_attempt_at = now(), delivered_at = NULL
WHERE job = %(job)s AND (state <> 'WAITING' OR error IS NOT NULL)
RETURNING job;

-- The audit trail --------------------------------------------------------------------------------------------------

-- name: insert_audit
INSERT INTO audit (at, who, origin, action, subject, outcome)
SELECT d.at, d.who, d.origin, d.action, d.subject, d.outcome
FROM ROWS FROM (jsonb_to_recordset(%(events)s) AS (at timestamptz, who text, origin text, action text, subject text,
                                                  outcome text)) WITH ORDINALITY
     AS d (at, who, origin, action, subject, outcome, position)
ORDER BY d.position;

-- name: read_audit_horizon
-- Like read_horizon, for the audit trail (audit_begin).
SELECT least(given.cursor, (
    SELECT min((classid::bigint << 32 | objid::bigint) - (25710::bigint << 48)) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = 25710
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND given.cursor IS NOT NULL)) AS cursor
FROM (SELECT coalesce(pg_sequence_last_value('audit_cursor_seq'::regclass), 0) AS cursor OFFSET 0) AS given;

-- name: read_audit
SELECT cursor, at, who, origin, action, subject, outcome FROM audit
WHERE cursor > %(after)s AND cursor <= %(horizon)s
ORDER BY cursor LIMIT %(limit)s;

-- name: read_newest_audit
SELECT cursor, at, who, origin, action, subject, outcome FROM audit
WHERE %(logins)s OR action <> 'login' ORDER BY cursor DESC LIMIT %(limit)s;

-- name: forget_audit
WITH found AS MATERIALIZED (
    SELECT cursor FROM audit WHERE at < now() - %(retention)s * interval '1 second' ORDER BY at LIMIT %(rows)s
), gone AS (
    DELETE FROM audit WHERE cursor = ANY (ARRAY(SELECT cursor FROM found))
)
SELECT count(*)::integer AS rows FROM found;

-- Figures ------------------------------------------------------------------------------------------------------

-- Monitored figures. None counts more than %(most)s rows, or reads rows that neither wait nor run.

-- name: limit_time
SET LOCAL statement_timeout = 4000;

-- name: figure_queue
-- The groups that wait for each destination, and the age of the oldest one, by the front of each lane.
WITH RECURSIVE lanes AS (
    (SELECT destination, owner, source_host FROM transfers
     WHERE state = 'PENDING' AND leader = index AND NOT paused
     ORDER BY destination, owner, source_host LIMIT 1)
    UNION ALL
    SELECT next.* FROM lanes l CROSS JOIN LATERAL (
        SELECT t.destination, t.owner, t.source_host FROM transfers t
        WHERE t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused
          AND (t.destination, t.owner, t.source_host) > (l.destination, l.owner, l.source_host)
        ORDER BY t.destination, t.owner, t.source_host LIMIT 1) AS next
), fronts AS (
    SELECT l.destination, min(front.job) AS job
    FROM (SELECT * FROM lanes LIMIT 1000) AS l CROSS JOIN generate_series(1, 5) AS p (priority) CROSS JOIN LATERAL (
        SELECT t.job FROM transfers t
        WHERE t.destination = l.destination AND t.owner = l.owner AND t.source_host = l.source_host
          AND t.priority = p.priority AND t.state = 'PENDING' AND t.leader = t.index AND NOT t.paused
        ORDER BY t.job LIMIT 1) AS front
    GROUP BY l.destination
)
SELECT f.destination, extract(epoch FROM now() - j.submitted_at)::double precision AS age,
       (SELECT count(*) FROM (SELECT FROM transfers t WHERE t.destination = f.destination AND t.state = 'PENDING'
            AND t.leader = t.index AND NOT t.paused LIMIT %(most)s) AS waiting)::integer AS pending
FROM fronts f JOIN jobs j ON j.id = f.job;

-- name: figure_rooms
-- The groups that wait for room at each destination, and the age of the oldest one; figure_queue leaves them out.
SELECT r.destination, w.groups,
       extract(epoch FROM now() - (SELECT submitted_at FROM jobs WHERE id = w.job))::double precision AS age
FROM rooms r CROSS JOIN LATERAL (
    SELECT count(*)::integer AS groups, min(job) AS job FROM (
        SELECT t.job FROM transfers t WHERE t.destination = r.destination AND t.state = 'PENDING'
        AND t.room_wanted IS NOT NULL AND t.paused LIMIT %(most)s) AS waiting) AS w
WHERE w.groups > 0;

-- name: figure_active
SELECT destination, state, count(*)::integer AS groups FROM transfers WHERE node IS NOT NULL GROUP BY destination, state;

-- name: figure_jobs
SELECT state, count(*)::integer AS jobs
FROM (SELECT state FROM jobs WHERE finished_at IS NULL LIMIT %(most)s) AS unfinished GROUP BY state;

-- name: figure_endpoints
-- Source endpoints count even if their breaker is open for one owner only.
SELECT name, bool_or(held) AS held, bool_or(closed) AS closed
FROM (SELECT name, held IS NOT NULL AS held, closed_until IS NOT NULL AS closed FROM sides
      UNION ALL SELECT side, false, true FROM breakers WHERE closed_until IS NOT NULL AND side NOT LIKE 'place %%') AS s
WHERE held OR closed GROUP BY name LIMIT %(most)s;

-- name: figure_nodes
SELECT roles, draining FROM nodes WHERE heartbeat_at > now() - %(lease)s * interval '1 second';

-- name: lock_installation
SELECT id::text, proof FROM installation FOR UPDATE;

-- name: prove_key
UPDATE installation SET proof = %(proof)s WHERE proof IS NULL;

-- name: find_relation
-- Any object that was made in this database.
SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\_toast%' LIMIT 1;

-- name: skip_numbers
SELECT setval('jobs_id_seq', least(last_value + 1000000, 2147483647)),
       setval('events_cursor_seq', (SELECT last_value + 1000000000 FROM events_cursor_seq)) FROM jobs_id_seq;

-- name: reseal_proof
UPDATE installation SET proof = %(proof)s;

-- name: read_sealed_transfers
SELECT id, source_sealed AS sealed FROM transfers
WHERE source_sealed IS NOT NULL AND id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: reseal_transfers
-- Skips rows that others have locked: the next pass reads them again.
WITH sealed AS (
    SELECT id, sealed FROM unnest(%(ids)s::bigint[], %(sealed)s::bytea[]) AS s (id, sealed)
), locked AS (
    SELECT t.id FROM transfers t JOIN sealed USING (id) FOR UPDATE OF t SKIP LOCKED
)
UPDATE transfers t SET source_sealed = s.sealed FROM sealed s JOIN locked USING (id) WHERE t.id = s.id;

-- name: read_sealed_notices
SELECT job AS id, sealed FROM notices WHERE sealed IS NOT NULL AND job > %(after)s ORDER BY job LIMIT %(limit)s;

-- name: reseal_notices
WITH fresh AS (
    SELECT job, sealed FROM unnest(%(ids)s::integer[], %(sealed)s::bytea[]) AS s (job, sealed)
), locked AS (
    SELECT n.job FROM notices n JOIN fresh USING (job) FOR UPDATE OF n SKIP LOCKED
)
UPDATE notices n SET sealed = f.sealed FROM fresh f JOIN locked USING (job) WHERE n.job = f.job;

-- name: notify
SELECT pg_notify('datamover', %(news)s);
