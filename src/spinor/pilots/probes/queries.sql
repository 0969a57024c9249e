-- The statements of probes. A probe belongs to the VO whose pilot it is; what it decides is every VO's.

-- name: insert_probes
INSERT INTO pilots.probe (vo_id, ce_id, actor, owner_id, group_id, decides_kind, decides_name, se, timeout_s)
SELECT %(vo_id)s::integer, ce_id, %(actor)s::text, %(owner_id)s::integer, %(group_id)s::integer,
       %(decides_kind)s::text, %(decides_name)s::text, %(se)s::text, %(timeout_s)s::integer
  FROM unnest(%(ce_ids)s::integer[]) AS ce_id
RETURNING probe_id;

-- name: list_open
-- every VO: the chore works on all of them.
SELECT p.probe_id, p.vo_id, p.ce_id, ce.name AS ce, site.name AS site, p.actor, p.owner_id, p.group_id, p.decides_kind,
       p.decides_name, p.se, p.timeout_s, p.phase, p.pilot_id, p.job_id, p.said, p.running_at, p.prelude, p.version,
       p.steps, extract(epoch FROM now() - p.created_at)::double precision AS age_s
  FROM pilots.probe AS p
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE p.ended_at IS NULL ORDER BY p.probe_id;

-- name: begin
-- every VO: see above. One worker alone carries out the first steps.
UPDATE pilots.probe SET phase = 'submitting' WHERE probe_id = %(probe_id)s::bigint AND phase = 'new' RETURNING probe_id;

-- name: set_pilot
-- every VO: see above.
UPDATE pilots.probe SET phase = 'following', pilot_id = %(pilot_id)s::bigint, job_id = %(job_id)s::bigint,
       prelude = %(prelude)s::jsonb
 WHERE probe_id = %(probe_id)s::bigint;

-- name: set_prelude
-- every VO: see above.
UPDATE pilots.probe SET prelude = %(prelude)s::jsonb WHERE probe_id = %(probe_id)s::bigint;

-- name: set_said
-- every VO: see above.
UPDATE pilots.probe SET said = %(said)s::text,
       running_at = CASE WHEN %(started)s::boolean THEN coalesce(running_at, now()) ELSE running_at END
 WHERE probe_id = %(probe_id)s::bigint;

-- name: set_steps
-- every VO: see above.
UPDATE pilots.probe SET steps = %(steps)s::jsonb, version = version + 1, succeeded = %(succeeded)s::boolean,
       ended_at = CASE WHEN %(succeeded)s::boolean IS NULL THEN NULL ELSE now() END,
       phase = CASE WHEN %(succeeded)s::boolean IS NULL THEN phase ELSE 'ended' END
 WHERE probe_id = %(probe_id)s::bigint AND ended_at IS NULL
RETURNING probe_id;

-- name: find_pilot_facts
-- every VO: see above.
SELECT status::text AS status, external_id, created_at, submitted_at, enrolled_at, last_seen_at, ended_at, hostname,
       reason, offer, hs23_per_core, node, coalesce(diagnosis, '[]') AS diagnosis,
       coalesce((SELECT convert_from(string_agg(tail.data, '' ORDER BY tail.position), 'LATIN1')
                   FROM (SELECT log.position, log.data FROM pilots.pilot_log AS log
                          WHERE log.pilot_id = pilot.pilot_id ORDER BY log.position DESC LIMIT 2) AS tail), '') AS log_tail
  FROM pilots.pilot AS pilot WHERE pilot_id = %(pilot_id)s::bigint;

-- name: find_probe
SELECT p.probe_id, ce.name AS computing_element, site.name AS site, p.actor, p.created_at, p.ended_at, p.succeeded,
       p.pilot_id, p.job_id, p.version, p.steps
  FROM pilots.probe AS p
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE p.probe_id = %(probe_id)s::bigint AND p.vo_id = %(vo_id)s::integer;

-- name: find_job_of_pilot
SELECT p.job_id FROM pilots.probe AS p
 WHERE p.pilot_id = %(pilot_id)s::bigint AND p.vo_id = %(vo_id)s::integer AND p.job_id IS NOT NULL;

-- name: find_decided
-- every VO: see above. Whether a probe for this is under way.
SELECT EXISTS (SELECT FROM pilots.probe
                WHERE ended_at IS NULL AND decides_kind = %(kind)s::text AND decides_name = %(name)s::text);
