-- The statements of logs.

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
