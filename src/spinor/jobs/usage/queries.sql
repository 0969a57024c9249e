-- name: insert_heartbeats
-- every VO: pilots of several are answered together; each tells of its own attempts only.
-- The first beat of a slot is its point; the others change nothing.
INSERT INTO jobs.heartbeat
       (job_id, attempt, slot_s, vo_id, wall_s, cpu_s, rss_bytes, disk_bytes, read_bytes, written_bytes)
SELECT given.job_id, given.attempt, given.slot_s, given.vo_id, given.wall_s, given.cpu_s, given.rss_bytes,
       given.disk_bytes, given.read_bytes, given.written_bytes
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(pilot_ids)s::bigint[], %(vo_ids)s::integer[],
              %(slots_s)s::integer[], %(wall_s)s::real[], %(cpu_s)s::real[], %(rss_bytes)s::bigint[],
              %(disk_bytes)s::bigint[], %(read_bytes)s::bigint[], %(written_bytes)s::bigint[])
       AS given (job_id, attempt, pilot_id, vo_id, slot_s, wall_s, cpu_s, rss_bytes, disk_bytes, read_bytes, written_bytes)
  JOIN jobs.running r ON r.job_id = given.job_id AND r.attempt = given.attempt AND r.vo_id = given.vo_id
                     AND r.pilot_id = given.pilot_id
    ON CONFLICT DO NOTHING;

-- name: thin_heartbeats
-- every VO: pilots of several are answered together; these attempts are theirs.
-- Every second point goes, since each stands for twice the time now.
DELETE FROM jobs.heartbeat h
 USING unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(widths_s)s::integer[]) AS given (job_id, attempt, width_s)
  JOIN jobs.running r ON r.job_id = given.job_id AND r.attempt = given.attempt
 WHERE h.job_id = given.job_id AND h.attempt = given.attempt AND h.slot_s %% given.width_s <> 0;

-- name: list_heartbeats
SELECT at, wall_s, cpu_s, rss_bytes, disk_bytes, read_bytes, written_bytes
  FROM jobs.heartbeat
 WHERE job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer AND vo_id = %(vo_id)s::integer
 ORDER BY slot_s;

-- name: forget_heartbeats
-- every VO: the daily sweep.
DELETE FROM jobs.heartbeat
 WHERE (job_id, attempt, slot_s) IN (SELECT job_id, attempt, slot_s FROM jobs.heartbeat
                                      WHERE at < %(before)s::timestamptz LIMIT %(limit)s::integer);

-- name: insert_peek
-- Only what runs now can be looked at; no row when nothing does.
INSERT INTO jobs.peek (vo_id, job_id, attempt, pilot_id, path, position, size_bytes)
SELECT r.vo_id, r.job_id, r.attempt, r.pilot_id, %(path)s::text, %(position)s::bigint, %(size_bytes)s::integer
  FROM jobs.running r
 WHERE r.job_id = %(job_id)s::bigint AND r.vo_id = %(vo_id)s::integer
RETURNING peek_id, job_id, attempt, pilot_id;

-- name: take_peeks
-- every VO: pilots of several are answered together; each is asked for its own attempts only.
-- What a pilot is asked and has not answered yet. It is asked again after some seconds, as the answer to its heartbeat may
-- have been lost.
UPDATE jobs.peek SET told_at = now()
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND answer IS NULL
   AND asked_at > now() - %(lifetime_s)s::integer * interval '1 second'
   AND (told_at IS NULL OR told_at < now() - interval '5 seconds')
RETURNING pilot_id, peek_id, job_id, attempt, path, position, size_bytes;

-- name: answer_peek
UPDATE jobs.peek SET answer = %(answer)s::text::jsonb
 WHERE peek_id = %(peek_id)s::bigint AND job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer
   AND pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer AND answer IS NULL
   AND asked_at > now() - %(lifetime_s)s::integer * interval '1 second'
RETURNING peek_id;

-- name: find_peek_answer
SELECT answer::text FROM jobs.peek WHERE peek_id = %(peek_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: delete_peek
DELETE FROM jobs.peek WHERE peek_id = %(peek_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: forget_peeks
-- every VO: what servers that were killed have left behind.
DELETE FROM jobs.peek WHERE asked_at < now() - interval '10 minutes';

-- name: list_attempts
-- Those that ended and the one that a pilot holds, with the node that its pilot named. Pilots know jobs and not the other
-- way round: their table is only read here, to tell people.
SELECT e.attempt, e.status::text AS status, e.error_class::text AS error_class, '' AS minor_status, s.name AS site,
       c.name AS computing_element, e.pilot_id, coalesce(p.hostname, '') AS node, e.cores, e.started_at, e.ended_at,
       e.exit_code, e.cpu_s, e.wall_s, e.max_rss_bytes, o.sandbox_id AS output_sandbox_id,
       coalesce(f.detail, '') AS output_refused
  FROM jobs.ended_attempt e
  LEFT JOIN resources.computing_element c USING (ce_id)
  LEFT JOIN resources.site s USING (site_id)
  LEFT JOIN pilots.pilot p ON p.pilot_id = e.pilot_id AND p.vo_id = e.vo_id
  LEFT JOIN jobs.output_sandbox o ON o.job_id = e.job_id AND o.attempt = e.attempt
  LEFT JOIN jobs.refused_output f ON f.job_id = e.job_id AND f.attempt = e.attempt
 WHERE e.job_id = %(job_id)s::bigint AND e.vo_id = %(vo_id)s::integer
UNION ALL
SELECT r.attempt, j.status::text, NULL, j.minor_status, s.name, c.name, r.pilot_id, coalesce(p.hostname, ''), r.cores,
       j.started_at, NULL, NULL, j.cpu_s, j.wall_s, j.max_rss_bytes, NULL, coalesce(f.detail, '')
  FROM jobs.running r
  JOIN jobs.job j USING (job_id)
  LEFT JOIN resources.computing_element c ON c.ce_id = r.ce_id
  LEFT JOIN resources.site s ON s.site_id = c.site_id
  LEFT JOIN pilots.pilot p ON p.pilot_id = r.pilot_id AND p.vo_id = r.vo_id
  LEFT JOIN jobs.refused_output f ON f.job_id = r.job_id AND f.attempt = r.attempt
 WHERE r.job_id = %(job_id)s::bigint AND r.vo_id = %(vo_id)s::integer
 ORDER BY attempt;

-- name: find_job_limits
-- The newest attempt, and what the job was promised.
SELECT j.attempt, coalesce((q.wants ->> 'memory_bytes')::bigint, 0) AS memory_bytes,
       coalesce((q.wants ->> 'disk_bytes')::bigint, 0) AS disk_bytes,
       coalesce(r.cores::integer, (q.wants ->> 'cores')::integer, 1) AS cores
  FROM jobs.job j
  JOIN jobs.task_queue q USING (task_queue_id)
  LEFT JOIN jobs.running r ON r.job_id = j.job_id
 WHERE j.job_id = %(job_id)s::bigint AND j.vo_id = %(vo_id)s::integer;

-- name: find_owner
SELECT owner_id, status, minor_status FROM jobs.job WHERE job_id = %(job_id)s::bigint AND vo_id = %(vo_id)s::integer;

-- name: is_held
SELECT true FROM jobs.running
 WHERE job_id = %(job_id)s::bigint AND attempt = %(attempt)s::integer AND pilot_id = %(pilot_id)s::bigint
   AND vo_id = %(vo_id)s::integer;
