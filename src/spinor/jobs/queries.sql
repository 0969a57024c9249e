-- The statements of the jobs system.
--
-- Locks: whoever changes a job by its id takes the job's row first, and then its rows in waiting and running. The
-- matcher, who comes from the waiting table, takes both with SKIP LOCKED, so it waits for nobody.
-- The names of users, groups and sites are joined in from identity and resources for showing; nothing there is changed.

---------------------------------------------------------------------------------------------------- submission

-- name: insert_arrays
-- One statement for everything that a submission writes. It writes nothing, and gives no row, when a task queue is not
-- there yet or the idempotency key is taken; the caller then does what is needed and asks again.
WITH queue AS (
    SELECT task_queue_id, digest FROM jobs.task_queue
     WHERE digest = ANY (%(distinct_digests)s::bytea[]) AND vo_id = %(vo_id)s::integer
), new AS MATERIALIZED (
    SELECT nextval('jobs.job_array_array_id_seq') AS array_id, a.ordinal, a.name, a.size, a.spec, a.key, a.priority,
           queue.task_queue_id, sum(a.size) OVER (ORDER BY a.ordinal) - a.size AS jobs_before
      FROM unnest(%(names)s::text[], %(sizes)s::integer[], %(specs)s::jsonb[], %(keys)s::text[], %(digests)s::bytea[],
                  %(priorities)s::smallint[]) WITH ORDINALITY AS a (name, size, spec, key, digest, priority, ordinal)
      JOIN queue USING (digest)
     WHERE (SELECT count(*) FROM queue) = cardinality(%(distinct_digests)s::bytea[])
     ORDER BY a.ordinal
), made AS (
    INSERT INTO jobs.job_array (array_id, vo_id, owner_id, group_id, name, size, spec, idempotency_key)
    OVERRIDING SYSTEM VALUE
    SELECT array_id, %(vo_id)s::integer, %(owner_id)s::integer, %(group_id)s::integer, name, size, spec, key
      FROM new ORDER BY ordinal
    ON CONFLICT ON CONSTRAINT job_array_idempotency DO NOTHING
    RETURNING array_id
), sandbox AS (
    INSERT INTO jobs.array_sandbox (array_id, sandbox_id)
    SELECT new.array_id, s.sandbox_id
      FROM unnest(%(sandbox_ordinals)s::integer[], %(sandbox_ids)s::bigint[]) AS s (ordinal, sandbox_id)
      JOIN new ON new.ordinal = s.ordinal
      JOIN made USING (array_id)
), job AS (
    INSERT INTO jobs.job (array_id, vo_id, owner_id, group_id, array_index, task_queue_id, status, priority, parameters)
    SELECT new.array_id, %(vo_id)s::integer, %(owner_id)s::integer, %(group_id)s::integer, index,
           new.task_queue_id, 'waiting', new.priority, nullif(own.values, 'null')
      FROM new
      JOIN made USING (array_id)
     CROSS JOIN generate_series(0, new.size - 1) AS index
      LEFT JOIN jsonb_array_elements(%(parameters)s::jsonb) WITH ORDINALITY AS own (values, n)
             ON own.n = new.jobs_before + index + 1
     ORDER BY new.ordinal, index
    RETURNING job_id, array_id, task_queue_id, priority
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id)
    SELECT task_queue_id, 9 - priority, job_id FROM job ORDER BY 1, 2, 3
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source)
    SELECT job_id, %(vo_id)s::integer, 0, 'waiting', '', %(source)s::text FROM job ORDER BY job_id
)
SELECT array_id, min(job_id) AS first, max(job_id) AS last
  FROM (SELECT array_id, job_id, job_id - row_number() OVER (PARTITION BY array_id ORDER BY job_id) AS island FROM job) ids
 GROUP BY array_id, island
 ORDER BY array_id, first;

-- name: insert_task_queues
-- A second writer of the same queue waits here for the first one, and then finds it made.
INSERT INTO jobs.task_queue (vo_id, owner_id, group_id, cores, memory_bytes, disk_bytes, wall_s, sites, tags, digest)
SELECT %(vo_id)s::integer, (q->>'owner_id')::integer, (q->>'group_id')::integer, (q->>'cores')::integer,
       (q->>'memory_bytes')::bigint, (q->>'disk_bytes')::bigint, (q->>'wall_s')::integer,
       ARRAY(SELECT jsonb_array_elements_text(q->'sites')), ARRAY(SELECT jsonb_array_elements_text(q->'tags')), q_digest
  FROM unnest(%(queues)s::jsonb[], %(digests)s::bytea[]) AS u (q, q_digest)
 ORDER BY q_digest
ON CONFLICT ON CONSTRAINT task_queue_digest_unique DO NOTHING;

-- name: find_arrays_by_key
-- The arrays of an earlier call with the same idempotency keys.
SELECT array_id, name, size, spec::text AS spec
  FROM jobs.job_array
 WHERE vo_id = %(vo_id)s::integer AND owner_id = %(owner_id)s::integer AND idempotency_key = ANY (%(keys)s::text[])
 ORDER BY array_id;

-- name: list_id_ranges
-- Job ids as runs without a gap.
SELECT array_id, min(job_id) AS first, max(job_id) AS last
  FROM (SELECT array_id, job_id, job_id - row_number() OVER (PARTITION BY array_id ORDER BY job_id) AS island
          FROM jobs.job WHERE array_id = ANY (%(array_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer) ids
 GROUP BY array_id, island
 ORDER BY array_id, first;

---------------------------------------------------------------------------------------------------- matching

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
SELECT q.task_queue_id, q.vo_id, q.cores, q.memory_bytes, q.disk_bytes, q.wall_s, q.sites, q.tags,
       head.priorities, head.job_ids
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
-- From waiting to matched, each job for one pilot. Arrays keep every step on its key, whatever the planner believes of the tables' sizes.
WITH head AS MATERIALIZED (
    SELECT t.ctid, t.job_id
      FROM unnest(%(task_queue_ids)s::integer[], %(counts)s::integer[]) AS wish (task_queue_id, n)
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
           application_status = '', pilot_id = %(pilot_id)s::bigint, site_id = %(site_id)s::integer, started_at = NULL,
           ended_at = NULL, cpu_s = NULL, wall_s = NULL, max_rss_bytes = NULL, updated_at = now()
     WHERE job_id = ANY (ARRAY(SELECT job_id FROM taken)) AND vo_id = %(vo_id)s::integer AND status = 'waiting'
    RETURNING job_id, array_id, array_index, owner_id, group_id, attempt, priority, parameters
), lease AS (
    INSERT INTO jobs.running (job_id, vo_id, attempt, pilot_id, lease_expires_at)
    SELECT job_id, %(vo_id)s::integer, attempt, %(pilot_id)s::bigint,
           now() + make_interval(secs => %(lease_s)s::integer)
      FROM job
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source)
    SELECT job_id, %(vo_id)s::integer, attempt, 'matched', 'assigned', %(source)s::text FROM job
)
SELECT job.job_id, job.array_id, job.array_index, job.owner_id, job.group_id, job.attempt,
       job.parameters::text AS parameters, a.spec::text AS spec
  FROM job JOIN jobs.job_array a USING (array_id)
 ORDER BY job.priority DESC, job.job_id;

-- name: count_demand
-- every VO: the pilot factory serves all of them, and asks per VO what its elements may run.
SELECT q.task_queue_id, q.vo_id, q.cores, q.memory_bytes, q.disk_bytes, q.wall_s, q.sites, q.tags, counted.waiting
  FROM jobs.task_queue q
 CROSS JOIN LATERAL (
    SELECT count(*) AS waiting
      FROM (SELECT FROM jobs.waiting w WHERE w.task_queue_id = q.task_queue_id LIMIT %(bound)s::integer) bounded
 ) counted
 WHERE counted.waiting > 0 AND NOT identity.is_suspended(q.owner_id, q.vo_id)
 ORDER BY q.task_queue_id;

---------------------------------------------------------------------------------------------------- an attempt's life

-- name: start_job
-- The payload runs.
WITH job AS (
    UPDATE jobs.job SET status = 'running', minor_status = 'application', started_at = now(), updated_at = now()
     WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer AND pilot_id = %(pilot_id)s::bigint
       AND attempt = %(attempt)s::integer AND status = 'matched'
    RETURNING job_id, attempt
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source)
    SELECT job_id, %(vo_id)s::integer, attempt, 'running', 'application', %(source)s::text FROM job
)
SELECT job_id FROM job;

-- name: find_attempt
-- A job with its newest attempt.
SELECT job_id, array_id, array_index, owner_id, group_id, status, attempt, pilot_id, minor_status
  FROM jobs.job WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: lock_held_job
-- The job whose attempt the pilot reports on, held until the transaction ends.
SELECT j.job_id, j.array_id, j.array_index, j.owner_id, j.group_id, j.attempt, j.status,
       j.parameters::text AS parameters, a.spec::text AS spec
  FROM jobs.job j JOIN jobs.job_array a USING (array_id)
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer AND j.pilot_id = %(pilot_id)s::bigint
   AND j.attempt = %(attempt)s::integer AND j.status = ANY (%(held)s::jobs.job_status[])
   FOR UPDATE OF j;

-- name: was_reported
-- Whether this pilot itself ended this attempt: its second report of the same end is harmless.
SELECT EXISTS (
    SELECT FROM jobs.job j JOIN jobs.job_history h ON h.job_id = j.job_id
     WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer AND j.pilot_id = %(pilot_id)s::bigint
       AND j.attempt = %(attempt)s::integer AND j.status IN ('done', 'failed')
       AND h.attempt = j.attempt AND h.status = j.status AND h.source = %(source)s::text
) AS reported;

-- name: renew_leases
-- Rows are locked in order of their ids. The answer has those that could not be renewed.
WITH held AS (
    SELECT r.job_id FROM jobs.running r
      JOIN unnest(%(job_ids)s::bigint[], %(attempts)s::integer[]) AS h (job_id, attempt)
        ON h.job_id = r.job_id AND h.attempt = r.attempt
     WHERE r.pilot_id = %(pilot_id)s::bigint AND r.vo_id = %(vo_id)s::integer
     ORDER BY r.job_id FOR UPDATE OF r
), renewed AS (
    UPDATE jobs.running r SET lease_expires_at = now() + make_interval(secs => %(lease_s)s::integer)
      FROM held WHERE r.job_id = held.job_id
    RETURNING r.job_id
)
SELECT h.job_id, h.attempt, job.status, job.attempt AS newest_attempt, job.minor_status
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[]) AS h (job_id, attempt)
  LEFT JOIN jobs.job ON job.job_id = h.job_id AND job.vo_id = %(vo_id)s::integer
 WHERE h.job_id NOT IN (SELECT job_id FROM renewed)
 ORDER BY h.job_id;

-- name: record_usage
-- What running payloads have used so far, written once a minute per job at most: it is for people, not for accounting.
UPDATE jobs.job SET cpu_s = u.cpu_s, wall_s = u.wall_s, max_rss_bytes = u.max_rss_bytes, updated_at = now()
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(cpu_s)s::double precision[],
              %(wall_s)s::double precision[], %(max_rss_bytes)s::bigint[])
       AS u (job_id, attempt, cpu_s, wall_s, max_rss_bytes)
 WHERE job.job_id = u.job_id AND job.attempt = u.attempt AND job.vo_id = %(vo_id)s::integer
   AND job.pilot_id = %(pilot_id)s::bigint AND job.status IN ('running', 'completing')
   AND job.updated_at < now() - interval '60 seconds';

-- name: end_job
-- The end of an attempt, with what it left behind.
WITH job AS (
    UPDATE jobs.job SET status = %(status)s::jobs.job_status, minor_status = %(minor_status)s::text,
           exit_code = %(exit_code)s::integer, ended_at = now(), updated_at = now(),
           cpu_s = coalesce(%(cpu_s)s::double precision, cpu_s), wall_s = coalesce(%(wall_s)s::double precision, wall_s),
           max_rss_bytes = coalesce(%(max_rss_bytes)s::bigint, max_rss_bytes)
     WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer AND attempt = %(attempt)s::integer
       AND status = ANY (%(sources)s::jobs.job_status[])
    RETURNING job_id, array_id, attempt, owner_id
), lease AS (
    DELETE FROM jobs.running USING job WHERE running.job_id = job.job_id
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source, reason)
    SELECT job_id, %(vo_id)s::integer, attempt, %(status)s::jobs.job_status, %(minor_status)s::text, %(source)s::text,
           %(reason)s::text
      FROM job
), sandbox AS (
    INSERT INTO jobs.output_sandbox (job_id, attempt, vo_id, sandbox_id, missing)
    SELECT job.job_id, job.attempt, %(vo_id)s::integer, s.sandbox_id, %(missing)s::text[]
      FROM job JOIN jobs.sandbox s
        ON s.sandbox_id = %(sandbox_id)s::bigint AND s.vo_id = %(vo_id)s::integer AND s.owner_id = job.owner_id
    ON CONFLICT (job_id, attempt) DO NOTHING
), output AS (
    INSERT INTO jobs.output_file (job_id, vo_id, lfn)
    SELECT job.job_id, %(vo_id)s::integer, lfn FROM job CROSS JOIN unnest(%(lfns)s::text[]) AS lfn
    ON CONFLICT DO NOTHING
)
SELECT array_id FROM job;

-- name: lock_expired_jobs
-- every VO: a lease is over for everybody alike.
SELECT j.job_id
  FROM jobs.running r JOIN jobs.job j ON j.job_id = r.job_id
 WHERE r.lease_expires_at < %(now)s::timestamptz
 ORDER BY j.job_id LIMIT %(limit)s::integer FOR UPDATE OF j SKIP LOCKED;

-- name: lock_jobs_of_pilot
-- every VO: a pilot serves one VO, and the verb is called for pilots only.
SELECT j.job_id
  FROM jobs.running r JOIN jobs.job j ON j.job_id = r.job_id
 WHERE r.pilot_id = %(pilot_id)s::bigint
 ORDER BY j.job_id FOR UPDATE OF j;

-- name: release_jobs
-- every VO: the jobs were chosen and locked by one of the two statements above.
-- From a lost pilot to the queue again, or to failed when that happened too often: each step has its own history row.
WITH lost AS (
    DELETE FROM jobs.running
     WHERE job_id = ANY (%(job_ids)s::bigint[])
       AND (%(before)s::timestamptz IS NULL OR lease_expires_at < %(before)s::timestamptz)
    RETURNING job_id
), job AS (
    UPDATE jobs.job SET
           status = CASE WHEN job.reschedules < (a.spec->>'max_reschedules')::integer THEN 'waiting'
                         ELSE 'failed' END::jobs.job_status,
           minor_status = CASE WHEN job.reschedules < (a.spec->>'max_reschedules')::integer THEN 'rescheduled'
                               ELSE 'too many reschedules' END,
           reschedules = job.reschedules
                         + CASE WHEN job.reschedules < (a.spec->>'max_reschedules')::integer THEN 1 ELSE 0 END,
           ended_at = CASE WHEN job.reschedules < (a.spec->>'max_reschedules')::integer THEN NULL ELSE now() END,
           updated_at = now()
      FROM lost, jobs.job_array a
     WHERE job.job_id = lost.job_id AND a.array_id = job.array_id AND job.status = ANY (%(sources)s::jobs.job_status[])
    RETURNING job.job_id, job.array_id, job.vo_id, job.attempt, job.status, job.reschedules, job.task_queue_id,
              job.priority
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id)
    SELECT task_queue_id, 9 - priority, job_id FROM job WHERE status = 'waiting'
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, at, attempt, status, minor_status, source, reason)
    SELECT job.job_id, job.vo_id, clock_timestamp() + step.n * interval '1 microsecond', job.attempt, step.status,
           step.minor_status, %(source)s::text, step.reason
      FROM job CROSS JOIN LATERAL (VALUES
            (0, 'stalled'::jobs.job_status, 'pilot lost', %(reason)s::text, true),
            (1, 'rescheduled', 'pilot lost', 'reschedule number ' || job.reschedules, job.status = 'waiting'),
            (2, 'waiting', 'rescheduled', '', job.status = 'waiting'),
            (1, 'failed', 'too many reschedules', 'its pilots were lost ' || job.reschedules + 1 || ' times',
             job.status = 'failed')
           ) AS step (n, status, minor_status, reason, applies)
     WHERE step.applies
     ORDER BY job.job_id, step.n
)
SELECT job_id, array_id, status FROM job ORDER BY job_id;

---------------------------------------------------------------------------------------------------- commands

-- name: lock_jobs
-- Jobs by id and by array, in the order in which everybody locks them.
SELECT job_id, array_id, owner_id, status, attempt, pilot_id
  FROM jobs.job
 WHERE vo_id = %(vo_id)s::integer
   AND (job_id = ANY (%(job_ids)s::bigint[]) OR array_id = ANY (%(array_ids)s::bigint[]))
 ORDER BY job_id FOR UPDATE;

-- name: lock_suspended_jobs
-- every VO: a ban holds in all of them.
-- What runs for owners who were suspended.
SELECT j.job_id, j.array_id, j.vo_id, j.pilot_id
  FROM jobs.running r JOIN jobs.job j ON j.job_id = r.job_id
 WHERE EXISTS (SELECT FROM identity.suspension WHERE lifted_at IS NULL) AND identity.is_suspended(j.owner_id, j.vo_id)
 ORDER BY j.job_id LIMIT %(limit)s::integer FOR UPDATE OF j SKIP LOCKED;

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

-- name: kill_jobs
-- From any state that is not final.
WITH job AS (
    UPDATE jobs.job SET status = 'killed', minor_status = 'killed by ' || %(source)s::text, ended_at = now(),
           updated_at = now()
     WHERE job_id = ANY (%(job_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer
       AND status = ANY (%(sources)s::jobs.job_status[])
    RETURNING job_id, task_queue_id, priority, attempt
), unqueued AS (
    DELETE FROM jobs.waiting USING job
     WHERE waiting.task_queue_id = job.task_queue_id AND waiting.priority = 9 - job.priority
       AND waiting.job_id = job.job_id
), lease AS (
    DELETE FROM jobs.running WHERE job_id IN (
        SELECT r.job_id FROM jobs.running r JOIN job USING (job_id) ORDER BY r.job_id FOR UPDATE OF r)
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source, reason)
    SELECT job_id, %(vo_id)s::integer, attempt, 'killed', 'killed by ' || %(source)s::text, %(source)s::text,
           %(reason)s::text
      FROM job ORDER BY job_id
)
SELECT job_id FROM job ORDER BY job_id;

-- name: reschedule_jobs
-- A person's order starts the count of the automatic ones anew.
WITH job AS (
    UPDATE jobs.job SET status = 'waiting', minor_status = 'rescheduled by ' || %(source)s::text, reschedules = 0,
           ended_at = NULL, updated_at = now()
     WHERE job_id = ANY (%(job_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer
       AND status = ANY (%(sources)s::jobs.job_status[])
    RETURNING job_id, task_queue_id, priority, attempt
), lease AS (
    DELETE FROM jobs.running WHERE job_id IN (
        SELECT r.job_id FROM jobs.running r JOIN job USING (job_id) ORDER BY r.job_id FOR UPDATE OF r)
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id)
    SELECT task_queue_id, 9 - priority, job_id FROM job ORDER BY 1, 2, 3
), history AS (
    INSERT INTO jobs.job_history (job_id, vo_id, at, attempt, status, minor_status, source, reason)
    SELECT job.job_id, %(vo_id)s::integer, clock_timestamp() + step.n * interval '1 microsecond', job.attempt,
           step.status, 'rescheduled by ' || %(source)s::text, %(source)s::text, step.reason
      FROM job CROSS JOIN (VALUES (0, 'rescheduled'::jobs.job_status, %(reason)s::text), (1, 'waiting', ''))
           AS step (n, status, reason)
     ORDER BY job.job_id, step.n
)
SELECT job_id FROM job ORDER BY job_id;

---------------------------------------------------------------------------------------------------- logs

-- name: find_log_end
-- Where the stored bytes of a stream end; no row when the pilot does not hold the attempt.
SELECT coalesce((SELECT l.position + octet_length(l.data) FROM jobs.job_log l
                  WHERE l.job_id = r.job_id AND l.attempt = r.attempt AND l.stream = %(stream)s::jobs.log_stream
                  ORDER BY l.position DESC LIMIT 1), 0) AS log_end
  FROM jobs.running r
 WHERE r.job_id = %(job_id)s::bigint AND r.attempt = %(attempt)s::integer AND r.pilot_id = %(pilot_id)s::bigint
   AND r.vo_id = %(vo_id)s::integer;

-- name: find_stored_log_end
-- Where the stored bytes of a stream end, whoever asks.
SELECT l.position + octet_length(l.data) AS log_end
  FROM jobs.job_log l
 WHERE l.job_id = %(job_id)s::bigint AND l.attempt = %(attempt)s::integer AND l.stream = %(stream)s::jobs.log_stream
   AND l.vo_id = %(vo_id)s::integer
 ORDER BY l.position DESC LIMIT 1;

-- name: insert_log
-- The same chunk again changes nothing.
INSERT INTO jobs.job_log (job_id, attempt, stream, position, vo_id, data)
VALUES (%(job_id)s::bigint, %(attempt)s::integer, %(stream)s::jobs.log_stream, %(position)s::bigint, %(vo_id)s::integer,
        %(data)s::bytea)
ON CONFLICT DO NOTHING;

-- name: read_log
-- From the chunk that holds the position on.
SELECT l.position, l.data
  FROM jobs.job_log l
 WHERE l.job_id = %(job_id)s::bigint AND l.attempt = %(attempt)s::integer AND l.stream = %(stream)s::jobs.log_stream
   AND l.vo_id = %(vo_id)s::integer
   AND l.position >= coalesce((SELECT max(b.position) FROM jobs.job_log b
                                WHERE b.job_id = %(job_id)s::bigint AND b.attempt = %(attempt)s::integer
                                  AND b.stream = %(stream)s::jobs.log_stream
                                  AND b.position <= %(position)s::bigint), 0)
 ORDER BY l.position LIMIT %(limit)s::integer;

---------------------------------------------------------------------------------------------------- sandboxes

-- name: insert_sandbox
-- The same content again is the same sandbox, which counts as new.
INSERT INTO jobs.sandbox (vo_id, owner_id, sha256, size_bytes)
VALUES (%(vo_id)s::integer, %(owner_id)s::integer, decode(%(sha256)s::text, 'hex'), %(size_bytes)s::bigint)
ON CONFLICT ON CONSTRAINT sandbox_unique DO UPDATE SET created_at = now()
RETURNING sandbox_id;

-- name: lock_blob
-- every VO: the name holds the VO. Who writes or removes a blob holds this until the row beside it is committed.
SELECT pg_advisory_xact_lock(hashtextextended(%(name)s::text, 7351970));

-- name: find_sandboxes
-- Sandboxes of the VO by id.
SELECT sandbox_id, vo_id, owner_id, encode(sha256, 'hex') AS sha256, size_bytes
  FROM jobs.sandbox
 WHERE sandbox_id = ANY (%(sandbox_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer
 ORDER BY sandbox_id;

-- name: list_sandboxes_of_arrays
-- The input sandboxes of arrays.
SELECT a.array_id, s.sandbox_id, encode(s.sha256, 'hex') AS sha256, s.size_bytes
  FROM jobs.array_sandbox a JOIN jobs.sandbox s USING (sandbox_id)
 WHERE a.array_id = ANY (%(array_ids)s::bigint[]) AND s.vo_id = %(vo_id)s::integer
 ORDER BY a.array_id, s.sandbox_id;

-- name: find_sandbox_of_attempt
-- An input sandbox of a job that the pilot holds now, and of no other.
SELECT s.sandbox_id, s.vo_id, s.owner_id, encode(s.sha256, 'hex') AS sha256, s.size_bytes
  FROM jobs.running r
  JOIN jobs.job j ON j.job_id = r.job_id
  JOIN jobs.array_sandbox a ON a.array_id = j.array_id AND a.sandbox_id = %(sandbox_id)s::bigint
  JOIN jobs.sandbox s ON s.sandbox_id = a.sandbox_id
 WHERE r.job_id = %(job_id)s::bigint AND r.attempt = %(attempt)s::integer AND r.pilot_id = %(pilot_id)s::bigint
   AND r.vo_id = %(vo_id)s::integer;

-- name: find_output_sandbox
-- What the newest attempt that left one left behind.
SELECT o.sandbox_id, o.attempt, s.size_bytes, o.missing
  FROM jobs.output_sandbox o JOIN jobs.sandbox s USING (sandbox_id)
 WHERE o.job_id = %(job_id)s::bigint AND o.vo_id = %(vo_id)s::integer
 ORDER BY o.attempt DESC LIMIT 1;

-- name: delete_unused_sandboxes
-- every VO: the daily sweep.
DELETE FROM jobs.sandbox s
 WHERE s.created_at < %(before)s::timestamptz
   AND NOT EXISTS (SELECT FROM jobs.array_sandbox a WHERE a.sandbox_id = s.sandbox_id)
   AND NOT EXISTS (SELECT FROM jobs.output_sandbox o WHERE o.sandbox_id = s.sandbox_id);

-- name: list_known_blobs
-- every VO: the daily sweep looks at files of all.
SELECT b.name
  FROM unnest(%(names)s::text[], %(vo_ids)s::integer[], %(owner_ids)s::integer[], %(sha256s)s::text[])
       AS b (name, vo_id, owner_id, sha256)
  JOIN jobs.sandbox s ON s.owner_id = b.owner_id AND s.vo_id = b.vo_id AND s.sha256 = decode(b.sha256, 'hex');

---------------------------------------------------------------------------------------------------- looking

-- name: find_job
-- One job in full.
SELECT j.job_id, j.array_id, j.array_index, a.size AS array_size, a.name, v.name AS vo, u.name AS owner,
       g.name AS "group", j.status, j.minor_status, j.application_status, j.priority, j.attempt, j.reschedules,
       s.name AS site, j.pilot_id, j.exit_code, j.submitted_at, j.started_at, j.ended_at, j.updated_at, j.cpu_s, j.wall_s,
       j.max_rss_bytes, j.task_queue_id, j.owner_id, j.group_id, j.parameters::text AS parameters, a.spec::text AS spec,
       ARRAY(SELECT o.lfn FROM jobs.output_file o WHERE o.job_id = j.job_id ORDER BY o.lfn) AS output_files
  FROM jobs.job j
  JOIN jobs.job_array a USING (array_id)
  JOIN identity.vo v ON v.vo_id = j.vo_id
  JOIN identity.user_account u ON u.user_id = j.owner_id
  JOIN identity.vo_group g ON g.group_id = j.group_id
  LEFT JOIN resources.site s ON s.site_id = j.site_id
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: list_history
-- Every change of state, the oldest first.
SELECT at, attempt, status, minor_status, source, reason
  FROM jobs.job_history
 WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer
 ORDER BY at;

-- name: count_jobs
-- Jobs by status.
SELECT j.status, count(*) AS jobs
  FROM jobs.job j
 WHERE j.vo_id = %(vo_id)s::integer
   AND (j.job_id = ANY (%(job_ids)s::bigint[]) OR j.array_id = ANY (%(array_ids)s::bigint[]))
 GROUP BY j.status ORDER BY j.status;

-- name: list_known_ids
-- Which of these jobs and arrays the VO has.
SELECT 'job' AS kind, j.job_id AS id, j.array_id
  FROM jobs.job j WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
UNION ALL
SELECT 'array', a.array_id, a.array_id
  FROM jobs.job_array a WHERE a.vo_id = %(vo_id)s::integer AND a.array_id = ANY (%(array_ids)s::bigint[]);

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
