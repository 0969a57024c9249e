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
SELECT p.kind::text AS kind, p.name, p.site, nullif(p.access, '') AS access, coalesce(own.status, 'active')::text AS status,
       greatest(coalesce(own.status, 'active'),
                CASE WHEN p.kind <> 'se' THEN coalesce(whole.status, 'active') END)::text AS effective,
       coalesce(own.reason, '') AS reason, coalesce(own.actor, '') AS actor, own.since, own.until,
       coalesce(own.failed_probes, 0) AS failed_probes, own.probe_at AS next_probe_at
  FROM resources.place p
  LEFT JOIN resources.element_status own ON (own.kind, own.name, own.access) = (p.kind, p.name, p.access)
  LEFT JOIN resources.element_status whole ON whole.kind = 'site' AND whole.name = p.site
 WHERE (%(kind)s::text IS NULL OR p.kind = %(kind)s::text::resources.element_kind)
   AND (%(name)s::text = '' OR p.name = %(name)s::text)
   AND (%(everything)s::boolean OR CASE p.kind
            WHEN 'site' THEN true
            WHEN 'ce' THEN EXISTS (SELECT FROM resources.computing_access a JOIN resources.computing_element c USING (ce_id)
                                    WHERE c.name = p.name AND a.vo_id = %(vo_id)s::integer)
            WHEN 'se' THEN EXISTS (SELECT FROM resources.storage_access a JOIN resources.storage_element e USING (se_id)
                                    WHERE e.name = p.name AND a.vo_id = %(vo_id)s::integer) END)
 ORDER BY p.kind, p.name, array_position(ARRAY['read', 'write', 'check', 'remove'], p.access);

-- name: list_changes
-- every VO: the history of sites and elements is no VO's own.
SELECT at, kind::text AS kind, name, nullif(access, '') AS access, old::text AS old, status::text AS status, reason, actor,
       until
  FROM resources.status_change
 WHERE (%(kind)s::text IS NULL OR kind = %(kind)s::text::resources.element_kind)
   AND (%(name)s::text = '' OR name = %(name)s::text)
 ORDER BY change_id DESC LIMIT %(limit)s::integer;

-- name: insert_missing
-- every VO: see above. A row for what exists and never had one.
INSERT INTO resources.element_status (kind, name, access)
SELECT kind, name, access FROM resources.place
 WHERE kind = %(kind)s::resources.element_kind AND name = ANY (%(names)s::text[])
ON CONFLICT DO NOTHING;

-- name: lock_present
-- every VO: see above. In the order of the names, so that two changes cannot wait for each other.
SELECT st.name, nullif(st.access, '') AS access, st.status::text AS status, st.failed_probes, p.site, p.administrators,
       st.actor, CASE st.kind
            WHEN 'ce' THEN true
            WHEN 'site' THEN EXISTS (SELECT FROM resources.computing_element c JOIN resources.site s USING (site_id)
                                      WHERE s.name = st.name AND c.retired_at IS NULL)
            ELSE false
       END AS with_elements
  FROM resources.element_status st
  JOIN resources.place p USING (kind, name, access)
 WHERE st.kind = %(kind)s::resources.element_kind AND st.name = ANY (%(names)s::text[])
 ORDER BY st.name, st.access
   FOR UPDATE OF st;

-- name: change_statuses
-- every VO: see above. The rows are locked by `lock_present`; a repeated status renews its reason and its time.
WITH decided AS (
    SELECT * FROM jsonb_to_recordset(%(decided)s::jsonb)
        AS d (name text, access text, status resources.status, reason text, actor text, until timestamptz,
              failed_probes integer, probe_in_s double precision)
), before AS (
    SELECT st.name, st.access, st.status
      FROM resources.element_status st JOIN decided d ON (st.name, st.access) = (d.name, coalesce(d.access, ''))
     WHERE st.kind = %(kind)s::resources.element_kind
), changed AS (
    UPDATE resources.element_status st
       SET status = d.status, reason = d.reason, actor = d.actor, until = d.until, failed_probes = d.failed_probes,
           since = CASE WHEN st.status = d.status THEN coalesce(st.since, now()) ELSE now() END,
           probe_at = now() + make_interval(secs => d.probe_in_s)
      FROM decided d
     WHERE st.kind = %(kind)s::resources.element_kind AND (st.name, st.access) = (d.name, coalesce(d.access, ''))
)
INSERT INTO resources.status_change (kind, name, access, old, status, reason, actor, until)
SELECT %(kind)s::resources.element_kind, d.name, b.access, b.status, d.status, d.reason, d.actor, d.until
  FROM decided d JOIN before b ON (b.name, b.access) = (d.name, coalesce(d.access, ''));

-- name: list_affected
-- every VO: see above. The computing elements whose pilots must hear of a change.
SELECT c.ce_id FROM resources.computing_element c JOIN resources.site s USING (site_id)
 WHERE CASE %(kind)s::text WHEN 'ce' THEN c.name = ANY (%(names)s::text[])
                           WHEN 'site' THEN s.name = ANY (%(names)s::text[])
                           ELSE false END;

-- name: list_over
-- every VO: see above. Those whose time is over.
SELECT kind::text AS kind, name, nullif(access, '') AS access FROM resources.element_status
 WHERE until <= now() ORDER BY kind, name, access;

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
