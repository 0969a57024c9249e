-- The list whose conditions and order the caller writes: completed by `spinor.search` from declared columns.

-- name: search_pilots
SELECT {select}
  FROM pilots.pilot AS pilot
  JOIN resources.computing_element AS ce USING (ce_id)
  JOIN resources.site AS site USING (site_id)
 WHERE pilot.vo_id = %(vo_id)s::integer AND {where}
 ORDER BY {order} LIMIT {limit};
