-- The statements of sandboxes.

-- name: keep_sandbox
-- The upload has become a sandbox. The same content again is the same sandbox, which counts as new.
WITH arrived AS (
    DELETE FROM jobs.upload
     WHERE vo_id = %(vo_id)s::integer AND owner_id = %(owner_id)s::integer AND sha256 = decode(%(sha256)s::text, 'hex')
), sandbox AS (
    INSERT INTO jobs.sandbox (vo_id, owner_id, sha256, size_bytes)
    VALUES (%(vo_id)s::integer, %(owner_id)s::integer, decode(%(sha256)s::text, 'hex'), %(size_bytes)s::bigint)
    ON CONFLICT ON CONSTRAINT sandbox_unique DO UPDATE SET created_at = now()
    RETURNING sandbox_id, vo_id, owner_id, size_bytes, xmax = 0 AS is_new
), counted AS (
    INSERT INTO jobs.sandbox_use (vo_id, owner_id, used_bytes)
    SELECT vo_id, owner_id, size_bytes FROM sandbox WHERE is_new
    ON CONFLICT (vo_id, owner_id) DO UPDATE SET used_bytes = sandbox_use.used_bytes + excluded.used_bytes
)
SELECT sandbox_id FROM sandbox;

-- name: lock_quota
-- Who adds to what a VO stores takes turns for a moment.
SELECT pg_advisory_xact_lock(7351972, %(vo_id)s::integer);

-- name: find_use
-- What sandboxes and unfinished uploads take: of the VO, and of one user. One statement, so that it sees each once.
SELECT (SELECT coalesce(sum(u.used_bytes), 0) FROM jobs.sandbox_use u WHERE u.vo_id = %(vo_id)s::integer)::bigint
       + (SELECT coalesce(sum(p.size_bytes), 0) FROM jobs.upload p WHERE p.vo_id = %(vo_id)s::integer)::bigint AS used_bytes,
       (SELECT coalesce(sum(u.used_bytes), 0) FROM jobs.sandbox_use u
         WHERE u.vo_id = %(vo_id)s::integer AND u.owner_id = %(owner_id)s::integer)::bigint
       + (SELECT coalesce(sum(p.size_bytes), 0) FROM jobs.upload p
           WHERE p.vo_id = %(vo_id)s::integer AND p.owner_id = %(owner_id)s::integer)::bigint AS user_used_bytes;

-- name: touch_sandbox
-- What its owner has already. It counts as new.
UPDATE jobs.sandbox SET created_at = now()
 WHERE owner_id = %(owner_id)s::integer AND vo_id = %(vo_id)s::integer AND sha256 = decode(%(sha256)s::text, 'hex')
RETURNING sandbox_id, encode(sha256, 'hex') AS sha256, size_bytes;

-- name: touch_upload
-- What its owner has begun to send already.
UPDATE jobs.upload SET touched_at = now()
 WHERE owner_id = %(owner_id)s::integer AND vo_id = %(vo_id)s::integer AND sha256 = decode(%(sha256)s::text, 'hex')
RETURNING upload_id::text AS upload_id, encode(sha256, 'hex') AS sha256, size_bytes, ends;

-- name: insert_upload
INSERT INTO jobs.upload (vo_id, owner_id, sha256, size_bytes)
VALUES (%(vo_id)s::integer, %(owner_id)s::integer, decode(%(sha256)s::text, 'hex'), %(size_bytes)s::bigint)
ON CONFLICT ON CONSTRAINT upload_unique DO UPDATE SET touched_at = now()
RETURNING upload_id::text AS upload_id, encode(sha256, 'hex') AS sha256, size_bytes, ends;

-- name: find_upload
SELECT upload_id::text AS upload_id, encode(sha256, 'hex') AS sha256, size_bytes, ends
  FROM jobs.upload
 WHERE upload_id = %(upload_id)s::uuid AND owner_id = %(owner_id)s::integer AND vo_id = %(vo_id)s::integer;

-- name: add_part
-- One of several that send the same part at once adds it.
UPDATE jobs.upload SET ends = ends || %(ends_at)s::bigint, touched_at = now()
 WHERE upload_id = %(upload_id)s::uuid AND owner_id = %(owner_id)s::integer AND vo_id = %(vo_id)s::integer
   AND coalesce(ends[cardinality(ends)], 0) = %(begins_at)s::bigint
RETURNING upload_id::text AS upload_id, encode(sha256, 'hex') AS sha256, size_bytes, ends;

-- name: delete_upload
DELETE FROM jobs.upload
 WHERE upload_id = %(upload_id)s::uuid AND owner_id = %(owner_id)s::integer AND vo_id = %(vo_id)s::integer;

-- name: expire_uploads
-- every VO: the sweep.
DELETE FROM jobs.upload WHERE touched_at < %(before)s::timestamptz;

-- name: list_known_uploads
-- every VO: the sweep looks at parts of all.
SELECT upload_id::text FROM jobs.upload WHERE upload_id::text = ANY (%(upload_ids)s::text[]);

-- name: refuse_output
-- The attempt goes on without an output sandbox; people are told where they look at the job.
WITH job AS (
    UPDATE jobs.job SET minor_status = 'output sandbox refused', updated_at = now()
     WHERE job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer AND vo_id = %(vo_id)s::integer
    RETURNING job_id, attempt, status
), refused AS (
    INSERT INTO jobs.refused_output (job_id, attempt, vo_id, code, detail)
    SELECT job_id, attempt, %(vo_id)s::integer, %(code)s::text, %(detail)s::text FROM job
    ON CONFLICT DO NOTHING RETURNING job_id
)
INSERT INTO jobs.job_history (job_id, vo_id, attempt, status, minor_status, source, reason)
SELECT job.job_id, %(vo_id)s::integer, job.attempt, job.status, 'output sandbox refused', %(source)s::text, %(detail)s::text
  FROM job JOIN refused USING (job_id);

-- name: find_refused_output
-- Of the newest attempt that had its output sandbox refused.
SELECT detail FROM jobs.refused_output
 WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer ORDER BY attempt DESC LIMIT 1;

-- name: lock_blob
-- every VO: the name holds the VO. Who removes a blob, or is about to write it, holds this until what it read of its
-- rows, or wrote there, is committed.
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

-- name: unlink_deleted_jobs
-- every VO: the sweep.
-- Deleted jobs name no sandboxes any more; what nobody else names is then swept at once.
WITH output AS (
    DELETE FROM jobs.output_sandbox o USING jobs.job j
     WHERE j.job_id = o.job_id AND j.status = 'deleted'
    RETURNING o.sandbox_id
), input AS (
    DELETE FROM jobs.array_sandbox s USING jobs.job_array a
     WHERE a.array_id = s.array_id
       AND NOT EXISTS (SELECT FROM jobs.job j
                        WHERE j.job_id BETWEEN a.first_job_id AND a.first_job_id + a.size - 1 AND j.status <> 'deleted')
    RETURNING s.sandbox_id
)
UPDATE jobs.sandbox SET created_at = '-infinity'
 WHERE sandbox_id IN (SELECT sandbox_id FROM output UNION ALL SELECT sandbox_id FROM input);

-- name: delete_unused_sandboxes
-- every VO: the sweep.
WITH unused AS (
    DELETE FROM jobs.sandbox s
     WHERE s.created_at < %(before)s::timestamptz
       AND NOT EXISTS (SELECT FROM jobs.array_sandbox a WHERE a.sandbox_id = s.sandbox_id)
       AND NOT EXISTS (SELECT FROM jobs.output_sandbox o WHERE o.sandbox_id = s.sandbox_id)
    RETURNING s.vo_id, s.owner_id, s.size_bytes
), counted AS (
    UPDATE jobs.sandbox_use u SET used_bytes = u.used_bytes - gone.size_bytes
      FROM (SELECT vo_id, owner_id, sum(size_bytes)::bigint AS size_bytes FROM unused GROUP BY vo_id, owner_id) gone
     WHERE u.vo_id = gone.vo_id AND u.owner_id = gone.owner_id
)
SELECT count(*) FROM unused;

-- name: list_known_blobs
-- every VO: the sweep looks at blobs of all. An upload's blob may be there before its row.
SELECT b.name
  FROM unnest(%(names)s::text[], %(vo_ids)s::integer[], %(owner_ids)s::integer[], %(sha256s)s::text[])
       AS b (name, vo_id, owner_id, sha256)
 WHERE EXISTS (SELECT FROM jobs.sandbox s WHERE s.owner_id = b.owner_id AND s.vo_id = b.vo_id
                  AND s.sha256 = decode(b.sha256, 'hex'))
    OR EXISTS (SELECT FROM jobs.upload u WHERE u.owner_id = b.owner_id AND u.vo_id = b.vo_id
                  AND u.sha256 = decode(b.sha256, 'hex'));
