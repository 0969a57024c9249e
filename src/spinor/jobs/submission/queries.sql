-- The statements of submission.

-- name: insert_arrays
-- every VO: each row carries the VO of its own verified caller, and so does the digest of its queue.
-- All that submissions write; what arrays have in common is sent once, as their kind. What has no task queue yet, or a
-- key that is taken, is not written and has no row in the answer; with `together`, nothing is written then. The caller
-- does what is needed and asks again. The jobs' first history line is the array's own row. Looking for a conflict costs
-- a lock and a record of the log for each row, so those without a key are written apart.
WITH queue AS (
    SELECT task_queue_id, digest FROM jobs.task_queue WHERE digest = ANY (%(distinct_digests)s::bytea[])
), ids AS MATERIALIZED (
    SELECT jobs.take_ids(%(jobs)s::bigint) AS first
), kind AS (
    SELECT k.*, queue.task_queue_id
      FROM unnest(%(vo_ids)s::integer[], %(owner_ids)s::integer[], %(group_ids)s::integer[], %(job_groups)s::text[],
                  %(job_types)s::text[], %(digests)s::bytea[], %(priorities)s::smallint[],
                  %(statuses)s::jobs.job_status[], %(minor_statuses)s::text[], %(deadlines)s::timestamptz[],
                  %(retries)s::text[]) WITH ORDINALITY
           AS k (vo_id, owner_id, group_id, job_group, job_type, digest, priority, status, minor_status, deadline_at,
                 retries, kind)
      JOIN queue USING (digest)
     WHERE NOT %(together)s::boolean OR (SELECT count(*) FROM queue) = cardinality(%(distinct_digests)s::bytea[])
), new AS MATERIALIZED (
    SELECT nextval('jobs.job_array_array_id_seq') AS array_id,
           ids.first + sum(a.size) OVER (ORDER BY a.ordinal) - a.size AS first_job_id, a.ordinal, a.size,
           k.vo_id, k.owner_id, k.group_id, k.task_queue_id, k.status, k.priority, k.minor_status, a.key, a.name,
           k.job_group, k.job_type, k.deadline_at, k.retries::smallint[] AS retries, a.spec
      FROM unnest(%(kinds)s::integer[], %(names)s::text[], %(sizes)s::integer[], %(specs)s::text[], %(keys)s::text[])
           WITH ORDINALITY AS a (kind, name, size, spec, key, ordinal)
      JOIN kind k USING (kind)
     CROSS JOIN ids
), plain AS (
    INSERT INTO jobs.job_array (array_id, vo_id, owner_id, group_id, first_job_id, size, name, job_group, job_type, spec,
                                deadline_at, retries)
    OVERRIDING SYSTEM VALUE
    SELECT array_id, vo_id, owner_id, group_id, first_job_id, size, name, job_group, job_type, spec, deadline_at, retries
      FROM new WHERE key IS NULL ORDER BY ordinal
), keyed AS (
    INSERT INTO jobs.job_array (array_id, vo_id, owner_id, group_id, first_job_id, size, name, job_group, job_type, spec,
                                deadline_at, retries, idempotency_key)
    OVERRIDING SYSTEM VALUE
    SELECT array_id, vo_id, owner_id, group_id, first_job_id, size, name, job_group, job_type, spec, deadline_at, retries,
           key
      FROM new WHERE key IS NOT NULL ORDER BY ordinal
    ON CONFLICT (owner_id, vo_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING array_id
), made AS NOT MATERIALIZED (
    SELECT * FROM new WHERE key IS NULL OR array_id IN (SELECT array_id FROM keyed)
), element AS (
    INSERT INTO jobs.array_parameters (array_id, block, vo_id, elements)
    SELECT made.array_id, p.block, made.vo_id, p.elements
      FROM unnest(%(block_ordinals)s::integer[], %(blocks)s::integer[], %(elements)s::jsonb[])
           AS p (ordinal, block, elements)
      JOIN made USING (ordinal)
), sandbox AS (
    INSERT INTO jobs.array_sandbox (array_id, sandbox_id)
    SELECT made.array_id, s.sandbox_id
      FROM unnest(%(sandbox_ordinals)s::integer[], %(sandbox_ids)s::bigint[]) AS s (ordinal, sandbox_id)
      JOIN made USING (ordinal)
), job AS (
    INSERT INTO jobs.job (job_id, array_id, vo_id, owner_id, group_id, array_index, task_queue_id, status, minor_status,
                          priority)
    SELECT generate_series(first_job_id, first_job_id + size - 1), array_id, vo_id, owner_id, group_id,
           generate_series(0, size - 1), task_queue_id, status, minor_status, priority
      FROM made
), queued AS (
    INSERT INTO jobs.waiting (task_queue_id, priority, job_id)
    SELECT task_queue_id, 9 - priority, generate_series(first_job_id, first_job_id + size - 1)
      FROM made WHERE status = 'waiting'
), counted AS (
    INSERT INTO jobs.tally_change (task_queue_id, ce_id, status, jobs, cores)
    SELECT task_queue_id, 0, status, sum(size), 0 FROM made GROUP BY task_queue_id, status
)
SELECT array_id, first_job_id AS first, first_job_id + size - 1 AS last, ordinal FROM made ORDER BY ordinal;

-- name: insert_task_queues
-- A second writer of the same queue waits here for the first one, and then finds it made.
INSERT INTO jobs.task_queue (vo_id, owner_id, group_id, wants, digest)
SELECT %(vo_id)s::integer, (q->>'owner_id')::integer, (q->>'group_id')::integer, q, q_digest
  FROM unnest(%(queues)s::jsonb[], %(digests)s::bytea[]) AS u (q, q_digest)
 ORDER BY q_digest
ON CONFLICT ON CONSTRAINT task_queue_digest_unique DO NOTHING;

-- name: find_task_queue
SELECT task_queue_id FROM jobs.task_queue WHERE digest = %(digest)s::bytea AND vo_id = %(vo_id)s::integer;

-- name: find_requirements
SELECT wants FROM jobs.task_queue WHERE task_queue_id = %(task_queue_id)s::integer AND vo_id = %(vo_id)s::integer;

-- name: find_arrays_by_key
-- The arrays of an earlier call with the same idempotency keys.
SELECT array_id, name, size, spec, first_job_id
  FROM jobs.job_array
 WHERE vo_id = %(vo_id)s::integer AND owner_id = %(owner_id)s::integer AND idempotency_key = ANY (%(keys)s::text[])
 ORDER BY array_id;

-- name: find_upstream
-- Jobs and arrays of the VO that others are to wait for, as ranges of jobs.
SELECT 'job' AS kind, j.job_id AS id, j.job_id AS first, j.job_id AS last
  FROM jobs.job j WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
UNION ALL
SELECT 'array', a.array_id, a.first_job_id, a.first_job_id + a.size - 1
  FROM jobs.job_array a WHERE a.vo_id = %(vo_id)s::integer AND a.array_id = ANY (%(array_ids)s::bigint[]);

-- name: insert_dependencies
INSERT INTO jobs.dependency (array_id, first_job_id, last_job_id, condition, each, vo_id, open_from)
SELECT array_id, first, last, condition, each, %(vo_id)s::integer, first
  FROM unnest(%(array_ids)s::bigint[], %(firsts)s::bigint[], %(lasts)s::bigint[], %(conditions)s::jobs.condition[],
              %(eaches)s::boolean[]) AS d (array_id, first, last, condition, each)
ON CONFLICT (array_id, first_job_id) DO NOTHING;

-- name: insert_notifications
INSERT INTO jobs.notification (vo_id, array_id, condition, email, webhook)
SELECT %(vo_id)s::integer, array_id, condition, email, webhook
  FROM unnest(%(array_ids)s::bigint[], %(conditions)s::jobs.condition[], %(emails)s::text[], %(webhooks)s::text[])
       AS n (array_id, condition, email, webhook);
