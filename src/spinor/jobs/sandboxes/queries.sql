-- The statements of sandboxes.

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
