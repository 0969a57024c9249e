-- The statements of an attempt's life. Whoever changes a job by its id takes the job's row first, and then its rows in
-- waiting and running. Every statement that ends an attempt writes its accounting record.

-- name: start_jobs
-- The payloads run. The caller has locked their jobs.
WITH job AS (
    UPDATE jobs.job SET status = 'running', minor_status = 'application', started_at = now(), updated_at = now()
      FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[]) AS told (job_id, attempt)
     WHERE job.job_id = told.job_id AND job.attempt = told.attempt AND job.vo_id = %(vo_id)s::integer
       AND job.pilot_id = %(pilot_id)s::bigint AND job.status = 'matched'
    RETURNING job.job_id, job.attempt, job.task_queue_id, job.ce_id
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source)
    SELECT job_id, %(vo_id)s::integer, attempt, 'running', 'application', %(source)s::text FROM job
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT job.task_queue_id, job.ce_id, change.status, sum(change.sign), sum(change.sign * r.cores)
      FROM job
      JOIN jobs.running r ON r.job_id = job.job_id
     CROSS JOIN (VALUES ('matched'::jobs.job_status, -1), ('running', 1)) AS change (status, sign)
     GROUP BY 1, 2, 3
)
SELECT job_id FROM job;

-- name: find_attempt
-- A job with its newest attempt.
SELECT job_id, array_id, array_index, owner_id, group_id, status, attempt, pilot_id, minor_status
  FROM jobs.job WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: lock_held_jobs
-- The jobs whose attempts the pilot reports on, held until the transaction ends; in order of their ids.
SELECT j.job_id, j.array_id, j.array_index, j.owner_id, j.group_id, j.attempt, j.status,
       (p.elements -> (j.array_index %% 100))::text AS parameters, a.spec, j.retried, j.task_queue_id
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[]) AS told (job_id, attempt)
  JOIN jobs.job j USING (job_id)
  JOIN jobs.job_array a USING (array_id)
  LEFT JOIN jobs.array_parameters p ON p.array_id = j.array_id AND p.block = j.array_index / 100
 WHERE j.attempt = told.attempt AND j.vo_id = %(vo_id)s::integer AND j.pilot_id = %(pilot_id)s::bigint
   AND j.status = ANY (%(held)s::jobs.job_status[])
 ORDER BY j.job_id FOR UPDATE OF j;

-- name: list_reported
-- How this pilot itself ended these attempts: its second report of the same end is harmless.
SELECT e.job_id, e.attempt, e.status
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[]) AS told (job_id, attempt)
  JOIN jobs.ended_attempt e USING (job_id, attempt)
 WHERE e.vo_id = %(vo_id)s::integer AND e.pilot_id = %(pilot_id)s::bigint AND e.reported;

-- name: renew_leases
-- every VO: pilots of several are answered together; each renews its own only.
-- Rows are locked in order of their ids. The answer has those that could not be renewed.
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(pilot_ids)s::bigint[], %(vo_ids)s::integer[])
        AS h (job_id, attempt, pilot_id, vo_id)
), held AS MATERIALIZED (
    SELECT r.job_id, r.attempt, r.pilot_id FROM jobs.running r
      JOIN given h ON h.job_id = r.job_id AND h.attempt = r.attempt AND h.pilot_id = r.pilot_id AND h.vo_id = r.vo_id
     ORDER BY r.job_id FOR UPDATE OF r
), renewed AS (
    UPDATE jobs.running r SET lease_expires_at = now() + make_interval(secs => %(lease_s)s::integer)
      FROM held WHERE r.job_id = held.job_id
)
SELECT h.job_id, h.attempt, h.pilot_id, job.status, job.attempt AS newest_attempt, job.minor_status
  FROM given h LEFT JOIN jobs.job ON job.job_id = h.job_id AND job.vo_id = h.vo_id
 WHERE NOT EXISTS (SELECT FROM held WHERE (held.job_id, held.attempt, held.pilot_id) = (h.job_id, h.attempt, h.pilot_id))
 ORDER BY h.job_id, h.attempt;

-- name: extend_leases
-- every VO: the service was away, and no pilot could renew.
UPDATE jobs.running SET lease_expires_at = now() + make_interval(secs => %(lease_s)s::integer)
 WHERE lease_expires_at < now() + make_interval(secs => %(lease_s)s::integer);

-- name: record_usage
-- every VO: pilots of several are answered together; each tells of its own only.
-- What running payloads have used so far, written once a minute per job at most: it is for people, not for accounting.
-- The transaction holds leases already, and whoever ends an attempt takes the job before its lease: jobs that somebody
-- changes now are left to the next heartbeat, so that neither waits for the other. A row that is locked stays in its
-- place, where it is found without the index.
WITH due AS MATERIALIZED (
    SELECT job.ctid AS place, u.cpu_s, u.wall_s, u.max_rss_bytes
      FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(pilot_ids)s::bigint[], %(vo_ids)s::integer[],
                  %(cpu_s)s::double precision[], %(wall_s)s::double precision[], %(max_rss_bytes)s::bigint[])
           AS u (job_id, attempt, pilot_id, vo_id, cpu_s, wall_s, max_rss_bytes)
      JOIN jobs.job ON job.job_id = u.job_id AND job.attempt = u.attempt AND job.vo_id = u.vo_id
       AND job.pilot_id = u.pilot_id AND job.status IN ('running', 'completing')
       AND job.updated_at < now() - interval '60 seconds'
       FOR NO KEY UPDATE OF job SKIP LOCKED
)
UPDATE jobs.job SET cpu_s = due.cpu_s, wall_s = due.wall_s, max_rss_bytes = due.max_rss_bytes, updated_at = now()
  FROM due WHERE job.ctid = due.place;

-- name: end_jobs
-- The ends of attempts as their pilot reports them, with what they left behind. `next_status` differs from `status` when
-- the job is tried again: it then pauses as checking, maybe in the queue of other requirements.
WITH told AS MATERIALIZED (
    SELECT *, retries IS NOT NULL AS again
      FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(old_statuses)s::jobs.job_status[],
                  %(old_queue_ids)s::integer[], %(statuses)s::jobs.job_status[], %(next_statuses)s::jobs.job_status[],
                  %(next_minor_statuses)s::text[], %(next_queue_ids)s::integer[], %(retries)s::text[],
                  %(delays_s)s::integer[], %(error_classes)s::jobs.error_class[], %(exit_codes)s::integer[],
                  %(cpu_s)s::double precision[], %(wall_s)s::double precision[], %(max_rss_bytes)s::bigint[],
                  %(sandbox_ids)s::bigint[], %(missing)s::text[])
           AS t (job_id, attempt, old_status, old_queue_id, status, next_status, next_minor_status, next_queue_id,
                 retries, delay_s, error_class, exit_code, cpu_s, wall_s, max_rss_bytes, sandbox_id, missing)
), lease AS (
    DELETE FROM jobs.running r USING told
     WHERE r.job_id = told.job_id AND r.attempt = told.attempt AND r.vo_id = %(vo_id)s::integer
    RETURNING r.job_id, r.ce_id, r.cores, r.matched_at, r.pilot_id
), job AS (
    UPDATE jobs.job SET status = told.next_status, minor_status = told.next_minor_status,
           task_queue_id = told.next_queue_id, exit_code = told.exit_code,
           ended_at = CASE WHEN NOT told.again THEN now() END, updated_at = now(),
           cpu_s = coalesce(told.cpu_s, job.cpu_s), wall_s = coalesce(told.wall_s, job.wall_s),
           max_rss_bytes = coalesce(told.max_rss_bytes, job.max_rss_bytes),
           retried = coalesce(told.retries::smallint[], job.retried),
           reschedules = job.reschedules + CASE WHEN told.again THEN 1 ELSE 0 END,
           ce_id = CASE WHEN NOT told.again THEN job.ce_id END,
           site_id = CASE WHEN NOT told.again THEN job.site_id END
      FROM lease JOIN told USING (job_id)
     WHERE job.job_id = lease.job_id AND job.vo_id = %(vo_id)s::integer AND job.attempt = told.attempt
       AND job.status = told.old_status
    RETURNING job.job_id, job.array_id, job.attempt, job.owner_id, job.group_id, job.started_at, job.cpu_s, job.wall_s,
              job.max_rss_bytes, lease.ce_id, lease.cores, lease.matched_at, lease.pilot_id, told.again, told.status,
              told.error_class, told.exit_code, told.delay_s, told.old_status, told.old_queue_id, told.next_status,
              told.next_queue_id, told.sandbox_id, told.missing
), record AS (
    INSERT INTO jobs.ended_attempt (job_id, attempt, vo_id, owner_id, group_id, ce_id, pilot_id, status, error_class,
                                    exit_code, cores, matched_at, started_at, cpu_s, wall_s, max_rss_bytes, reported)
    SELECT job_id, attempt, %(vo_id)s::integer, owner_id, group_id, ce_id, pilot_id, status, error_class, exit_code, cores,
           matched_at, started_at, coalesce(cpu_s, 0), coalesce(wall_s, 0), max_rss_bytes, true
      FROM job
), paused AS (
    INSERT INTO jobs.delayed (job_id, until)
    SELECT job_id, now() + make_interval(secs => delay_s) FROM job WHERE again
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, at, attempt, status, minor_status, source, reason)
    SELECT job.job_id, %(vo_id)s::integer, clock_timestamp() + step.n * interval '1 microsecond', job.attempt, step.status,
           step.minor_status, %(source)s::text, step.reason
      FROM job
      JOIN unnest(%(step_job_ids)s::bigint[], %(step_statuses)s::jobs.job_status[], %(step_minors)s::text[],
                  %(step_reasons)s::text[]) WITH ORDINALITY AS step (job_id, status, minor_status, reason, n) USING (job_id)
     ORDER BY step.n
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT change.task_queue_id, change.ce_id, change.status, sum(change.jobs), sum(change.cores)
      FROM job CROSS JOIN LATERAL (VALUES
            (job.old_queue_id, job.ce_id, job.old_status, -1, -job.cores::integer),
            (job.next_queue_id, CASE WHEN job.again THEN 0 ELSE job.ce_id END, job.next_status, 1, 0)
           ) AS change (task_queue_id, ce_id, status, jobs, cores)
     GROUP BY 1, 2, 3
), sandbox AS (
    INSERT INTO jobs.output_sandbox (job_id, attempt, vo_id, sandbox_id, missing)
    SELECT job.job_id, job.attempt, %(vo_id)s::integer, s.sandbox_id,
           ARRAY(SELECT jsonb_array_elements_text(job.missing::jsonb))
      FROM job JOIN jobs.sandbox s
        ON s.sandbox_id = job.sandbox_id AND s.vo_id = %(vo_id)s::integer AND s.owner_id = job.owner_id
    ON CONFLICT (job_id, attempt) DO NOTHING
), output AS (
    INSERT INTO jobs.output_file (job_id, vo_id, lfn)
    SELECT job.job_id, %(vo_id)s::integer, file.lfn
      FROM job JOIN unnest(%(lfn_job_ids)s::bigint[], %(lfns)s::text[]) AS file (job_id, lfn) USING (job_id)
    ON CONFLICT DO NOTHING
)
SELECT job_id, array_id FROM job;

-- name: lock_expired_jobs
-- every VO: a lease is over for everybody alike.
-- The leases come first, as they lie: few are over, and jobs are many. (In any order, the planner would take the index,
-- and look for every row that is dead.)
WITH over AS MATERIALIZED (
    SELECT job_id FROM jobs.running WHERE lease_expires_at < %(now)s::timestamptz LIMIT %(limit)s::integer
)
SELECT j.job_id FROM over JOIN jobs.job j USING (job_id) ORDER BY j.job_id FOR UPDATE OF j SKIP LOCKED;

-- name: is_expiring_due
-- every VO: a lease is over for everybody alike.
SELECT coalesce((SELECT rest_until <= clock_timestamp() FROM jobs.service_mark), true);

-- name: rest_from_expiring
-- every VO: a lease is over for everybody alike.
-- While somebody holds an old snapshot, every lease that was given back since is looked at in vain.
UPDATE jobs.service_mark
   SET rest_until = clock_timestamp() + least(interval '20 s', 19 * (clock_timestamp() - transaction_timestamp()))
 WHERE clock_timestamp() - transaction_timestamp() > interval '100 ms';

-- name: lock_jobs_of_pilot
-- every VO: a pilot serves one VO, and the verb is called for pilots only.
SELECT j.job_id
  FROM jobs.running r JOIN jobs.job j ON j.job_id = r.job_id
 WHERE r.pilot_id = %(pilot_id)s::bigint
 ORDER BY j.job_id FOR UPDATE OF j;

-- name: list_unbegun
-- Jobs of a pilot that it has not begun; an earlier statement has locked them.
SELECT j.job_id
  FROM jobs.job j
 WHERE j.job_id = ANY (%(job_ids)s::bigint[]) AND j.vo_id = %(vo_id)s::integer AND j.pilot_id = %(pilot_id)s::bigint
   AND j.status = 'matched'
   AND (SELECT count(*) FROM jobs.ended_attempt e WHERE e.job_id = j.job_id AND e.status = 'rescheduled')
       < %(most)s::integer
 ORDER BY j.job_id;

-- name: release_jobs
-- every VO: the jobs were chosen and locked by one of the two statements above.
-- From a lost pilot to the queue again, or to failed when that happened too often: each step has its own history row.
-- A lost pilot counts as an error of the site, the first class of `retried`.
WITH lost AS MATERIALIZED (
    SELECT j.job_id, j.status AS old_status, j.task_queue_id,
           coalesce(j.retried[1], 0) < a.retries[1] AS again,
           r.ce_id, r.cores, r.matched_at, r.pilot_id
      FROM jobs.running r
      JOIN jobs.job j ON j.job_id = r.job_id
      JOIN jobs.job_array a USING (array_id)
     WHERE r.job_id = ANY (%(job_ids)s::bigint[]) AND j.status = ANY (%(sources)s::jobs.job_status[])
       AND (%(before)s::timestamptz IS NULL OR r.lease_expires_at < %(before)s::timestamptz)
       -- While its row was waited for, a job may have ended and gone to another pilot.
       AND (%(pilot_id)s::bigint IS NULL OR r.pilot_id = %(pilot_id)s::bigint)
     ORDER BY r.job_id FOR UPDATE OF r
), lease AS (
    DELETE FROM jobs.running USING lost WHERE running.job_id = lost.job_id
), job AS (
    UPDATE jobs.job SET
           status = CASE WHEN lost.again THEN 'waiting' ELSE 'failed' END::jobs.job_status,
           minor_status = CASE WHEN lost.again THEN 'rescheduled' ELSE 'too many reschedules' END,
           reschedules = job.reschedules + CASE WHEN lost.again THEN 1 ELSE 0 END,
           retried = CASE WHEN lost.again
                          THEN ARRAY[coalesce(job.retried[1], 0) + 1, coalesce(job.retried[2], 0),
                                     coalesce(job.retried[3], 0), coalesce(job.retried[4], 0),
                                     coalesce(job.retried[5], 0)]::smallint[]
                          ELSE job.retried END,
           ce_id = CASE WHEN NOT lost.again THEN job.ce_id END,
           site_id = CASE WHEN NOT lost.again THEN job.site_id END,
           ended_at = CASE WHEN NOT lost.again THEN now() END,
           updated_at = now()
      FROM lost
     WHERE job.job_id = lost.job_id
    RETURNING job.job_id, job.array_id, job.vo_id, job.owner_id, job.group_id, job.attempt, job.status, job.retried,
              job.task_queue_id, job.priority, job.started_at, job.cpu_s, job.max_rss_bytes, lost.again, lost.old_status,
              lost.ce_id, lost.cores, lost.matched_at, lost.pilot_id
), record AS (
    INSERT INTO jobs.ended_attempt (job_id, attempt, vo_id, owner_id, group_id, ce_id, pilot_id, status, error_class, cores,
                                    matched_at, started_at, cpu_s, wall_s, max_rss_bytes)
    SELECT job_id, attempt, vo_id, owner_id, group_id, ce_id, pilot_id, 'stalled', 'site', cores, matched_at, started_at,
           coalesce(cpu_s, 0), coalesce(extract(epoch FROM now() - started_at), 0), max_rss_bytes
      FROM job
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id)
    SELECT task_queue_id, 9 - priority, job_id FROM job WHERE again
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT job.task_queue_id, change.ce_id, change.status, sum(change.jobs), sum(change.cores)
      FROM job CROSS JOIN LATERAL (VALUES
            (job.ce_id, job.old_status, -1, -job.cores::integer),
            (CASE WHEN job.again THEN 0 ELSE job.ce_id END, job.status, 1, 0)
           ) AS change (ce_id, status, jobs, cores)
     GROUP BY 1, 2, 3
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, at, attempt, status, minor_status, source, reason)
    SELECT job.job_id, job.vo_id, clock_timestamp() + step.n * interval '1 microsecond', job.attempt, step.status,
           step.minor_status, %(source)s::text, step.reason
      FROM job CROSS JOIN LATERAL (VALUES
            (0, 'stalled'::jobs.job_status, 'pilot lost', %(reason)s::text, true),
            (1, 'rescheduled', 'pilot lost', 'reschedule number ' || job.retried[1], job.again),
            (2, 'waiting', 'rescheduled', '', job.again),
            (1, 'failed', 'too many reschedules', 'its pilots were lost ' || coalesce(job.retried[1], 0) + 1 || ' times',
             NOT job.again)
           ) AS step (n, status, minor_status, reason, applies)
     WHERE step.applies
     ORDER BY job.job_id, step.n
)
SELECT job_id, array_id, status FROM job ORDER BY job_id;

-- name: find_payload
-- every VO: the VO is the one that the verified token names.
-- Whose payload an attempt is, as long as its pilot holds it.
SELECT j.job_id, r.attempt, j.vo_id, j.owner_id, j.group_id
  FROM jobs.running r JOIN jobs.job j ON j.job_id = r.job_id JOIN identity.vo v ON v.vo_id = j.vo_id
 WHERE r.job_id = %(job_id)s::bigint AND r.attempt = %(attempt)s::integer AND v.name = %(vo)s::text;

-- name: note_progress
-- What the payload says of itself, as long as its pilot holds the attempt.
UPDATE jobs.job SET application_status = %(text)s::text, updated_at = now()
 WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer
   AND EXISTS (SELECT FROM jobs.running r WHERE r.job_id = job.job_id AND r.attempt = %(attempt)s::integer);

-- name: lock_suspended_jobs
-- every VO: a ban holds in all of them.
-- What runs for owners who were suspended. The counters are asked only when anybody is, the leases only when the counters
-- tell that something of theirs runs, and they come before the jobs.
WITH banned AS MATERIALIZED (
    SELECT user_id FROM identity.suspension WHERE lifted_at IS NULL
), suspended AS MATERIALIZED (
    SELECT q.owner_id, q.vo_id
      FROM jobs.tally_part t JOIN jobs.task_queue q USING (task_queue_id)
     WHERE EXISTS (SELECT FROM banned) AND t.status IN ('matched', 'running', 'completing')
       AND q.owner_id IN (SELECT user_id FROM banned)
     GROUP BY q.owner_id, q.vo_id HAVING sum(t.jobs) > 0 AND identity.is_suspended(q.owner_id, q.vo_id)
), held AS MATERIALIZED (
    SELECT r.job_id FROM jobs.running r WHERE EXISTS (SELECT FROM suspended)
)
SELECT j.job_id, j.array_id, j.vo_id, j.pilot_id
  FROM held JOIN jobs.job j USING (job_id) JOIN suspended USING (owner_id, vo_id)
 ORDER BY j.job_id LIMIT %(limit)s::integer FOR UPDATE OF j SKIP LOCKED;

-- name: lock_mark
-- every VO: the service answers all of them.
SELECT extract(epoch FROM clock_timestamp() - marked_at)::double precision FROM jobs.service_mark FOR UPDATE;

-- name: find_mark
-- every VO: the service answers all of them.
SELECT extract(epoch FROM clock_timestamp() - marked_at)::double precision FROM jobs.service_mark;

-- name: set_mark
-- every VO: the service answers all of them.
INSERT INTO jobs.service_mark (one, marked_at) VALUES (true, clock_timestamp())
ON CONFLICT (one) DO UPDATE SET marked_at = clock_timestamp();

-- name: list_quick_failures
-- every VO: a node that swallows jobs does so for all of them. Only when there are any is it asked what else ended.
WITH bad AS MATERIALIZED (
    SELECT pilot_id, count(*)::integer AS failed
      FROM jobs.ended_attempt
     WHERE error_class = 'site' AND reported AND pilot_id IS NOT NULL AND wall_s < %(shorter_s)s::double precision
       AND ended_at > now() - make_interval(secs => %(within_s)s::double precision)
     GROUP BY pilot_id
), everything AS (
    SELECT pilot_id, count(*)::integer AS ended
      FROM jobs.ended_attempt
     WHERE (SELECT count(*) FROM bad) > 0 AND vo_id = ANY (ARRAY(SELECT vo_id FROM identity.vo))
       AND ended_at > now() - make_interval(secs => %(within_s)s::double precision)
     GROUP BY pilot_id
)
SELECT pilot_id, ended, failed FROM bad JOIN everything USING (pilot_id);
