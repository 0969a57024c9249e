-- What must be true of the tables when nothing moves. Each statement gives one sentence per violation, and no row when
-- all is well. Nothing here is specific to one VO. Those of the catalog's own tables are in spinor.catalog.invariants.

-- name: unfinished_jobs
-- every VO: an invariant of the whole service.
SELECT format('job %s is still %s (%s)', job_id, status, minor_status)
  FROM jobs.job WHERE status NOT IN ('done', 'failed', 'killed', 'deleted') ORDER BY job_id;

-- name: illegal_histories
-- every VO: an invariant of the whole service.
-- Each step of a job's history is a transition of the machine; the first one is the beginning.
-- The first line of each is its array's row. Holding a job that pauses changes nothing but the reason.
WITH line AS (
    SELECT job_id, at, status::text AS status FROM jobs.job_history WHERE minor_status NOT LIKE 'priority %%'
    UNION ALL
    SELECT j.job_id, '-infinity', CASE WHEN (a.spec::jsonb ->> 'hold')::boolean OR a.spec::jsonb ? 'after'
                                       THEN 'checking' ELSE 'waiting' END
      FROM jobs.job j JOIN jobs.job_array a USING (array_id)
), step AS (
    SELECT job_id, status AS new, lag(status) OVER (PARTITION BY job_id ORDER BY at) AS old FROM line
)
SELECT CASE WHEN old IS NULL THEN format('the history of job %%s begins with %%s', job_id, new)
            ELSE format('job %%s went from %%s to %%s, which the state machine does not know', job_id, old, new) END
  FROM step
 WHERE CASE WHEN old IS NULL THEN new <> ALL (%(first)s::text[])
            ELSE (old, new) <> ('checking', 'checking') AND NOT EXISTS (SELECT FROM unnest(%(olds)s::text[], %(news)s::text[]) AS known (old, new)
                              WHERE known.old = step.old AND known.new = step.new) END
 ORDER BY job_id;

-- name: histories_that_end_elsewhere
-- every VO: an invariant of the whole service.
SELECT format('job %s is %s, and its history ends with %s', j.job_id, j.status, coalesce(h.status::text, 'waiting'))
  FROM jobs.job j
  LEFT JOIN LATERAL (SELECT status FROM jobs.job_history h WHERE h.job_id = j.job_id ORDER BY at DESC LIMIT 1) h ON true
 WHERE h.status <> j.status OR (h.status IS NULL AND j.status NOT IN ('waiting', 'checking')) ORDER BY j.job_id;

-- name: jobs_done_twice
-- every VO: an invariant of the whole service.
SELECT format('job %s was done %s times', job_id, count(*))
  FROM jobs.job_history WHERE status = 'done' GROUP BY job_id HAVING count(*) > 1 ORDER BY job_id;

-- name: attempts_not_in_order
-- every VO: an invariant of the whole service.
-- The fencing number rises by one with each match, and no attempt is matched twice.
SELECT format('job %s has attempt %s, and was matched %s times', j.job_id, j.attempt, count(h.job_id))
  FROM jobs.job j LEFT JOIN jobs.job_history h ON h.job_id = j.job_id AND h.status = 'matched'
 GROUP BY j.job_id HAVING count(h.job_id) <> j.attempt OR count(DISTINCT h.attempt) <> j.attempt ORDER BY j.job_id;

-- name: waiting_rows_that_disagree
-- every VO: an invariant of the whole service.
SELECT CASE WHEN w.job_id IS NULL THEN format('job %s is waiting, and is in no task queue', j.job_id)
            WHEN j.job_id IS NULL THEN format('a row of a task queue names job %s, which does not exist', w.job_id)
            WHEN j.status <> 'waiting' THEN format('job %s is %s, and is in a task queue', j.job_id, j.status)
            ELSE format('job %s waits in another queue or place than its own', j.job_id) END
  FROM jobs.waiting w FULL JOIN (SELECT * FROM jobs.job WHERE status = 'waiting'
                                    OR job_id IN (SELECT job_id FROM jobs.waiting)) j USING (job_id)
 WHERE w.job_id IS NULL OR j.job_id IS NULL OR j.status <> 'waiting'
    OR (w.task_queue_id, w.priority) <> (j.task_queue_id, 9 - j.priority)
 ORDER BY 1;

-- name: leases_that_disagree
-- every VO: an invariant of the whole service.
SELECT CASE WHEN r.job_id IS NULL THEN format('job %s is %s, and no pilot has a lease on it', j.job_id, j.status)
            WHEN j.status NOT IN ('matched', 'running', 'completing')
                 THEN format('job %s is %s, and pilot %s has a lease on it', j.job_id, j.status, r.pilot_id)
            ELSE format('the lease on job %s is for attempt %s of pilot %s, the job says %s of %s', j.job_id, r.attempt,
                        r.pilot_id, j.attempt, j.pilot_id) END
  FROM jobs.running r FULL JOIN (SELECT * FROM jobs.job WHERE status IN ('matched', 'running', 'completing')
                                    OR job_id IN (SELECT job_id FROM jobs.running)) j USING (job_id)
 WHERE r.job_id IS NULL OR j.status NOT IN ('matched', 'running', 'completing')
    OR (r.attempt, r.pilot_id) IS DISTINCT FROM (j.attempt, j.pilot_id)
 ORDER BY 1;

-- name: leases_of_ended_pilots
-- every VO: an invariant of the whole service.
SELECT format('pilot %s is %s, and has a lease on job %s', p.pilot_id, p.status, r.job_id)
  FROM jobs.running r JOIN pilots.pilot p USING (pilot_id) WHERE p.ended_at IS NOT NULL ORDER BY r.job_id;

-- name: arrays_of_another_size
-- every VO: an invariant of the whole service.
SELECT format('array %s has %s jobs of %s', a.array_id, count(j.job_id), a.size)
  FROM jobs.job_array a LEFT JOIN jobs.job j USING (array_id)
 GROUP BY a.array_id HAVING count(j.job_id) <> a.size ORDER BY a.array_id;

-- name: orphans_of_jobs
-- every VO: an invariant of the whole service.
SELECT format('%s rows of %s belong to job %s, which does not exist', count(*), kind, job_id)
  FROM (SELECT 'jobs.job_history' AS kind, job_id FROM jobs.job_history
        UNION ALL SELECT 'jobs.job_log', job_id FROM jobs.job_log
        UNION ALL SELECT 'jobs.ended_attempt', job_id FROM jobs.ended_attempt
        UNION ALL SELECT 'jobs.delayed', job_id FROM jobs.delayed
        UNION ALL SELECT 'jobs.output_file', job_id FROM jobs.output_file
        UNION ALL SELECT 'jobs.output_sandbox', job_id FROM jobs.output_sandbox) AS rows
 WHERE NOT EXISTS (SELECT FROM jobs.job j WHERE j.job_id = rows.job_id)
 GROUP BY kind, job_id ORDER BY job_id;

-- name: jobs_done_without_outputs
-- every VO: an invariant of the whole service.
-- A pattern stands for any number of files, and what is not required for none.
SELECT format('job %s is done, and has %s registered outputs of %s', j.job_id, o.found, wanted.outputs)
  FROM jobs.job j JOIN jobs.job_array a USING (array_id)
 CROSS JOIN LATERAL (SELECT count(*) AS outputs FROM jsonb_array_elements(a.spec::jsonb -> 'output_data') AS output
                      WHERE coalesce((output ->> 'required')::boolean, true)) wanted
 CROSS JOIN LATERAL (SELECT count(*) AS found FROM jobs.output_file o WHERE o.job_id = j.job_id) o
 WHERE j.status = 'done' AND o.found < wanted.outputs ORDER BY j.job_id;

-- name: counters_that_disagree
-- every VO: an invariant of the whole service.
SELECT format('queue %s, element %s: %s jobs are %s with %s cores, and the counters say %s with %s', task_queue_id, ce_id,
              coalesce(real.jobs, 0), status, coalesce(real.cores, 0), coalesce(told.jobs, 0), coalesce(told.cores, 0))
  FROM (SELECT j.task_queue_id, coalesce(j.ce_id, 0) AS ce_id, j.status, count(*) AS jobs,
               coalesce(sum(r.cores), 0)::bigint AS cores
          FROM jobs.job j LEFT JOIN jobs.running r USING (job_id) GROUP BY 1, 2, 3) real
  FULL JOIN jobs.tally_now told USING (task_queue_id, ce_id, status)
 WHERE (coalesce(real.jobs, 0), coalesce(real.cores, 0)) <> (coalesce(told.jobs, 0), coalesce(told.cores, 0))
 ORDER BY 1;

-- name: attempts_without_one_record
-- every VO: an invariant of the whole service.
-- Each attempt that ended has one accounting record, and one that is held has none yet.
SELECT format('job %s is %s in attempt %s, and has %s accounting records', j.job_id, j.status, j.attempt, count(e.job_id))
  FROM jobs.job j LEFT JOIN jobs.ended_attempt e USING (job_id)
 GROUP BY j.job_id
HAVING count(e.job_id) <> j.attempt - CASE WHEN j.status IN ('matched', 'running', 'completing') THEN 1 ELSE 0 END
 ORDER BY j.job_id;

-- name: accounts_that_disagree
-- every VO: an invariant of the whole service.
-- A job that was done has one record that says so, of its newest attempt, and no record is of an attempt that never was.
SELECT format('job %s is %s, and %s of its records say done', j.job_id, j.status,
              count(*) FILTER (WHERE e.status = 'done'))
  FROM jobs.job j JOIN jobs.ended_attempt e USING (job_id)
 GROUP BY j.job_id
HAVING max(e.attempt) > j.attempt
    OR (j.status = 'done' AND count(*) FILTER (WHERE e.status = 'done' AND e.attempt = j.attempt) <> 1)
 ORDER BY j.job_id;

-- name: pauses_that_disagree
-- every VO: an invariant of the whole service.
SELECT format('job %s is %s, and pauses', job_id, status)
  FROM jobs.delayed JOIN jobs.job USING (job_id) WHERE status <> 'checking' ORDER BY job_id;

-- name: outputs_of_stale_attempts
-- every VO: an invariant of the whole service.
-- The PFN of an output names job and attempt; what is registered is of the attempt that was done, and of no other.
SELECT format('%s is registered by job %s with bytes of another attempt: %s', o.lfn, j.job_id, r.pfn)
  FROM jobs.job j
  JOIN jobs.output_file o USING (job_id)
  JOIN catalog.directory d ON d.path = regexp_replace(o.lfn, '/[^/]*$', '')
  JOIN catalog.file f ON f.directory_id = d.directory_id AND f.name = regexp_replace(o.lfn, '^.*/', '')
  CROSS JOIN LATERAL unnest(f.se_ids, f.pfns) AS r (se_id, pfn)
 WHERE j.status = 'done' AND r.pfn NOT LIKE '%;' || j.job_id || '.' || j.attempt
 ORDER BY j.job_id;

-- name: tenants_that_disagree
-- every VO: an invariant of the whole service.
SELECT format('job %s is of VO %s, its array of VO %s', j.job_id, j.vo_id, a.vo_id)
  FROM jobs.job j JOIN jobs.job_array a USING (array_id) WHERE j.vo_id <> a.vo_id;

-- name: rows_that_dangle
-- every VO: an invariant of the whole service.
-- What foreign keys would hold, where there are none for the sake of speed.
SELECT format('array %s names VO %s, user %s or group %s, which is not there', array_id, vo_id, owner_id, group_id)
  FROM jobs.job_array a
 WHERE NOT EXISTS (SELECT FROM identity.vo v WHERE v.vo_id = a.vo_id)
    OR NOT EXISTS (SELECT FROM identity.user_account u WHERE u.user_id = a.owner_id)
    OR NOT EXISTS (SELECT FROM identity.vo_group g WHERE g.group_id = a.group_id AND g.vo_id = a.vo_id);

-- name: jobs_outside_their_array
-- every VO: an invariant of the whole service.
SELECT format('job %s is element %s of array %s, which begins at job %s', j.job_id, j.array_index, j.array_id, a.first_job_id)
  FROM jobs.job j LEFT JOIN jobs.job_array a USING (array_id)
 WHERE j.job_id IS DISTINCT FROM a.first_job_id + j.array_index;

-- name: unsettled_removals
-- every VO: an invariant of the whole service.
SELECT format('the bytes at %s were to be deleted, and are still recorded: %s', concat_ws('/', nullif(path, ''), name),
              coalesce(error, 'never tried'))
  FROM catalog.removal CROSS JOIN LATERAL unnest(names) AS name ORDER BY removal_id;

-- name: read_files
-- every VO: an invariant of the whole service.
-- Not an invariant by itself: every file with its replicas, to be compared with the bytes.
SELECT d.path || '/' || f.name, f.size_bytes, lpad(to_hex(f.adler32), 8, '0'), encode(f.sha256, 'hex'), s.root,
       coalesce(r.pfn, concat_ws('/', nullif(l.path, ''), f.name))
  FROM catalog.file f
  JOIN catalog.directory d USING (directory_id)
  LEFT JOIN LATERAL unnest(f.se_ids, f.pfns) AS r (se_id, pfn) ON true
  LEFT JOIN resources.storage_element s USING (se_id)
  LEFT JOIN catalog.directory_location l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
 ORDER BY 1;

-- name: read_jobs
-- every VO: an invariant of the whole service.
-- Not an invariant by itself: what became of each job, and the last word about it.
SELECT j.job_id, j.status::text, coalesce(j.exit_code, 0), coalesce(h.reason, '')
  FROM jobs.job j
  LEFT JOIN LATERAL (SELECT reason FROM jobs.job_history h WHERE h.job_id = j.job_id ORDER BY at DESC LIMIT 1) h ON true
 ORDER BY j.job_id;
