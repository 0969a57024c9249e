-- The statements of looking at jobs. Names of users, groups, sites and elements are joined in for showing.

-- name: find_job
-- One job in full.
SELECT j.job_id, j.array_id, j.array_index, j.array_size, j.name, j.job_group, j.job_type, v.name AS vo, j.owner,
       j."group", j.status, j.minor_status, j.application_status, j.priority, j.attempt, j.reschedules,
       j.site, j.computing_element, j.pilot_id, j.exit_code, j.submitted_at, j.started_at, j.ended_at, j.updated_at, j.cpu_s,
       j.wall_s, j.max_rss_bytes, j.task_queue_id, j.owner_id, j.group_id,
       (p.elements -> (j.array_index %% 100))::text AS parameters, j.spec,
       ARRAY(SELECT o.lfn FROM jobs.output_file o WHERE o.job_id = j.job_id ORDER BY o.lfn) AS output_files
  FROM jobs.shown_job j
  JOIN identity.vo v ON v.vo_id = j.vo_id
  LEFT JOIN jobs.array_parameters p ON p.array_id = j.array_id AND p.block = j.array_index / 100
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: find_retried
-- How often a job was tried again, by class of error.
SELECT retried FROM jobs.job WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: list_history
-- Every change of state, the oldest first. The first line, of the submission, is the array's own row.
SELECT a.submitted_at AS at, 0 AS attempt,
       CASE WHEN first.minor_status IS NULL THEN 'waiting' ELSE 'checking' END::jobs.job_status AS status,
       coalesce(first.minor_status, '') AS minor_status, u.name AS source, '' AS reason
  FROM jobs.job j
  JOIN jobs.job_array a USING (array_id)
  JOIN identity.user_account u ON u.user_id = a.owner_id
 CROSS JOIN LATERAL (SELECT CASE WHEN (a.spec::jsonb ->> 'hold')::boolean THEN 'held by ' || u.name
                                 WHEN a.spec::jsonb ? 'after' THEN 'waits for other jobs' END AS minor_status) first
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer
UNION ALL
SELECT at, attempt, status, minor_status, source, reason
  FROM jobs.job_history
 WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer
 ORDER BY at;

-- name: count_jobs
-- Jobs by status. The jobs of an array are a range of the key.
SELECT status, sum(jobs)::bigint AS jobs
  FROM (SELECT j.status, count(*) AS jobs
          FROM jobs.job j
         WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
           AND j.array_id <> ALL (%(array_ids)s::bigint[])
         GROUP BY j.status
        UNION ALL
        SELECT j.status, count(*)
          FROM jobs.job_array a
          JOIN jobs.job j ON j.job_id BETWEEN a.first_job_id AND a.first_job_id + a.size - 1
         WHERE a.vo_id = %(vo_id)s::integer AND a.array_id = ANY (%(array_ids)s::bigint[])
         GROUP BY j.status) counts
 GROUP BY status ORDER BY status;

-- name: list_known_ids
-- Which of these jobs and arrays the VO has.
SELECT 'job' AS kind, j.job_id AS id, j.array_id
  FROM jobs.job j WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
UNION ALL
SELECT 'array', a.array_id, a.array_id
  FROM jobs.job_array a WHERE a.vo_id = %(vo_id)s::integer AND a.array_id = ANY (%(array_ids)s::bigint[]);

-- name: list_task_queues
-- Those in which jobs wait, or the one of a job. The counts are exact; the rest is looked up for one page only.
WITH counted AS MATERIALIZED (
    SELECT t.task_queue_id, coalesce(sum(t.jobs) FILTER (WHERE t.status = 'waiting'), 0)::bigint AS waiting,
           coalesce(sum(t.jobs) FILTER (WHERE t.status <> 'waiting'), 0)::bigint AS running
      FROM jobs.tally_now t
     WHERE t.status IN ('waiting', 'matched', 'running', 'completing')
     GROUP BY t.task_queue_id
)
SELECT q.task_queue_id, u.name AS owner, g.name AS "group", q.wants, coalesce(c.waiting, 0) AS waiting,
       coalesce(c.running, 0) AS running, 9 - first.priority AS priority, first.job_id AS next_job_id,
       oldest.job_id AS oldest_job_id, oldest.submitted_at AS oldest_at
  FROM jobs.task_queue q
  JOIN identity.user_account u ON u.user_id = q.owner_id
  JOIN identity.vo_group g ON g.group_id = q.group_id
  LEFT JOIN counted c USING (task_queue_id)
  LEFT JOIN LATERAL (SELECT w.priority, w.job_id FROM jobs.waiting w
                      WHERE w.task_queue_id = q.task_queue_id ORDER BY w.priority, w.job_id LIMIT 1) first ON true
  LEFT JOIN LATERAL (
    SELECT j.job_id, j.submitted_at
      FROM generate_series(0, 9) AS p (priority)
     CROSS JOIN LATERAL (SELECT w.job_id FROM jobs.waiting w
                          WHERE w.task_queue_id = q.task_queue_id AND w.priority = p.priority
                          ORDER BY w.job_id LIMIT 1) head
      JOIN jobs.job j USING (job_id)
     ORDER BY j.job_id LIMIT 1
  ) oldest ON true
 WHERE q.vo_id = %(vo_id)s::integer AND q.task_queue_id > %(after)s::integer
   AND CASE WHEN %(job_id)s::bigint = 0 THEN c.waiting > 0
            ELSE q.task_queue_id = (SELECT j.task_queue_id FROM jobs.job j
                                     WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer) END
   AND (%(owner)s::text = '' OR u.name = %(owner)s::text)
   AND (%(group)s::text = '' OR g.name = %(group)s::text)
   AND (%(site)s::text = '' OR ((coalesce(q.wants -> 'sites', '[]') = '[]' OR q.wants -> 'sites' ? %(site)s::text)
                                AND NOT coalesce(q.wants -> 'banned_sites' ? %(site)s::text, false)))
 ORDER BY q.task_queue_id
 LIMIT %(limit)s::integer;

-- name: sum_up_jobs
-- What waits and runs now, out of the counters, and the attempts that ended since a moment: by one field, with the sum of
-- all in a row of its own.
WITH present AS (
    SELECT CASE %(by)s::text WHEN 'site' THEN s.name WHEN 'computing_element' THEN c.name WHEN 'owner' THEN u.name
                             WHEN 'group' THEN g.name END AS value,
           t.jobs, t.status IN ('matched', 'running', 'completing', 'stalled') AS runs
      FROM jobs.tally_now t
      JOIN jobs.task_queue q USING (task_queue_id)
      JOIN identity.user_account u ON u.user_id = q.owner_id
      JOIN identity.vo_group g ON g.group_id = q.group_id
      LEFT JOIN resources.computing_element c ON c.ce_id = t.ce_id
      LEFT JOIN resources.site s ON s.site_id = c.site_id
     WHERE q.vo_id = %(vo_id)s::integer AND (%(owner)s::text = '' OR u.name = %(owner)s::text)
       AND t.status NOT IN ('done', 'failed', 'killed', 'deleted')
), ended AS (
    SELECT CASE %(by)s::text WHEN 'site' THEN s.name WHEN 'computing_element' THEN c.name WHEN 'owner' THEN u.name
                             WHEN 'group' THEN g.name END AS value,
           e.status, e.cpu_s, e.wall_s, e.cores, e.max_rss_bytes,
           e.attempt = j.attempt AND j.status IN ('done', 'failed', 'killed', 'deleted') AS was_last,
           CASE WHEN e.attempt = 1 THEN extract(epoch FROM e.started_at - j.submitted_at)::double precision END AS waited_s
      FROM jobs.ended_attempt e
      JOIN jobs.job j USING (job_id)
      JOIN identity.user_account u ON u.user_id = e.owner_id
      JOIN identity.vo_group g ON g.group_id = e.group_id
      LEFT JOIN resources.computing_element c ON c.ce_id = e.ce_id
      LEFT JOIN resources.site s ON s.site_id = c.site_id
     WHERE e.vo_id = %(vo_id)s::integer AND e.ended_at > %(since)s::timestamptz
       AND (%(owner)s::text = '' OR u.name = %(owner)s::text)
), now_by AS (
    SELECT value, grouping(value) AS is_total, coalesce(sum(jobs) FILTER (WHERE NOT runs), 0)::bigint AS waiting,
           coalesce(sum(jobs) FILTER (WHERE runs), 0)::bigint AS running
      FROM present GROUP BY GROUPING SETS ((value), ())
), ended_by AS (
    SELECT value, grouping(value) AS is_total, count(*) FILTER (WHERE status = 'done') AS done,
           count(*) FILTER (WHERE was_last AND status NOT IN ('done', 'killed')) AS failed,
           count(*) FILTER (WHERE status = 'killed') AS killed,
           count(*) FILTER (WHERE NOT was_last AND status NOT IN ('done', 'killed')) AS retried,
           coalesce(sum(cpu_s), 0) AS cpu_s, coalesce(sum(wall_s * cores), 0) AS core_s,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY waited_s) AS waited_s,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY wall_s) FILTER (WHERE status = 'done') AS wall_s,
           max(max_rss_bytes) AS max_rss_bytes
      FROM ended GROUP BY GROUPING SETS ((value), ())
)
SELECT k.value, k.is_total = 1 AS is_total, coalesce(n.waiting, 0) AS waiting, coalesce(n.running, 0) AS running,
       coalesce(e.done, 0) AS done, coalesce(e.failed, 0) AS failed, coalesce(e.killed, 0) AS killed,
       coalesce(e.retried, 0) AS retried, coalesce(e.cpu_s, 0) AS cpu_s, coalesce(e.core_s, 0) AS core_s,
       e.done::double precision / nullif(e.done + e.failed, 0) AS success, e.cpu_s / nullif(e.core_s, 0) AS efficiency,
       e.waited_s, e.wall_s, e.max_rss_bytes
  FROM (SELECT value, is_total FROM now_by UNION SELECT value, is_total FROM ended_by) k (value, is_total)
  LEFT JOIN now_by n ON n.is_total = k.is_total AND n.value IS NOT DISTINCT FROM k.value
  LEFT JOIN ended_by e ON e.is_total = k.is_total AND e.value IS NOT DISTINCT FROM k.value
 ORDER BY k.is_total DESC, coalesce(e.core_s, 0) DESC, k.value;

-- name: count_failures
-- How the attempts failed that ended since a moment, the commonest first.
SELECT coalesce(e.error_class::text, '') AS error_class, e.exit_code, count(*) AS attempts, max(e.job_id) AS last_job_id
  FROM jobs.ended_attempt e JOIN identity.user_account u ON u.user_id = e.owner_id
 WHERE e.vo_id = %(vo_id)s::integer AND e.ended_at > %(since)s::timestamptz AND e.status = 'failed'
   AND (%(owner)s::text = '' OR u.name = %(owner)s::text)
 GROUP BY e.error_class, e.exit_code ORDER BY attempts DESC, last_job_id DESC LIMIT 10;
