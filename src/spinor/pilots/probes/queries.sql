-- The statements of probes. A probe belongs to the VO whose pilot it is; what it decides is every VO's.

-- name: insert_probes
INSERT INTO pilots.probe (vo_id, ce_id, actor, owner_id, group_id, decides_kind, decides_name, se, timeout_s)
SELECT %(vo_id)s::integer, ce_id, %(actor)s::text, %(owner_id)s::integer, %(group_id)s::integer,
       %(decides_kind)s::text, %(decides_name)s::text, %(se)s::text, %(timeout_s)s::integer
  FROM unnest(%(ce_ids)s::integer[]) AS ce_id
ON CONFLICT (ce_id) WHERE ended_at IS NULL AND decides_kind IS NOT NULL DO NOTHING
RETURNING probe_id;

-- name: list_idle_elements
-- every VO: a probe runs for one VO that may use the element; any will do.
-- Elements in use where no probe was begun and no job ended well of late. What a person has degraded is the person's; what
-- failed its last probe has a time of its own for the next one, and one that is degraded needs it whatever ends well there.
SELECT c.ce_id, c.name, a.vo_id
  FROM resources.computing_element c
  JOIN resources.site s USING (site_id)
 CROSS JOIN LATERAL (SELECT vo_id FROM resources.computing_access JOIN identity.vo v USING (vo_id)
                      WHERE ce_id = c.ce_id AND v.retired_at IS NULL ORDER BY vo_id LIMIT 1) a
  LEFT JOIN resources.element_status own ON own.kind = 'ce' AND own.name = c.name
  LEFT JOIN resources.element_status whole ON whole.kind = 'site' AND whole.name = s.name
 WHERE c.retired_at IS NULL AND coalesce(whole.status, 'active') IN ('active', 'degraded')
   AND (coalesce(own.status, 'active') = 'active' OR (own.status = 'degraded' AND own.actor = %(service)s::text))
   AND CASE WHEN own.probe_at IS NOT NULL THEN own.probe_at <= now()
            ELSE greatest(c.added_at, own.since,
                          (SELECT max(p.created_at) FROM pilots.probe p WHERE p.ce_id = c.ce_id))
                 <= now() - make_interval(secs => %(every_s)s::double precision) END
   AND NOT EXISTS (SELECT FROM pilots.probe p WHERE p.ce_id = c.ce_id AND p.ended_at IS NULL)
   AND (own.status = 'degraded'
        OR NOT EXISTS (SELECT FROM jobs.ended_attempt e
                        WHERE e.vo_id IN (SELECT vo_id FROM resources.computing_access WHERE ce_id = c.ce_id)
                          AND e.ended_at > now() - make_interval(secs => %(every_s)s::double precision)
                          AND e.ce_id = c.ce_id AND e.status = 'done'))
 ORDER BY c.ce_id;

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
