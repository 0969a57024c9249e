-- The statements of logs and events.

-- name: find_log_end
-- Where the stored bytes of a stream end; no row when the pilot does not hold the attempt.
SELECT coalesce((SELECT l.position + octet_length(l.data) FROM jobs.job_log l
                  WHERE l.job_id = r.job_id AND l.attempt = r.attempt AND l.stream = %(stream)s::jobs.log_stream
                  ORDER BY l.position DESC LIMIT 1), 0) AS log_end
  FROM jobs.running r
 WHERE r.job_id = %(job_id)s::bigint AND r.attempt = %(attempt)s::integer AND r.pilot_id = %(pilot_id)s::bigint
   AND r.vo_id = %(vo_id)s::integer;

-- name: insert_log
-- The same chunk again changes nothing.
INSERT INTO jobs.job_log (job_id, attempt, stream, position, vo_id, data)
SELECT %(job_id)s::bigint, %(attempt)s::integer, %(stream)s::jobs.log_stream, given.position, %(vo_id)s::integer, given.data
  FROM unnest(%(positions)s::bigint[], %(data)s::bytea[]) AS given (position, data)
ON CONFLICT DO NOTHING;

-- name: trim_log
-- What is neither of the head nor of the tail.
DELETE FROM jobs.job_log
 WHERE job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer AND stream = %(stream)s::jobs.log_stream
   AND vo_id = %(vo_id)s::integer AND position >= %(head_bytes)s::bigint AND position < %(before)s::bigint;

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

-- name: find_kept_log
SELECT head_bytes, tail_position, frames, data, blob
  FROM jobs.kept_log
 WHERE job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer AND stream = %(stream)s::jobs.log_stream
   AND vo_id = %(vo_id)s::integer;

-- name: read_tail
-- The newest bytes, as rows of the running attempt, or as what was kept.
SELECT coalesce(
    (SELECT string_agg(l.data, NULL ORDER BY l.position)
       FROM (SELECT data, position FROM jobs.job_log
              WHERE job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer AND stream = %(stream)s::jobs.log_stream
                AND vo_id = %(vo_id)s::integer
              ORDER BY position DESC LIMIT 4) l),
    (SELECT k.last FROM jobs.kept_log k
      WHERE k.job_id = %(job_id)s::bigint AND k.attempt = %(attempt)s::integer AND k.stream = %(stream)s::jobs.log_stream
        AND k.vo_id = %(vo_id)s::integer)) AS data;

-- name: list_ended_logs
-- every VO: the chore that moves them.
-- Logs that nobody can add to any more: no pilot holds the attempt.
SELECT l.job_id, l.attempt, l.stream, min(l.vo_id) AS vo_id, sum(octet_length(l.data))::bigint AS size_bytes
  FROM jobs.job_log l
 WHERE NOT EXISTS (SELECT FROM jobs.running r WHERE r.job_id = l.job_id AND r.attempt = l.attempt)
 GROUP BY l.job_id, l.attempt, l.stream ORDER BY l.job_id, l.attempt, l.stream LIMIT %(limit)s::integer;

-- name: read_whole_logs
-- every VO: the chore that moves them.
SELECT l.job_id, l.attempt, l.stream::text, l.position, l.data
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(streams)s::jobs.log_stream[]) AS given (job_id, attempt, stream)
  JOIN jobs.job_log l USING (job_id, attempt, stream)
 ORDER BY l.job_id, l.attempt, l.stream, l.position;

-- name: keep_logs
-- every VO: the chore that moves them.
INSERT INTO jobs.kept_log (job_id, attempt, stream, vo_id, head_bytes, tail_position, end_position, frames, last, data, blob)
SELECT job_id, attempt, stream, vo_id, head_bytes, tail_position, end_position, frames::bigint[], last, data, blob
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(streams)s::jobs.log_stream[], %(vo_ids)s::integer[],
              %(heads)s::bigint[], %(tails)s::bigint[], %(ends)s::bigint[], %(frames)s::text[], %(last)s::bytea[],
              %(data)s::bytea[], %(blobs)s::text[])
       AS given (job_id, attempt, stream, vo_id, head_bytes, tail_position, end_position, frames, last, data, blob)
ON CONFLICT DO NOTHING;

-- name: delete_logs
-- every VO: the chore that moves them.
DELETE FROM jobs.job_log l
 USING unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(streams)s::jobs.log_stream[]) AS given (job_id, attempt, stream)
 WHERE l.job_id = given.job_id AND l.attempt = given.attempt AND l.stream = given.stream;

-- name: list_ranges
-- Jobs and arrays as ranges of ids.
SELECT j.array_id, j.job_id AS first, j.job_id AS last
  FROM jobs.job j WHERE j.vo_id = %(vo_id)s::integer AND j.job_id = ANY (%(job_ids)s::bigint[])
UNION ALL
SELECT a.array_id, a.first_job_id, a.first_job_id + a.size - 1
  FROM jobs.job_array a WHERE a.vo_id = %(vo_id)s::integer AND a.array_id = ANY (%(array_ids)s::bigint[]);

-- name: list_events_of_jobs
-- A job's changes have one order, that of their moments, since each of them holds the job's row. The first, of the
-- submission, is the array's own row.
SELECT j.job_id, a.submitted_at AS at, 0 AS attempt,
       CASE WHEN first.minor_status IS NULL THEN 'waiting' ELSE 'checking' END::jobs.job_status AS status,
       coalesce(first.minor_status, '') AS minor_status, u.name AS source, '' AS reason
  FROM unnest(%(job_ids)s::bigint[], %(after)s::timestamptz[]) AS given (job_id, after)
  JOIN jobs.job j ON j.job_id = given.job_id AND j.vo_id = %(vo_id)s::integer
  JOIN jobs.job_array a ON a.array_id = j.array_id AND a.submitted_at > given.after
  JOIN identity.user_account u ON u.user_id = a.owner_id
 CROSS JOIN LATERAL (SELECT CASE WHEN (a.spec::jsonb ->> 'hold')::boolean THEN 'held by ' || u.name
                                 WHEN a.spec::jsonb ? 'after' THEN 'waits for other jobs' END AS minor_status) first
UNION ALL
SELECT h.job_id, h.at, h.attempt, h.status, h.minor_status, h.source, h.reason
  FROM unnest(%(job_ids)s::bigint[], %(after)s::timestamptz[]) AS given (job_id, after)
  JOIN jobs.job_history h ON h.job_id = given.job_id AND h.at > given.after
 WHERE h.vo_id = %(vo_id)s::integer
 ORDER BY at, job_id LIMIT %(limit)s::integer;

-- name: list_events_since
SELECT h.job_id, h.at, h.attempt, h.status, h.minor_status, h.source, h.reason
  FROM jobs.job_history h
 WHERE h.vo_id = %(vo_id)s::integer AND h.at > %(after)s::timestamptz
   AND (%(all)s::boolean OR EXISTS (SELECT FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS given (first, last)
                                     WHERE h.job_id BETWEEN given.first AND given.last))
 ORDER BY h.at, h.job_id LIMIT %(limit)s::integer;

-- name: have_ended
SELECT NOT EXISTS (SELECT FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) AS given (first, last)
                     JOIN jobs.job j ON j.job_id BETWEEN given.first AND given.last
                    WHERE j.vo_id = %(vo_id)s::integer AND j.status <> ALL (%(final)s::jobs.job_status[]));
