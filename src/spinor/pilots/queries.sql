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
INSERT INTO pilots.pilot (vo_id, ce_id, secret_hash, purpose)
SELECT vo_id, ce_id, secret_hash, %(purpose)s::text
  FROM unnest(%(vo_ids)s::integer[], %(ce_ids)s::integer[], %(secret_hashes)s::bytea[])
       WITH ORDINALITY AS new (vo_id, ce_id, secret_hash, ordinal)
 ORDER BY ordinal
RETURNING pilot_id, vo_id, (SELECT name FROM identity.vo WHERE vo.vo_id = pilot.vo_id) AS vo, secret_hash;

-- name: record_submissions
-- every VO: the factory writes for all of them.
-- A pilot can have enrolled, or been cancelled, before its submitter came to tell of it; only the external id is missing then.
UPDATE pilots.pilot AS pilot
   SET external_id = told.external_id, submitted_at = now(),
       status = CASE WHEN pilot.status = 'new' THEN 'submitted' ELSE pilot.status END
  FROM unnest(%(pilot_ids)s::bigint[], %(external_ids)s::text[]) AS told (pilot_id, external_id)
 WHERE pilot.pilot_id = told.pilot_id AND pilot.external_id IS NULL
RETURNING pilot.pilot_id;

-- name: list_census
-- every VO: room on a computing element is shared by all of them.
-- A probe takes no job of others, so it is not on its way for anybody.
WITH lately AS (
    SELECT ce_id, vo_id, count(*) AS pilots FROM pilots.pilot
     WHERE created_at > now() - interval '1 minute' GROUP BY ce_id, vo_id
), probe AS (
    SELECT ce_id, vo_id, count(*) AS pilots FROM pilots.pilot
     WHERE purpose = 'probe' AND ended_at IS NULL AND status IN ('new', 'submitted', 'waiting')
     GROUP BY ce_id, vo_id
), alive AS (
    SELECT ce_id, vo_id, sum(pilots) AS alive,
           coalesce(sum(pilots) FILTER (WHERE status IN ('new', 'submitted', 'waiting')), 0) AS on_the_way
      FROM pilots.tally_now
     WHERE status IN ('new', 'submitted', 'waiting', 'running')
     GROUP BY ce_id, vo_id
)
SELECT ce_id, vo_id, coalesce(alive.alive, 0)::integer AS alive,
       (coalesce(alive.on_the_way, 0) - coalesce(probe.pilots, 0))::integer AS on_the_way,
       coalesce(lately.pilots, 0)::integer AS submitted_lately
  FROM alive FULL JOIN lately USING (ce_id, vo_id) LEFT JOIN probe USING (ce_id, vo_id);

-- name: list_idle
-- every VO: as above. Pilots that asked for jobs a moment ago, with what they had left.
SELECT ce_id, vo_id, offer, count(*)::integer AS count
  FROM pilots.pilot
 WHERE ended_at IS NULL AND status = 'running' AND purpose = 'work' AND drain_reason = ''
   AND offered_at > now() - make_interval(secs => %(fresh_s)s::double precision)
   AND (offer ->> 'cores')::integer > 0
 GROUP BY ce_id, vo_id, offer;

-- name: list_seen_offers
-- every VO: what machines are there is the same for all of them.
SELECT ce_id, offer FROM pilots.seen_offer WHERE at > now() - interval '7 days';

-- name: list_records
-- every VO: the factory looks at all of them.
-- Pilots of one plan carry the same instant: they are one batch.
WITH batch AS (
    SELECT ce_id, vo_id, created_at, bool_or(jobs_taken > 0) AS fruitful, bool_and(ended_at IS NOT NULL) AS over,
           max(ended_at) AS ended_at
      FROM pilots.pilot
     WHERE created_at > now() - interval '15 minutes' AND status <> 'deleted' AND purpose = 'work'
     GROUP BY ce_id, vo_id, created_at
)
SELECT ce_id, vo_id, count(*) AS fruitless,
       extract(epoch FROM now() - max(ended_at))::double precision AS since_s
  FROM batch
 WHERE over AND NOT fruitful
   AND created_at > coalesce((SELECT max(good.created_at) FROM batch AS good
                               WHERE good.ce_id = batch.ce_id AND good.vo_id = batch.vo_id AND good.fruitful), '-infinity')
 GROUP BY ce_id, vo_id;

-- name: note_trouble
-- every VO: the factory writes for all of them.
-- The pause doubles with each failure in a row: 10 s, 20 s, … up to half an hour. What still fails of an earlier try,
-- while the factory pauses, is no further failure.
INSERT INTO pilots.trouble AS t (ce_id, vo_id, failures, reason, next_try_at)
SELECT ce_id, vo_id, 1, reason, now() + interval '10 seconds'
  FROM unnest(%(ce_ids)s::integer[], %(vo_ids)s::integer[], %(reasons)s::text[]) AS told (ce_id, vo_id, reason)
ON CONFLICT (ce_id, vo_id) DO UPDATE
   SET failures = t.failures + 1, reason = excluded.reason, last_at = now(),
       next_try_at = now() + least(interval '30 minutes', interval '10 seconds' * power(2, least(t.failures, 20)))
 WHERE t.next_try_at <= now();

-- name: list_trouble
-- every VO: the factory looks at all of them.
SELECT ce_id, vo_id, failures, reason, last_at, next_try_at, next_try_at > now() AS paused FROM pilots.trouble;

-- name: list_trouble_of_vo
SELECT ce.name AS computing_element, site.name AS site, t.failures, t.reason, t.last_at, t.next_try_at
  FROM pilots.trouble AS t
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE t.vo_id = %(vo_id)s::integer;

-- name: forget_trouble
-- every VO: the factory writes for all of them.
DELETE FROM pilots.trouble WHERE (ce_id, vo_id) IN (
    SELECT ce_id, vo_id FROM pilots.pilot WHERE pilot_id = %(pilot_id)s::bigint);

-- name: fold_tally
-- every VO: the counts of all of them.
WITH taken AS (
    DELETE FROM pilots.tally_change RETURNING ce_id, vo_id, status, pilots
), summed AS (
    SELECT ce_id, vo_id, status, sum(pilots) AS pilots FROM taken GROUP BY ce_id, vo_id, status
)
INSERT INTO pilots.tally AS t (ce_id, vo_id, status, pilots)
SELECT ce_id, vo_id, status, pilots FROM summed ORDER BY ce_id, vo_id, status
ON CONFLICT (ce_id, vo_id, status) DO UPDATE SET pilots = t.pilots + excluded.pilots;

-- name: list_followed
-- every VO: the factory looks at all of them.
-- One that has ended is followed until its element says that it is gone: at once when it was cancelled, else a minute
-- later, since its process ends a moment after its good-bye. After a day nobody asks any more.
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
 WHERE ended_at > now() - interval '1 day' AND NOT is_settled
   AND (status = 'deleted' OR ended_at < now() - interval '1 minute')
 ORDER BY pilot_id;

-- name: withdraw_pilots
-- every VO: an element that is out of use is so for all of them.
UPDATE pilots.pilot SET status = 'deleted', reason = %(reason)s::text, ended_at = now()
 WHERE ce_id = ANY (%(ce_ids)s::integer[]) AND ended_at IS NULL AND purpose = 'work'
   AND status IN ('new', 'submitted', 'waiting')
RETURNING pilot_id;

-- name: settle_pilots
-- every VO: the factory writes for all of them.
UPDATE pilots.pilot SET is_settled = true
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND ended_at IS NOT NULL;

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
       offer = %(offer)s::jsonb, hostname = %(hostname)s::text, node = %(node)s::jsonb,
       hs23_per_core = nullif((%(offer)s::jsonb ->> 'hs23_per_core')::double precision, 0)
 WHERE pilot_id = %(pilot_id)s::bigint AND secret_hash = %(secret_hash)s::bytea
   AND enrolled_at IS NULL AND status IN ('new', 'submitted', 'waiting')
RETURNING (SELECT name FROM identity.vo WHERE vo.vo_id = pilot.vo_id);

-- name: note_seen_offer
-- every VO: what machines are there is the same for all of them.
INSERT INTO pilots.seen_offer AS seen (ce_id, offer)
SELECT ce_id, offer FROM pilots.pilot WHERE pilot_id = %(pilot_id)s::bigint AND purpose = 'work'
ON CONFLICT (ce_id) DO UPDATE SET offer = excluded.offer, at = now()
 WHERE seen.at < now() - interval '1 minute';

-- name: find_mask
-- every VO: a node is masked for all of them. A probe goes there all the same.
SELECT mask.reason FROM pilots.node_mask AS mask JOIN pilots.pilot AS pilot USING (ce_id, hostname)
 WHERE pilot.pilot_id = %(pilot_id)s::bigint AND pilot.purpose = 'work' AND mask.until > now();

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
SELECT pilot.pilot_id, site.name AS site, site.site_id, ce.name AS ce, ce.ce_id, pilot.vo_id, false AS ended,
       pilot.drain_reason <> '' AS drains
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
-- every VO: pilots of several are answered together.
-- In order of their ids, as whoever changes several of them does. Those that have ended are not in the answer.
WITH alive AS MATERIALIZED (
    SELECT pilot_id FROM pilots.pilot
     WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND ended_at IS NULL
     ORDER BY pilot_id FOR NO KEY UPDATE
)
UPDATE pilots.pilot AS pilot SET last_seen_at = now()
  FROM alive, resources.computing_element AS ce
 WHERE pilot.pilot_id = alive.pilot_id AND ce.ce_id = pilot.ce_id
RETURNING pilot.pilot_id, pilot.vo_id, pilot.ce_id, ce.name AS ce, pilot.purpose, pilot.drain_reason;

-- name: say_goodbye
UPDATE pilots.pilot SET status = 'done', reason = %(reason)s::text, ended_at = now(), last_seen_at = now()
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer AND status = 'running'
RETURNING pilot_id;

-- name: report_unfit
UPDATE pilots.pilot
   SET status = 'failed', reason = %(reason)s::text, diagnosis = %(diagnosis)s::jsonb, ended_at = now(),
       last_seen_at = now()
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer AND status = 'running'
RETURNING ce_id, (SELECT name FROM resources.computing_element AS ce WHERE ce.ce_id = pilot.ce_id) AS ce, hostname,
          purpose;

-- name: count_unfit
-- every VO: a node is bad for all of them. What was before the element came back into use does not count against it.
WITH back AS (
    SELECT max(st.since) AS at FROM resources.element_status AS st
      JOIN resources.computing_element AS ce ON st.kind = 'ce' AND st.name = ce.name
     WHERE ce.ce_id = %(ce_id)s::integer
)
SELECT count(*) FILTER (WHERE hostname = %(hostname)s::text)::integer AS on_node,
       count(DISTINCT CASE WHEN hostname = '' THEN pilot_id::text ELSE hostname END)
           FILTER (WHERE ended_at > coalesce(back.at, '-infinity'))::integer AS nodes
  FROM pilots.pilot CROSS JOIN back
 WHERE ce_id = %(ce_id)s::integer AND diagnosis IS NOT NULL
   AND ended_at > now() - make_interval(secs => %(window_s)s::double precision);

-- name: mask_node
-- every VO: see above.
INSERT INTO pilots.node_mask (ce_id, hostname, reason, actor, until)
VALUES (%(ce_id)s::integer, %(hostname)s::text, %(reason)s::text, %(actor)s::text,
        now() + make_interval(secs => %(lasting_s)s::double precision))
ON CONFLICT (ce_id, hostname) DO UPDATE
   SET reason = excluded.reason, actor = excluded.actor, until = excluded.until, since = now();

-- name: drain_node
-- every VO: see above. The pilots that are there now.
UPDATE pilots.pilot SET drain_reason = %(reason)s::text
 WHERE ce_id = %(ce_id)s::integer AND hostname = %(hostname)s::text AND ended_at IS NULL AND purpose = 'work'
   AND drain_reason = ''
RETURNING pilot_id;

-- name: list_masks
-- every VO: a node is masked for all of them; elements are those that the VO may use, or all.
SELECT ce.name AS computing_element, mask.hostname, mask.reason, mask.actor, mask.since, mask.until
  FROM pilots.node_mask AS mask JOIN resources.computing_element AS ce USING (ce_id)
 WHERE mask.until > now() AND (%(name)s::text = '' OR ce.name = %(name)s::text)
   AND EXISTS (SELECT FROM resources.computing_access AS a
                WHERE a.ce_id = ce.ce_id AND a.vo_id = %(vo_id)s::integer)
 ORDER BY ce.name, mask.hostname;

-- name: unmask_nodes
-- every VO: see above.
DELETE FROM pilots.node_mask AS mask USING resources.computing_element AS ce
 WHERE ce.ce_id = mask.ce_id AND ce.name = %(name)s::text AND mask.hostname = ANY (%(hostnames)s::text[])
RETURNING mask.hostname;

-- name: is_masked
-- every VO: see above.
SELECT EXISTS (SELECT FROM pilots.node_mask
                WHERE ce_id = %(ce_id)s::integer AND hostname = %(hostname)s::text AND until > now());

-- name: count_masks
-- every VO: see above.
SELECT count(*)::integer FROM pilots.node_mask AS mask
 WHERE ce_id = %(ce_id)s::integer AND until > now()
   AND mask.since > coalesce((SELECT st.since FROM resources.element_status AS st
                                JOIN resources.computing_element AS ce ON st.kind = 'ce' AND st.name = ce.name
                               WHERE ce.ce_id = mask.ce_id), '-infinity');

-- name: list_hosts
-- every VO: black holes are looked for everywhere.
SELECT pilot_id, ce_id, (SELECT name FROM resources.computing_element AS ce WHERE ce.ce_id = pilot.ce_id) AS ce, hostname
  FROM pilots.pilot WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND purpose = 'work';

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
       pilot.ended_at, pilot.jobs_taken, pilot.offer, pilot.reason, pilot.purpose, pilot.hs23_per_core, pilot.node,
       coalesce(pilot.diagnosis, '[]') AS diagnosis, pilot.drain_reason
  FROM pilots.pilot AS pilot
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE pilot.pilot_id = %(pilot_id)s::bigint AND pilot.vo_id = %(vo_id)s::integer;

-- name: read_log
SELECT position, data FROM pilots.pilot_log
 WHERE pilot_id = %(pilot_id)s::bigint AND vo_id = %(vo_id)s::integer
   AND position + octet_length(data) > %(position)s::bigint
 ORDER BY position LIMIT %(limit)s::integer;

-- name: count_alive
SELECT ce.name AS computing_element, site.name AS site, t.status::text AS status, t.pilots::integer AS pilots
  FROM pilots.tally_now AS t
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE t.vo_id = %(vo_id)s::integer AND t.status IN ('new', 'submitted', 'waiting', 'running') AND t.pilots > 0;

-- name: summarise_ended
SELECT ce.name AS computing_element, site.name AS site,
       count(*) FILTER (WHERE pilot.status = 'done')::integer AS done,
       count(*) FILTER (WHERE pilot.status = 'done' AND pilot.jobs_taken = 0)::integer AS empty,
       count(*) FILTER (WHERE pilot.status = 'failed')::integer AS failed,
       count(*) FILTER (WHERE pilot.status = 'aborted')::integer AS aborted,
       count(*) FILTER (WHERE pilot.status = 'deleted')::integer AS cancelled,
       sum(pilot.jobs_taken)::integer AS jobs
  FROM pilots.pilot AS pilot
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE pilot.vo_id = %(vo_id)s::integer AND pilot.created_at > %(since)s::timestamptz AND pilot.ended_at IS NOT NULL
 GROUP BY ce.name, site.name;

-- name: cancel_pilots
UPDATE pilots.pilot SET status = 'deleted', reason = %(reason)s::text, ended_at = now()
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer AND ended_at IS NULL
RETURNING pilot_id;

-- name: list_states
SELECT pilot_id, status::text AS status FROM pilots.pilot
 WHERE pilot_id = ANY (%(pilot_ids)s::bigint[]) AND vo_id = %(vo_id)s::integer;
