-- The statements of commands, and of what keeps jobs from their queue.

-- name: lock_jobs
-- In the order in which everybody locks them.
SELECT j.job_id
  FROM jobs.job j
 WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
 ORDER BY j.job_id FOR UPDATE;

-- name: read_locked_jobs
-- A statement of its own, after the locks: one that had to wait for a lock would see the job as it is, and the rows
-- beside it as they were before.
SELECT j.job_id, j.array_id, j.owner_id, j.status, j.minor_status, j.attempt, j.pilot_id,
       j.status = 'done' AND EXISTS (SELECT FROM jobs.output_file o WHERE o.job_id = j.job_id) AS has_outputs,
       j.status = 'checking' AND EXISTS (SELECT FROM jobs.dependency d WHERE d.array_id = j.array_id AND NOT d.fulfilled)
           AS has_open_dependency
  FROM jobs.job j
 WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
 ORDER BY j.job_id;

-- name: list_arrays
-- Arrays by id and by set.
SELECT a.array_id, a.first_job_id, a.size
  FROM jobs.job_array a
 WHERE a.vo_id = %(vo_id)s::integer
   AND (a.array_id = ANY (%(array_ids)s::bigint[])
        OR (a.job_group <> '' AND a.job_group = ANY (%(job_groups)s::text[])))
 ORDER BY a.array_id;

-- name: change_jobs
-- Every command, and every step out of `checking`: from the states given to one other, through steps that each have a
-- history line. The rows were locked by an earlier statement, so what is read here is what is true. Leases are taken in
-- the order of heartbeats.
WITH held AS MATERIALIZED (
    SELECT job_id, ce_id, cores, matched_at, pilot_id FROM jobs.running
     WHERE job_id = ANY (%(job_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer
     ORDER BY job_id FOR UPDATE
), old AS MATERIALIZED (
    SELECT j.job_id, j.array_id, j.task_queue_id, j.priority, j.status, coalesce(j.ce_id, 0) AS ce_id,
           r.ce_id AS held_ce_id, r.cores, r.matched_at, r.pilot_id
      FROM jobs.job j
      LEFT JOIN held r ON r.job_id = j.job_id
     WHERE j.job_id = ANY (%(job_ids)s::bigint[]) AND j.vo_id = %(vo_id)s::integer
       AND j.status = ANY (%(sources)s::jobs.job_status[])
       FOR UPDATE OF j
), job AS (
    UPDATE jobs.job SET status = %(status)s::jobs.job_status, minor_status = %(minor_status)s::text,
           ended_at = CASE WHEN %(final)s::boolean THEN coalesce(job.ended_at, now()) END, updated_at = now(),
           ce_id = CASE WHEN %(final)s::boolean THEN job.ce_id END,
           site_id = CASE WHEN %(final)s::boolean THEN job.site_id END,
           retried = CASE WHEN %(anew)s::boolean THEN NULL ELSE job.retried END
      FROM old WHERE job.job_id = old.job_id
    RETURNING job.job_id, old.array_id, old.task_queue_id, old.priority, old.status AS old_status, old.ce_id AS old_ce_id,
              old.held_ce_id, old.cores, old.matched_at, old.pilot_id, coalesce(job.ce_id, 0) AS ce_id, job.attempt,
              job.owner_id, job.group_id, job.started_at, job.cpu_s, job.max_rss_bytes
), unqueued AS (
    DELETE FROM jobs.waiting USING old
     WHERE old.status = 'waiting' AND waiting.task_queue_id = old.task_queue_id
       AND waiting.priority = 9 - old.priority AND waiting.job_id = old.job_id
), lease AS (
    DELETE FROM jobs.running USING old WHERE old.held_ce_id IS NOT NULL AND running.job_id = old.job_id
), undelayed AS (
    DELETE FROM jobs.delayed USING old WHERE old.status = 'checking' AND delayed.job_id = old.job_id
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id)
    SELECT task_queue_id, 9 - priority, job_id FROM job WHERE %(status)s::jobs.job_status = 'waiting' ORDER BY 1, 2, 3
), record AS (
    INSERT INTO jobs.ended_attempt (job_id, attempt, vo_id, owner_id, group_id, ce_id, pilot_id, status, cores, matched_at,
                                    started_at, cpu_s, wall_s, max_rss_bytes)
    SELECT job_id, attempt, %(vo_id)s::integer, owner_id, group_id, held_ce_id, pilot_id,
           %(attempt_status)s::jobs.job_status, cores, matched_at, started_at, coalesce(cpu_s, 0),
           coalesce(extract(epoch FROM now() - started_at), 0), max_rss_bytes
      FROM job WHERE held_ce_id IS NOT NULL
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT job.task_queue_id, change.ce_id, change.status, sum(change.jobs), sum(change.cores)
      FROM job CROSS JOIN LATERAL (VALUES
            (job.old_ce_id, job.old_status, -1, -coalesce(job.cores, 0)::integer),
            (job.ce_id, %(status)s::jobs.job_status, 1, 0)
           ) AS change (ce_id, status, jobs, cores)
     GROUP BY 1, 2, 3
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, at, attempt, status, minor_status, source, reason)
    SELECT job.job_id, %(vo_id)s::integer, clock_timestamp() + step.n * interval '1 microsecond', job.attempt, step.status,
           step.minor_status, %(source)s::text, step.reason
      FROM job CROSS JOIN unnest(%(step_statuses)s::jobs.job_status[], %(step_minors)s::text[], %(step_reasons)s::text[])
           WITH ORDINALITY AS step (status, minor_status, reason, n)
     ORDER BY job.job_id, step.n
)
SELECT job_id, array_id FROM job ORDER BY job_id;

-- name: prioritise_jobs
-- From any state; a job that waits changes its place at once.
WITH old AS MATERIALIZED (
    SELECT job_id, task_queue_id, priority, status, attempt FROM jobs.job
     WHERE job_id = ANY (%(job_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer AND status <> ALL (%(final)s::jobs.job_status[])
       FOR UPDATE
), job AS (
    UPDATE jobs.job SET priority = %(priority)s::smallint, updated_at = now() FROM old WHERE job.job_id = old.job_id
    RETURNING job.job_id, job.array_id
), moved AS (
    UPDATE jobs.waiting SET priority = 9 - %(priority)s::smallint FROM old
     WHERE old.status = 'waiting' AND waiting.task_queue_id = old.task_queue_id
       AND waiting.priority = 9 - old.priority AND waiting.job_id = old.job_id
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source, reason)
    SELECT job_id, %(vo_id)s::integer, attempt, status,
           'priority ' || priority || ' -> ' || %(priority)s::smallint, %(source)s::text, %(reason)s::text
      FROM old ORDER BY job_id
)
SELECT job_id, array_id FROM job ORDER BY job_id;

-- name: lock_due_jobs
-- every VO: a pause is over for everybody alike.
-- The pauses come first: few are over, and jobs are many.
WITH over AS MATERIALIZED (
    SELECT job_id FROM jobs.delayed WHERE until <= now() ORDER BY until LIMIT %(limit)s::integer
)
SELECT j.job_id, j.array_id, j.vo_id, j.pilot_id
  FROM over JOIN jobs.job j USING (job_id)
 WHERE j.status = 'checking'
 ORDER BY j.job_id LIMIT %(limit)s::integer FOR UPDATE OF j SKIP LOCKED;

-- name: lock_late_jobs
-- every VO: time passes for everybody alike.
-- Jobs that have not started, and whose deadline is over. The arrays come first: few have one, and jobs are many. (As a
-- plain join, the planner would go through all jobs in their order.)
WITH due AS MATERIALIZED (
    SELECT first_job_id, size FROM jobs.job_array WHERE deadline_at IS NOT NULL AND deadline_at <= now()
     ORDER BY first_job_id
)
SELECT late.job_id, late.array_id, late.vo_id, late.pilot_id
  FROM due
 CROSS JOIN LATERAL (
    SELECT j.job_id, j.array_id, j.vo_id, j.pilot_id FROM jobs.job j
     WHERE j.job_id BETWEEN due.first_job_id AND due.first_job_id + due.size - 1
       AND j.status IN ('waiting', 'checking', 'matched')
     ORDER BY j.job_id LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
 ) late
 LIMIT %(limit)s::integer;

-- name: forget_deadlines
-- every VO: time passes for everybody alike.
-- So that ended arrays are not looked at again and again.
UPDATE jobs.job_array a SET deadline_at = NULL
 WHERE a.deadline_at <= now() - interval '1 minute'
   AND NOT EXISTS (SELECT FROM jobs.job j WHERE j.job_id BETWEEN a.first_job_id AND a.first_job_id + a.size - 1
                      AND j.status IN ('waiting', 'checking', 'matched'));

-- name: lock_open_dependencies
-- every VO: the chore looks at all of them.
SELECT d.array_id, d.first_job_id, d.last_job_id, d.condition, d.each, d.vo_id, d.open_from,
       a.first_job_id AS own_first, a.size
  FROM jobs.dependency d JOIN jobs.job_array a USING (array_id)
 WHERE NOT d.fulfilled
 ORDER BY d.array_id, d.first_job_id FOR UPDATE OF d SKIP LOCKED;

-- name: find_first_open
-- The first of these jobs that has not come to its end, or has ended otherwise than wished for.
SELECT job_id, status
  FROM jobs.job
 WHERE job_id BETWEEN %(first)s::bigint AND %(last)s::bigint AND vo_id = %(vo_id)s::integer
   AND status <> ALL (%(wished)s::jobs.job_status[])
 ORDER BY job_id LIMIT 1;

-- name: list_ended_among
-- Which of these jobs have ended, each with its state.
SELECT job_id, status
  FROM jobs.job
 WHERE job_id BETWEEN %(first)s::bigint AND %(last)s::bigint AND vo_id = %(vo_id)s::integer
   AND status IN ('done', 'failed', 'killed', 'deleted')
 ORDER BY job_id;

-- name: set_dependency
UPDATE jobs.dependency SET open_from = %(open_from)s::bigint, fulfilled = %(fulfilled)s::boolean
 WHERE array_id = %(array_id)s::bigint AND first_job_id = %(first_job_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: count_open_dependencies
SELECT count(*) FROM jobs.dependency
 WHERE array_id = %(array_id)s::bigint AND vo_id = %(vo_id)s::integer AND NOT fulfilled;

-- name: lock_dependents
-- Jobs of an array that wait for others; those that are held stay.
SELECT j.job_id, j.array_id, j.vo_id, j.pilot_id
  FROM jobs.job j
 WHERE j.job_id BETWEEN %(first)s::bigint AND %(last)s::bigint AND j.vo_id = %(vo_id)s::integer
   AND j.status = 'checking' AND j.minor_status = %(minor_status)s::text
 ORDER BY j.job_id LIMIT %(limit)s::integer FOR UPDATE;

-- name: list_undue_notifications
-- every VO: the chore looks at all of them.
SELECT n.notification_id, n.vo_id, n.condition, a.first_job_id, a.first_job_id + a.size - 1 AS last_job_id
  FROM jobs.notification n JOIN jobs.job_array a USING (array_id)
 WHERE n.sent_at IS NULL AND n.due_at IS NULL
 ORDER BY n.notification_id LIMIT %(limit)s::integer;

-- name: set_due
-- every VO: chosen by the statement above.
UPDATE jobs.notification SET due_at = now() WHERE notification_id = ANY (%(notification_ids)s::bigint[]) AND due_at IS NULL;

-- name: drop_impossible
-- every VO: chosen by the statement above; its condition can never come true.
DELETE FROM jobs.notification WHERE notification_id = ANY (%(notification_ids)s::bigint[]) AND due_at IS NULL;

-- name: lock_due_notifications
-- every VO: the chore sends for all of them.
SELECT n.notification_id, n.vo_id, v.name AS vo, n.array_id, a.name, a.size, a.first_job_id, n.condition, n.email,
       n.webhook, n.tries
  FROM jobs.notification n
  JOIN jobs.job_array a USING (array_id)
  JOIN identity.vo v ON v.vo_id = n.vo_id
 WHERE n.sent_at IS NULL AND n.due_at <= now()
 ORDER BY n.due_at LIMIT %(limit)s::integer FOR UPDATE OF n SKIP LOCKED;

-- name: note_sent
-- every VO: chosen and locked by the statement above.
UPDATE jobs.notification SET sent_at = now(), error = '' WHERE notification_id = %(notification_id)s::bigint;

-- name: note_not_sent
-- every VO: chosen and locked by the statement above.
-- Tried again after a growing pause; given up after a day.
UPDATE jobs.notification
   SET tries = tries + 1, error = %(error)s::text,
       due_at = now() + make_interval(secs => least(3600, 10 * 2 ^ least(tries, 10))::integer),
       sent_at = CASE WHEN tries >= 30 THEN now() END
 WHERE notification_id = %(notification_id)s::bigint;

-- name: end_storage_pauses
-- every VO: a chore serves all of them. A storage element that has come back in the last minute ends the pauses that were
-- begun before.
UPDATE jobs.delayed d SET until = now()
  FROM (SELECT max(since) AS at FROM resources.element_status
         WHERE kind = 'se' AND status IN ('active', 'degraded')) back,
       jobs.job j
 WHERE back.at > now() - interval '1 minute' AND d.until > now() AND j.job_id = d.job_id
   AND j.minor_status = %(minor_status)s::text AND j.updated_at < back.at
RETURNING d.job_id;
