-- The statements of matching. The matcher comes from the waiting table and takes rows with SKIP LOCKED: it waits for nobody.

-- name: list_waiting_heads
-- every VO: one view serves the pilots of all; the matcher gives a pilot the queues of its own VO only.
-- Only queues in which jobs wait are visited, each through one probe of the key.
WITH RECURSIVE occupied AS (
    (SELECT task_queue_id FROM jobs.waiting ORDER BY task_queue_id LIMIT 1)
    UNION ALL
    SELECT (SELECT w.task_queue_id FROM jobs.waiting w WHERE w.task_queue_id > occupied.task_queue_id
             ORDER BY w.task_queue_id LIMIT 1)
      FROM occupied WHERE occupied.task_queue_id IS NOT NULL
)
SELECT q.task_queue_id, q.wants, head.priorities, head.job_ids
  FROM occupied
  JOIN jobs.task_queue q USING (task_queue_id)
 CROSS JOIN LATERAL (
    SELECT array_agg(h.priority ORDER BY h.priority, h.job_id) AS priorities,
           array_agg(h.job_id ORDER BY h.priority, h.job_id) AS job_ids
      FROM (SELECT w.priority, w.job_id FROM jobs.waiting w WHERE w.task_queue_id = q.task_queue_id
             ORDER BY w.priority, w.job_id LIMIT %(depth)s::integer) h
 ) head
 WHERE head.job_ids IS NOT NULL AND NOT identity.is_suspended(q.owner_id, q.vo_id);

-- name: claim_jobs
-- From waiting to matched, each job for one pilot. Arrays keep every step on its key, whatever the planner believes of
-- the tables' sizes.
WITH head AS MATERIALIZED (
    SELECT t.ctid, t.job_id, wish.cores
      FROM unnest(%(task_queue_ids)s::integer[], %(counts)s::integer[], %(cores)s::smallint[])
           AS wish (task_queue_id, n, cores)
     CROSS JOIN LATERAL (
        SELECT w.ctid, w.job_id FROM jobs.waiting w
         WHERE w.task_queue_id = wish.task_queue_id
         ORDER BY w.priority, w.job_id LIMIT wish.n FOR UPDATE SKIP LOCKED
     ) t
), free AS MATERIALIZED (
    SELECT j.job_id FROM jobs.job j
     WHERE j.job_id = ANY (ARRAY(SELECT job_id FROM head)) AND j.vo_id = %(vo_id)s::integer AND j.status = 'waiting'
       FOR UPDATE SKIP LOCKED
), taken AS (
    DELETE FROM jobs.waiting WHERE ctid = ANY (ARRAY(SELECT head.ctid FROM head JOIN free USING (job_id)))
    RETURNING job_id
), job AS (
    UPDATE jobs.job SET status = 'matched', minor_status = 'assigned', attempt = attempt + 1, exit_code = NULL,
           application_status = '', pilot_id = %(pilot_id)s::bigint, site_id = %(site_id)s::integer,
           ce_id = %(ce_id)s::integer, started_at = NULL, ended_at = NULL, cpu_s = NULL, wall_s = NULL,
           max_rss_bytes = NULL, updated_at = now()
     WHERE job_id = ANY (ARRAY(SELECT job_id FROM taken)) AND vo_id = %(vo_id)s::integer AND status = 'waiting'
    RETURNING job_id, array_id, array_index, owner_id, group_id, task_queue_id, attempt, priority
), granted AS MATERIALIZED (
    SELECT job.*, head.cores FROM job JOIN head USING (job_id)
), lease AS (
    INSERT INTO jobs.running (job_id, vo_id, attempt, pilot_id, ce_id, cores, lease_expires_at)
    SELECT job_id, %(vo_id)s::integer, attempt, %(pilot_id)s::bigint, %(ce_id)s::integer, cores,
           now() + make_interval(secs => %(lease_s)s::integer)
      FROM granted
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source)
    SELECT job_id, %(vo_id)s::integer, attempt, 'matched', 'assigned', %(source)s::text FROM granted
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT task_queue_id, change.ce_id, change.status, sum(change.jobs), sum(change.jobs * change.cores)
      FROM granted CROSS JOIN LATERAL (VALUES
            (0, 'waiting'::jobs.job_status, -1, 0), (%(ce_id)s::integer, 'matched', 1, granted.cores::integer)
           ) AS change (ce_id, status, jobs, cores)
     GROUP BY 1, 2, 3
)
SELECT granted.job_id, granted.array_id, granted.array_index, granted.owner_id, granted.group_id, granted.attempt,
       granted.cores, (p.elements -> (granted.array_index %% 100))::text AS parameters, a.spec
  FROM granted
  JOIN jobs.job_array a USING (array_id)
  LEFT JOIN jobs.array_parameters p ON p.array_id = granted.array_id AND p.block = granted.array_index / 100
 ORDER BY granted.priority DESC, granted.job_id;

-- name: count_demand
-- every VO: the pilot factory serves all of them, and asks per VO what its elements may run.
SELECT q.task_queue_id, q.wants, t.waiting
  FROM (SELECT task_queue_id, sum(jobs)::bigint AS waiting FROM jobs.tally_now WHERE status = 'waiting' GROUP BY 1) t
  JOIN jobs.task_queue q USING (task_queue_id)
 WHERE t.waiting > 0 AND NOT identity.is_suspended(q.owner_id, q.vo_id)
 ORDER BY q.task_queue_id;

-- name: fold_tally
-- every VO: one journal serves all of them.
-- Several folders would only wait for each other: the caller holds the turn.
WITH change AS (
    DELETE FROM jobs.tally_change RETURNING *
), summed AS MATERIALIZED (
    SELECT task_queue_id, ce_id, status, sum(jobs) AS jobs, sum(cores) AS cores
      FROM change GROUP BY 1, 2, 3 HAVING sum(jobs) <> 0 OR sum(cores) <> 0
), folded AS (
    INSERT INTO jobs.tally AS t (task_queue_id, ce_id, status, jobs, cores)
    SELECT task_queue_id, ce_id, status, jobs, cores FROM summed ORDER BY 1, 2, 3
    ON CONFLICT (task_queue_id, ce_id, status) DO UPDATE
       SET jobs = t.jobs + excluded.jobs, cores = t.cores + excluded.cores
)
SELECT count(*) FROM summed;

-- name: take_folding_turn
-- every VO: one journal serves all of them.
SELECT pg_try_advisory_xact_lock(hashtext('spinor.jobs.tally'));

-- name: drop_empty_tallies
-- every VO: one journal serves all of them.
DELETE FROM jobs.tally WHERE jobs = 0 AND cores = 0;

-- name: find_place_in_queue
-- Jobs that go before this one: in its own queue exactly, in the VO's other queues up to a bound each.
SELECT (SELECT count(*) FROM (SELECT FROM jobs.waiting w
                               WHERE w.task_queue_id = j.task_queue_id
                                 AND (w.priority, w.job_id) < ((9 - j.priority)::smallint, j.job_id)
                               LIMIT 100000) ahead) AS ahead_in_queue,
       others.queues AS other_queues, others.jobs AS ahead_in_others
  FROM jobs.job j
 CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE c.jobs > 0) AS queues, coalesce(sum(c.jobs), 0)::bigint AS jobs
      FROM jobs.task_queue q
     CROSS JOIN LATERAL (SELECT count(*) AS jobs FROM (
            SELECT FROM jobs.waiting w WHERE w.task_queue_id = q.task_queue_id
               AND (w.priority, w.job_id) < ((9 - j.priority)::smallint, j.job_id) LIMIT 1000) bounded) c
     WHERE q.vo_id = j.vo_id AND q.task_queue_id <> j.task_queue_id
 ) others
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: count_pilots_alive
-- Only to explain: pilots know jobs and not the other way round, so this reads their table and never writes it.
SELECT c.name AS computing_element, p.status::text AS status, count(*) AS pilots
  FROM pilots.pilot p JOIN resources.computing_element c USING (ce_id)
 WHERE p.vo_id = %(vo_id)s::integer AND p.ended_at IS NULL
 GROUP BY c.name, p.status ORDER BY c.name, p.status;
