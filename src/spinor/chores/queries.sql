-- The tables queue and log belong to the task-queue library (see schema.sql); ticks and failing are our own.

-- name: start_chore
-- every VO: chores are the service's own work.
-- A chore that starts gives up its dedupe key, so that a change made from now on can ask for another run. The answer is
-- how many workers took this attempt before, each of which must have died with it.
UPDATE chores.queue SET dedupe_key = NULL WHERE id = %(id)s::bigint
RETURNING (
    SELECT count(*) - 1 FROM chores.log AS taken
    WHERE taken.job_id = %(id)s::bigint AND taken.status = 'picked'
      AND taken.id > (SELECT coalesce(max(id), 0) FROM chores.log WHERE job_id = %(id)s::bigint AND status = 'queued')
);

-- name: take_due_ticks
-- every VO: chores are the service's own work.
-- The rows are locked in order of name, so that two workers cannot wait for each other.
INSERT INTO chores.ticks AS ticks (name, every_s, due_at)
SELECT name, every_s, to_timestamp((floor(extract(epoch FROM now())::double precision / every_s) + 1) * every_s)
FROM unnest(%(names)s::text[], %(every_s)s::double precision[]) AS periodic (name, every_s)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET every_s = excluded.every_s, due_at = excluded.due_at
WHERE ticks.due_at <= now() OR ticks.every_s <> excluded.every_s
RETURNING name;

-- name: next_tick_in_s
-- every VO: chores are the service's own work.
SELECT greatest(extract(epoch FROM min(due_at) - clock_timestamp()), 0)::double precision
FROM chores.ticks WHERE name = ANY(%(names)s::text[]);

-- name: forget_failed_ticks
-- every VO: chores are the service's own work.
DELETE FROM chores.queue
WHERE entrypoint = %(name)s::text AND status = 'failed' AND headers ? 'tick' AND id < %(id)s::bigint;

-- name: take_lead
-- every VO: chores are the service's own work.
-- Whether this session leads. The lock ends with the session, whatever ends that.
SELECT pg_try_advisory_lock(7353, 0);

-- name: beat
-- every VO: chores are the service's own work.
SELECT 1;

-- name: depose_silent_leader
-- every VO: chores are the service's own work.
-- A leader's session speaks with every beat; PostgreSQL notes the time.
SELECT pg_terminate_backend(pid)
  FROM pg_locks JOIN pg_stat_activity USING (pid)
 WHERE locktype = 'advisory' AND classid = 7353 AND objid = 0 AND objsubid = 2 AND granted
   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND state_change < clock_timestamp() - make_interval(secs => %(silence_s)s::double precision);

-- name: note_failing_chore
-- every VO: chores are the service's own work.
INSERT INTO chores.failing AS failing (name, error) VALUES (%(name)s::text, %(error)s::text)
ON CONFLICT (name) DO UPDATE
SET failed_at = excluded.failed_at, failures = failing.failures + 1, error = excluded.error;

-- name: forget_failing_chore
-- every VO: chores are the service's own work.
DELETE FROM chores.failing WHERE name = %(name)s::text;

-- name: forget_failing
-- every VO: chores are the service's own work.
DELETE FROM chores.failing;

-- name: trim_log
-- every VO: chores are the service's own work.
DELETE FROM chores.log WHERE created < now() - interval '1 day'
AND job_id NOT IN (SELECT id FROM chores.queue);

-- name: count_chores
-- every VO: chores are the service's own work.
SELECT entrypoint AS name,
       CASE status WHEN 'queued' THEN 'waiting' WHEN 'picked' THEN 'running' ELSE 'failed' END AS state,
       count(*) AS count, min(created) AS oldest_at
FROM chores.queue GROUP BY entrypoint, status ORDER BY entrypoint, status;

-- name: failed_chores
-- every VO: chores are the service's own work.
SELECT queue.id, queue.entrypoint AS name, queue.attempts + 1 AS attempts, queue.created AS enqueued_at,
       queue.updated AS failed_at,
       coalesce((
           SELECT concat_ws(': ', log.traceback ->> 'exception_type', log.traceback ->> 'exception_message')
           FROM chores.log AS log WHERE log.job_id = queue.id AND log.status = 'failed' ORDER BY log.id DESC LIMIT 1
       ), 'unknown') AS error
FROM chores.queue AS queue WHERE queue.status = 'failed' ORDER BY queue.id DESC LIMIT %(limit)s::integer;

-- name: failing_chores
-- every VO: chores are the service's own work.
SELECT name, failures, since, failed_at, error FROM chores.failing ORDER BY name;

-- name: forget_failed_chores
-- every VO: chores are the service's own work.
DELETE FROM chores.queue WHERE id = ANY(%(ids)s::bigint[]) AND status = 'failed' RETURNING id;
