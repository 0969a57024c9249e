-- What must be true of the tables when nothing moves. Each statement gives one sentence per violation, and no row when
-- all is well. Nothing here is specific to one VO. Those of the catalog's own tables are in spinor.catalog.invariants.

-- name: unfinished_jobs
-- every VO: an invariant of the whole service.
SELECT format('job %s is still %s (%s)', job_id, status, minor_status)
  FROM jobs.job WHERE status NOT IN ('done', 'failed', 'killed', 'deleted') ORDER BY job_id;

-- name: illegal_histories
-- every VO: an invariant of the whole service.
-- Each step of a job's history is a transition of the machine; the first one is the beginning.
WITH step AS (
    SELECT job_id, status::text AS new, lag(status::text) OVER (PARTITION BY job_id ORDER BY at) AS old
      FROM jobs.job_history
)
SELECT CASE WHEN old IS NULL THEN format('the history of job %%s begins with %%s', job_id, new)
            ELSE format('job %%s went from %%s to %%s, which the state machine does not know', job_id, old, new) END
  FROM step
 WHERE CASE WHEN old IS NULL THEN new <> ALL (%(first)s::text[])
            ELSE NOT EXISTS (SELECT FROM unnest(%(olds)s::text[], %(news)s::text[]) AS known (old, new)
                              WHERE known.old = step.old AND known.new = step.new) END
 ORDER BY job_id;

-- name: histories_that_end_elsewhere
-- every VO: an invariant of the whole service.
SELECT format('job %s is %s, and its history ends with %s', j.job_id, j.status, coalesce(h.status::text, 'nothing'))
  FROM jobs.job j
  LEFT JOIN LATERAL (SELECT status FROM jobs.job_history h WHERE h.job_id = j.job_id ORDER BY at DESC LIMIT 1) h ON true
 WHERE h.status IS DISTINCT FROM j.status ORDER BY j.job_id;

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
        UNION ALL SELECT 'jobs.output_file', job_id FROM jobs.output_file
        UNION ALL SELECT 'jobs.output_sandbox', job_id FROM jobs.output_sandbox) AS rows
 WHERE NOT EXISTS (SELECT FROM jobs.job j WHERE j.job_id = rows.job_id)
 GROUP BY kind, job_id ORDER BY job_id;

-- name: jobs_done_without_outputs
-- every VO: an invariant of the whole service.
SELECT format('job %s is done, and has %s registered outputs of %s', j.job_id, o.found, wanted.outputs)
  FROM jobs.job j JOIN jobs.job_array a USING (array_id)
 CROSS JOIN LATERAL (SELECT coalesce(jsonb_array_length(a.spec->'output_data'), 0) AS outputs) wanted
 CROSS JOIN LATERAL (SELECT count(*) AS found FROM jobs.output_file o WHERE o.job_id = j.job_id) o
 WHERE j.status = 'done' AND o.found <> wanted.outputs ORDER BY j.job_id;

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
SELECT j.job_id, j.status::text, coalesce(j.exit_code, 0), h.reason
  FROM jobs.job j
 CROSS JOIN LATERAL (SELECT reason FROM jobs.job_history h WHERE h.job_id = j.job_id ORDER BY at DESC LIMIT 1) h
 ORDER BY j.job_id;
