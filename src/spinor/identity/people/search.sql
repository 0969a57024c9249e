-- The lists whose conditions and order the caller writes: completed by `spinor.search` from declared columns.

-- name: search_sessions
SELECT {select}
  FROM identity.session AS s
  JOIN identity.vo AS v USING (vo_id)
  JOIN identity.user_account AS u USING (user_id)
  JOIN identity.vo_group AS g USING (group_id)
 WHERE (%(vo_id)s::integer IS NULL OR s.vo_id = %(vo_id)s::integer)
   AND (%(user_id)s::integer IS NULL OR s.user_id = %(user_id)s::integer) AND {where}
 ORDER BY {order} LIMIT {limit};

-- name: search_issued
SELECT {select}
  FROM identity.issued AS i
  LEFT JOIN identity.vo AS v USING (vo_id)
  LEFT JOIN identity.user_account AS u USING (user_id)
 WHERE (%(vo_id)s::integer IS NULL OR i.vo_id = %(vo_id)s::integer)
   AND (%(user_id)s::integer IS NULL OR i.user_id = %(user_id)s::integer) AND {where}
 ORDER BY {order} LIMIT {limit};

-- name: search_members
SELECT {select}
  FROM (SELECT u.name, u.full_name, u.email, u.origin::text AS origin,
               identity.is_suspended(u.user_id, %(vo_id)s::integer) AS suspended,
               string_agg(g.name, ' ' ORDER BY g.name) AS groups
          FROM identity.user_account u
          JOIN identity.membership m USING (user_id)
          JOIN identity.vo_group g ON g.group_id = m.group_id AND g.retired_at IS NULL
         WHERE g.vo_id = %(vo_id)s::integer AND u.retired_at IS NULL
         GROUP BY u.user_id) AS u
 WHERE {where}
 ORDER BY {order} LIMIT {limit};

-- name: search_suspensions
SELECT {select}
  FROM identity.suspension AS s
  JOIN identity.user_account AS u USING (user_id)
  LEFT JOIN identity.vo AS v USING (vo_id)
 WHERE (%(vo_id)s::integer IS NULL OR s.vo_id = %(vo_id)s::integer) AND {where}
 ORDER BY {order} LIMIT {limit};
