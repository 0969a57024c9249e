-- The lists of the jobs system. What stands in braces is SQL that spinor.search writes, with all values as parameters.

-- name: search_jobs
-- One page of a list.
SELECT {select}
  FROM jobs.job j
  JOIN jobs.job_array a USING (array_id)
  JOIN identity.user_account u ON u.user_id = j.owner_id
  JOIN identity.vo_group g ON g.group_id = j.group_id
  LEFT JOIN resources.site s ON s.site_id = j.site_id
 WHERE j.vo_id = %(vo_id)s::integer AND {where}
 ORDER BY {order}
 LIMIT {limit};

-- name: summarise_jobs
-- Counts of a list by some of its fields.
SELECT {select}
  FROM jobs.job j
  JOIN jobs.job_array a USING (array_id)
  JOIN identity.user_account u ON u.user_id = j.owner_id
  JOIN identity.vo_group g ON g.group_id = j.group_id
  LEFT JOIN resources.site s ON s.site_id = j.site_id
 WHERE j.vo_id = %(vo_id)s::integer AND {where}
 GROUP BY {group}
 ORDER BY {order};
