-- The statements of the pilots system.
--
-- A change of state is a compare-and-set on the pilot's row; `ended_at` is set with every final state and never again.
-- Whoever ends a pilot updates its row first and releases its jobs after that, in one transaction; a match updates the
-- row as well, so that no job is given to a pilot that has ended.
-- The names of VOs, sites and elements are joined in from identity and resources for showing; nothing there is changed.

---------------------------------------------------------------------------------------------------- the factory

-- name: take_turn
-- every VO: the factory plans for all of them at once.
-- One factory plans at a time; the lock ends with the transaction that records the plan.
SELECT pg_try_advisory_xact_lock(hashtext('spinor.pilots.factory'));

-- name: insert_pilots
-- every VO: the factory writes for all of them; each row carries its own.
INSERT INTO pilots.pilot (vo_id, ce_id, secret_hash)
SELECT vo_id, ce_id, secret_hash
  FROM unnest(%(vo_ids)s::integer[], %(ce_ids)s::integer[], %(secret_hashes)s::bytea[])
       WITH ORDINALITY AS new (vo_id, ce_id, secret_hash, ordinal)
 ORDER BY ordinal
RETURNING pilot_id, (SELECT name FROM identity.vo WHERE vo.vo_id = pilot.vo_id) AS vo, secret_hash;

-- name: record_submissions
-- every VO: the factory writes for all of them.
-- A pilot can have enrolled, or been cancelled, before its submitter came to tell of it; only the external id is missing then.
UPDATE pilots.pilot AS pilot
   SET external_id = told.external_id, submitted_at = now(),
       status = CASE WHEN pilot.status = 'new' THEN 'submitted' ELSE pilot.status END
  FROM unnest(%(pilot_ids)s::bigint[], %(external_ids)s::text[]) AS told (pilot_id, external_id)
 WHERE pilot.pilot_id = told.pilot_id AND pilot.external_id IS NULL
RETURNING pilot.pilot_id;

-- name: list_alive
-- every VO: room on a computing element is shared by all of them.
SELECT ce_id, vo_id, status::text AS status, offer,
       coalesce(offered_at > now() - make_interval(secs => %(fresh_s)s::double precision), false) AS fresh
  FROM pilots.pilot WHERE ended_at IS NULL;

-- name: list_records
-- every VO: the factory looks at all of them.
-- Pilots of one plan carry the same instant: they are one batch.
WITH batch AS (
    SELECT ce_id, vo_id, created_at, bool_or(jobs_taken > 0) AS fruitful, bool_and(ended_at IS NOT NULL) AS over,
           max(ended_at) AS ended_at
      FROM pilots.pilot
     WHERE created_at > now() - interval '15 minutes' AND status <> 'deleted'
     GROUP BY ce_id, vo_id, created_at
)
SELECT ce_id, vo_id, count(*) AS fruitless,
       extract(epoch FROM now() - max(ended_at))::double precision AS since_s
  FROM batch
 WHERE over AND NOT fruitful
   AND created_at > coalesce((SELECT max(good.created_at) FROM batch AS good
                               WHERE good.ce_id = batch.ce_id AND good.vo_id = batch.vo_id AND good.fruitful), '-infinity')
 GROUP BY ce_id, vo_id;

-- name: list_followed
-- every VO: the factory looks at all of them.
-- Cancelled pilots are followed for an hour more, until their computing element says that they are gone.
SELECT pilot_id, vo_id, ce_id, status::text AS status, external_id,
       extract(epoch FROM now() - created_at)::double precision AS age_s,
       extract(epoch FROM now() - enrolled_at)::double precision AS running_s,
       extract(epoch FROM now() - last_seen_at)::double precision AS silent_s
  FROM pilots.pilot WHERE ended_at IS NULL
UNION ALL
SELECT pilot_id, vo_id, ce_id, status::text, external_id,
       extract(epoch FROM now() - created_at)::double precision,
       extract(epoch FROM now() - enrolled_at)::double precision,
       extract(epoch FROM now() - last_seen_at)::double precision
  FROM pilots.pilot
 WHERE status = 'deleted' AND external_id IS NOT NULL AND ended_at > now() - interval '1 hour'
 ORDER BY pilot_id;

-- name: set_waiting
-- every VO: the factory writes for all of them.
UPDATE pilots.pilot SET status = 'waiting'
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND status = 'submitted';

-- name: end_pilots
-- every VO: the factory writes for all of them.
UPDATE pilots.pilot AS pilot
   SET status = told.status::pilots.pilot_status, reason = told.reason, ended_at = now()
  FROM unnest(%(pilot_ids)s::bigint[], %(sources)s::text[], %(statuses)s::text[], %(reasons)s::text[])
       AS told (pilot_id, source, status, reason)
 WHERE pilot.pilot_id = told.pilot_id AND pilot.status = told.source::pilots.pilot_status
RETURNING pilot.pilot_id;

-- name: insert_outputs
-- every VO: the factory writes for all of them; each row carries its pilot's.
INSERT INTO pilots.pilot_log (pilot_id, position, vo_id, data)
SELECT pilot.pilot_id, 0, pilot.vo_id, said.text
  FROM unnest(%(pilot_ids)s::bigint[], %(texts)s::bytea[]) AS said (pilot_id, text)
  JOIN pilots.pilot AS pilot USING (pilot_id)
ON CONFLICT DO NOTHING;

---------------------------------------------------------------------------------------------------- a pilot's life

-- name: enrol
-- every VO: a pilot proves itself with its secret, and its VO follows from that.
UPDATE pilots.pilot AS pilot
   SET status = 'running', enrolled_at = now(), last_seen_at = now(), offered_at = now(),
       offer = %(offer)s::jsonb, hostname = %(hostname)s::text
 WHERE pilot_id = %(pilot_id)s::bigint AND secret_hash = %(secret_hash)s::bytea
   AND enrolled_at IS NULL AND status IN ('new', 'submitted', 'waiting')
RETURNING (SELECT name FROM identity.vo WHERE vo.vo_id = pilot.vo_id);

-- name: find_enrolment
-- every VO: asked when an enrolment is refused, to say why to the holder of the right secret only.
SELECT status::text AS status, enrolled_at IS NOT NULL AS enrolled,
       secret_hash = %(secret_hash)s::bytea AS known
  FROM pilots.pilot WHERE pilot_id = %(pilot_id)s::bigint;

-- name: find_slot
SELECT pilot.pilot_id, site.name AS site, site.site_id, ce.name AS ce, ce.ce_id, pilot.vo_id,
       pilot.ended_at IS NOT NULL AS ended
  FROM pilots.pilot AS pilot
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE pilot.pilot_id = %(pilot_id)s::bigint AND pilot.vo_id = %(vo_id)s::integer;

-- name: lock_slots
-- every VO: pilots of several are served together; each gets jobs of its own only.
-- In order of their ids, as whoever changes several of them does.
SELECT pilot.pilot_id, site.name AS site, site.site_id, ce.name AS ce, ce.ce_id, pilot.vo_id, false AS ended
  FROM pilots.pilot AS pilot
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE pilot.pilot_id = ANY (%(pilot_ids)s::bigint[]) AND pilot.ended_at IS NULL
 ORDER BY pilot.pilot_id FOR NO KEY UPDATE OF pilot;

-- name: note_offers
-- every VO: pilots of several are served together.
UPDATE pilots.pilot
   SET offer = told.offer::jsonb, offered_at = now(), last_seen_at = now(), jobs_taken = jobs_taken + told.taken
  FROM unnest(%(pilot_ids)s::bigint[], %(offers)s::text[], %(taken)s::integer[]) AS told (pilot_id, offer, taken)
 WHERE pilot.pilot_id = told.pilot_id AND pilot.ended_at IS NULL;

-- name: note_seen
UPDATE pilots.pilot SET last_seen_at = now()
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer AND ended_at IS NULL
RETURNING pilot_id;

-- name: say_goodbye
UPDATE pilots.pilot SET status = 'done', reason = %(reason)s::text, ended_at = now(), last_seen_at = now()
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer AND status = 'running'
RETURNING pilot_id;

-- name: find_log_end
-- The lock makes two reports of one pilot take turns.
SELECT coalesce((SELECT log.position + octet_length(log.data) FROM pilots.pilot_log AS log
                  WHERE log.pilot_id = pilot.pilot_id ORDER BY log.position DESC LIMIT 1), 0)
  FROM pilots.pilot AS pilot
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer
   FOR NO KEY UPDATE;

-- name: insert_log
INSERT INTO pilots.pilot_log (pilot_id, position, vo_id, data)
VALUES (%(pilot_id)s::bigint, %(position)s::bigint, %(vo_id)s::integer, %(data)s::bytea);

---------------------------------------------------------------------------------------------------- for people

-- name: find_pilot
SELECT pilot.pilot_id, pilot.status::text AS status, ce.name AS computing_element, site.name AS site,
       pilot.external_id, pilot.hostname, pilot.created_at, pilot.submitted_at, pilot.enrolled_at, pilot.last_seen_at,
       pilot.ended_at, pilot.jobs_taken, pilot.offer, pilot.reason
  FROM pilots.pilot AS pilot
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE pilot.pilot_id = %(pilot_id)s::bigint AND pilot.vo_id = %(vo_id)s::integer;

-- name: read_log
SELECT position, data FROM pilots.pilot_log
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer
   AND position + octet_length(data) > %(position)s::bigint
 ORDER BY position LIMIT %(limit)s::integer;

-- name: cancel_pilots
UPDATE pilots.pilot SET status = 'deleted', reason = %(reason)s::text, ended_at = now()
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer AND ended_at IS NULL
RETURNING pilot_id;

-- name: list_states
SELECT pilot_id, status::text AS status FROM pilots.pilot
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer;
