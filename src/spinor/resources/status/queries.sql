-- The statements about the status of sites and elements. An element without a row is active.
-- Names are those of the operations data: they are unique for each kind, and one that comes back keeps its status.

-- name: list_statuses
-- every VO: a site or element is up or down for all of them; which elements a VO may see is `list_visible`'s matter.
SELECT kind::text AS kind, name, status::text AS status FROM resources.element_status WHERE status <> 'active';

-- name: list_places
-- every VO: as above. Each computing element with its site.
SELECT c.name, s.name AS site
  FROM resources.computing_element c JOIN resources.site s USING (site_id)
 WHERE s.name = ANY (%(sites)s::text[]);

-- name: list_visible
-- Sites are everybody's; elements are those that the VO may use, or all for who looks after them.
WITH place AS (
    SELECT 'site' AS kind, s.name, s.name AS site FROM resources.site s WHERE s.retired_at IS NULL
    UNION ALL
    SELECT 'ce', c.name, s.name
      FROM resources.computing_element c JOIN resources.site s USING (site_id)
     WHERE c.retired_at IS NULL
       AND (%(everything)s::boolean OR EXISTS (SELECT FROM resources.computing_access a
                                                WHERE a.ce_id = c.ce_id AND a.vo_id = %(vo_id)s::integer))
)
SELECT p.kind, p.name, p.site, coalesce(own.status, 'active')::text AS status,
       greatest(coalesce(own.status, 'active'), coalesce(whole.status, 'active'))::text AS effective,
       coalesce(own.reason, '') AS reason, coalesce(own.actor, '') AS actor, own.since, own.until,
       coalesce(own.failed_probes, 0) AS failed_probes, own.probe_at AS next_probe_at
  FROM place p
  LEFT JOIN resources.element_status own ON own.kind = p.kind::resources.element_kind AND own.name = p.name
  LEFT JOIN resources.element_status whole ON whole.kind = 'site' AND whole.name = p.site
 WHERE (%(kind)s::text IS NULL OR p.kind = %(kind)s::text) AND (%(name)s::text = '' OR p.name = %(name)s::text)
 ORDER BY p.kind = 'ce', p.name;

-- name: list_changes
-- every VO: the history of sites and elements is no VO's own.
SELECT at, kind::text AS kind, name, old::text AS old, status::text AS status, reason, actor, until
  FROM resources.status_change
 WHERE (%(kind)s::text IS NULL OR kind = %(kind)s::text::resources.element_kind)
   AND (%(name)s::text = '' OR name = %(name)s::text)
 ORDER BY change_id DESC LIMIT %(limit)s::integer;

-- name: insert_missing
-- every VO: see above.
INSERT INTO resources.element_status (kind, name)
SELECT %(kind)s::resources.element_kind, name FROM unnest(%(names)s::text[]) AS name
ON CONFLICT DO NOTHING;

-- name: lock_present
-- every VO: see above. In the order of the names, so that two changes cannot wait for each other.
SELECT st.name, st.status::text AS status, st.failed_probes, place.site,
       coalesce((SELECT s.administrators FROM resources.site s WHERE s.name = place.site), '{}') AS administrators,
       CASE st.kind
            WHEN 'ce' THEN true
            ELSE EXISTS (SELECT FROM resources.computing_element c JOIN resources.site s USING (site_id)
                          WHERE s.name = st.name AND c.retired_at IS NULL)
       END AS with_elements
  FROM resources.element_status st
  JOIN (SELECT 'site'::resources.element_kind AS kind, name, name AS site FROM resources.site WHERE retired_at IS NULL
        UNION ALL
        SELECT 'ce', c.name, s.name FROM resources.computing_element c JOIN resources.site s USING (site_id)
         WHERE c.retired_at IS NULL) place USING (kind, name)
 WHERE st.kind = %(kind)s::resources.element_kind AND st.name = ANY (%(names)s::text[])
 ORDER BY st.name
   FOR UPDATE OF st;

-- name: list_existing
-- every VO: see above.
SELECT name FROM (SELECT 'site'::resources.element_kind AS kind, name FROM resources.site WHERE retired_at IS NULL
        UNION ALL SELECT 'ce', name FROM resources.computing_element WHERE retired_at IS NULL) place
 WHERE kind = %(kind)s::resources.element_kind AND name = ANY (%(names)s::text[]);

-- name: change_statuses
-- every VO: see above. The rows are locked by `lock_present`; a repeated status renews its reason and its time.
WITH decided AS (
    SELECT * FROM jsonb_to_recordset(%(decided)s::jsonb)
        AS d (name text, status resources.status, reason text, actor text, until timestamptz, failed_probes integer,
              probe_in_s double precision)
), before AS (
    SELECT st.name, st.status FROM resources.element_status st JOIN decided USING (name)
     WHERE st.kind = %(kind)s::resources.element_kind
), changed AS (
    UPDATE resources.element_status st
       SET status = d.status, reason = d.reason, actor = d.actor, until = d.until, failed_probes = d.failed_probes,
           since = CASE WHEN st.status = d.status THEN coalesce(st.since, now()) ELSE now() END,
           probe_at = now() + make_interval(secs => d.probe_in_s)
      FROM decided d
     WHERE st.kind = %(kind)s::resources.element_kind AND st.name = d.name
)
INSERT INTO resources.status_change (kind, name, old, status, reason, actor, until)
SELECT %(kind)s::resources.element_kind, d.name, b.status, d.status, d.reason, d.actor, d.until
  FROM decided d JOIN before b USING (name);

-- name: list_affected
-- every VO: see above. The computing elements whose pilots must hear of a change.
SELECT c.ce_id FROM resources.computing_element c JOIN resources.site s USING (site_id)
 WHERE CASE %(kind)s::text WHEN 'ce' THEN c.name = ANY (%(names)s::text[])
                           WHEN 'site' THEN s.name = ANY (%(names)s::text[]) END;

-- name: list_over
-- every VO: see above. Those whose time is over.
SELECT kind::text AS kind, name FROM resources.element_status WHERE until <= now() ORDER BY kind, name;

-- name: list_due_probes
-- every VO: a probe runs for one VO that may use the element; any will do.
-- Of a site that is probing, one element is tried: the first that is not worse off itself.
SELECT DISTINCT ON (st.kind, st.name) st.kind::text AS kind, st.name, c.ce_id, a.vo_id
  FROM resources.element_status st
  JOIN resources.computing_element c ON c.retired_at IS NULL
  JOIN resources.site s ON s.site_id = c.site_id
  JOIN resources.computing_access a ON a.ce_id = c.ce_id
  LEFT JOIN resources.element_status own ON own.kind = 'ce' AND own.name = c.name
  LEFT JOIN resources.element_status whole ON whole.kind = 'site' AND whole.name = s.name
 WHERE st.status = 'probing' AND st.probe_at <= now()
   AND ((st.kind = 'ce' AND st.name = c.name AND coalesce(whole.status, 'active') <= 'probing')
        OR (st.kind = 'site' AND st.name = s.name AND coalesce(own.status, 'active') <= 'probing'))
 ORDER BY st.kind, st.name, c.name, a.vo_id;

-- name: postpone_probe
-- every VO: see above. Another worker that looks meanwhile finds nothing due.
UPDATE resources.element_status SET probe_at = now() + make_interval(secs => %(pause_s)s::double precision)
 WHERE kind = %(kind)s::resources.element_kind AND name = %(name)s::text AND status = 'probing' AND probe_at <= now()
RETURNING name;
