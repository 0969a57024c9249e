-- name: insert_heartbeats
-- The first beat of a slot is its point; the others change nothing.
INSERT INTO jobs.heartbeat
       (job_id, attempt, slot_s, vo_id, wall_s, cpu_s, rss_bytes, disk_bytes, read_bytes, written_bytes)
SELECT given.job_id, given.attempt, given.slot_s, %(vo_id)s::integer, given.wall_s, given.cpu_s, given.rss_bytes,
       given.disk_bytes, given.read_bytes, given.written_bytes
  FROM unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(slots_s)s::integer[], %(wall_s)s::real[],
              %(cpu_s)s::real[], %(rss_bytes)s::bigint[], %(disk_bytes)s::bigint[], %(read_bytes)s::bigint[],
              %(written_bytes)s::bigint[])
       AS given (job_id, attempt, slot_s, wall_s, cpu_s, rss_bytes, disk_bytes, read_bytes, written_bytes)
  JOIN jobs.running r ON r.job_id = given.job_id AND r.attempt = given.attempt AND r.vo_id = %(vo_id)s::integer
                     AND r.pilot_id = %(pilot_id)s::bigint
    ON CONFLICT DO NOTHING;

-- name: thin_heartbeats
-- Every second point goes, since each stands for twice the time now.
DELETE FROM jobs.heartbeat h
 USING unnest(%(job_ids)s::bigint[], %(attempts)s::integer[], %(widths_s)s::integer[]) AS given (job_id, attempt, width_s)
 WHERE h.job_id = given.job_id AND h.attempt = given.attempt AND h.vo_id = %(vo_id)s::integer
   AND h.slot_s %% given.width_s <> 0;

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

-- name: list_peeks
-- What a pilot is asked and has not answered yet.
SELECT p.peek_id, p.job_id, p.attempt, p.path, p.position, p.size_bytes
  FROM jobs.peek p
 WHERE p.pilot_id = %(pilot_id)s::bigint AND p.vo_id = %(vo_id)s::integer AND p.answer IS NULL
   AND p.asked_at > now() - %(lifetime_s)s::integer * interval '1 second'
 ORDER BY p.peek_id LIMIT 20;

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
