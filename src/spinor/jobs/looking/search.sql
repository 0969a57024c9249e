-- The lists of the jobs system. What stands in braces is SQL that spinor.search writes, with all values as parameters.

-- name: search_jobs
-- One page of a list.
SELECT {select}
  FROM jobs.shown_job j
 WHERE j.vo_id = %(vo_id)s::integer AND {where}
 ORDER BY {order}
 LIMIT {limit};

-- name: summarise_jobs
-- Counts of a list by some of its fields.
SELECT {select}
  FROM jobs.shown_job j
 WHERE j.vo_id = %(vo_id)s::integer AND {where}
 GROUP BY {group}
 ORDER BY {order};

-- name: summarise_tally
-- The same out of the counters, where they know every field that is asked for.
SELECT {select}
  FROM jobs.tally_now t
  JOIN jobs.task_queue q USING (task_queue_id)
  JOIN identity.user_account u ON u.user_id = q.owner_id
  JOIN identity.vo_group g ON g.group_id = q.group_id
  LEFT JOIN resources.computing_element c ON c.ce_id = t.ce_id
  LEFT JOIN resources.site s ON s.site_id = c.site_id
 WHERE q.vo_id = %(vo_id)s::integer AND {where}
 GROUP BY {group}
 ORDER BY {order};

-- name: list_chosen
-- Ids of the jobs that a query finds, the next ones in order.
SELECT j.job_id
  FROM jobs.shown_job j
 WHERE j.vo_id = %(vo_id)s::integer AND j.job_id > %(after)s::bigint AND {where}
 ORDER BY j.job_id
 LIMIT %(limit)s::integer;
