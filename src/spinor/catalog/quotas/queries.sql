-- name: set_quotas
-- Put quotas in place; those that are there get these limits.
INSERT INTO catalog.quota (vo_id, owner_id, directory_id, se_id, max_files, max_bytes)
SELECT %(vo_id)s::integer, w.*
FROM unnest(
    %(owner_ids)s::integer[], %(directory_ids)s::bigint[], %(se_ids)s::integer[], %(max_files)s::bigint[], %(max_bytes)s::bigint[]
) AS w
ON CONFLICT ON CONSTRAINT quota_unique DO UPDATE SET max_files = excluded.max_files, max_bytes = excluded.max_bytes;

-- name: remove_quotas
-- Remove quotas, and tell how many there were.
DELETE FROM catalog.quota AS q
USING unnest(%(owner_ids)s::integer[], %(directory_ids)s::bigint[], %(se_ids)s::integer[]) AS w (owner_id, directory_id, se_id)
WHERE q.vo_id = %(vo_id)s::integer AND q.owner_id IS NOT DISTINCT FROM w.owner_id
  AND q.directory_id IS NOT DISTINCT FROM w.directory_id AND q.se_id IS NOT DISTINCT FROM w.se_id;

-- name: find_quotas
-- The quotas of these subjects (NULL: any), or of one user and of nobody in particular; with what is used.
SELECT o.name AS "user", top.path AS directory, s.name AS se, q.max_files, q.max_bytes, used.files, used.size_bytes,
       top.gate_id
FROM catalog.quota AS q
LEFT JOIN catalog.directory AS top ON top.directory_id = q.directory_id
LEFT JOIN identity.user_account AS o ON o.user_id = q.owner_id
LEFT JOIN resources.storage_element AS s ON s.se_id = q.se_id
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(u.files), 0)::bigint AS files, COALESCE(sum(u.size_bytes), 0)::bigint AS size_bytes
    FROM catalog.directory_usage AS u
    WHERE u.vo_id = q.vo_id AND (q.owner_id IS NULL OR u.owner_id = q.owner_id) AND (q.se_id IS NULL OR u.se_id = q.se_id)
      AND (top.path IS NULL OR u.directory_id IN (
          SELECT d.directory_id FROM catalog.directory AS d WHERE catalog.is_within(d.path, top.path)
      ))
) AS used
WHERE q.vo_id = %(vo_id)s::integer
  AND (%(owner_id)s::integer IS NULL OR q.owner_id = %(owner_id)s::integer)
  AND (%(directory_id)s::bigint IS NULL OR q.directory_id = %(directory_id)s::bigint)
  AND (%(se_id)s::integer IS NULL OR q.se_id = %(se_id)s::integer)
  AND (%(only_user_id)s::integer IS NULL OR q.owner_id IS NULL OR q.owner_id = %(only_user_id)s::integer)
ORDER BY o.name NULLS LAST, top.path NULLS LAST, s.name NULLS LAST;

-- name: any_quotas
-- Whether the VO has any quota.
SELECT EXISTS (SELECT FROM catalog.quota WHERE vo_id = %(vo_id)s::integer);

-- name: owners_within
-- Who owns files at and below a path.
SELECT DISTINCT u.owner_id
FROM catalog.directory AS d JOIN catalog.directory_usage AS u USING (directory_id)
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(path)s::text) AND u.files > 0;

-- name: hold_quotas
-- The quotas that concern these owners or the trees above these directories; held, so that their users take turns.
SELECT q.quota_id FROM catalog.quota AS q
WHERE q.vo_id = %(vo_id)s::integer
  AND (q.owner_id IS NULL OR q.owner_id = ANY (%(owner_ids)s::integer[]))
  AND (q.directory_id IS NULL OR q.directory_id IN (
      SELECT d.directory_id FROM unnest(%(paths)s::text[]) AS w (path) JOIN catalog.directory AS d ON d.path = w.path
  ))
  AND (%(grown)s::text <> 'owner' OR q.owner_id IS NOT NULL) AND (%(grown)s::text <> 'tree' OR q.directory_id IS NOT NULL)
ORDER BY q.quota_id
FOR NO KEY UPDATE OF q;

-- name: exceeded_quotas
-- Those of the quotas of which more is used than may be.
SELECT o.name AS owner, top.path, s.name AS se, q.max_files, q.max_bytes, used.files, used.size_bytes
FROM catalog.quota AS q
LEFT JOIN catalog.directory AS top ON top.directory_id = q.directory_id
LEFT JOIN identity.user_account AS o ON o.user_id = q.owner_id
LEFT JOIN resources.storage_element AS s ON s.se_id = q.se_id
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(u.files), 0)::bigint AS files, COALESCE(sum(u.size_bytes), 0)::bigint AS size_bytes
    FROM catalog.directory_usage AS u
    WHERE u.vo_id = q.vo_id AND (q.owner_id IS NULL OR u.owner_id = q.owner_id) AND (q.se_id IS NULL OR u.se_id = q.se_id)
      AND (top.path IS NULL OR u.directory_id IN (
          SELECT d.directory_id FROM catalog.directory AS d WHERE catalog.is_within(d.path, top.path)
      ))
) AS used
WHERE q.vo_id = %(vo_id)s::integer AND q.quota_id = ANY (%(quota_ids)s::integer[])
  AND (used.files > q.max_files OR used.size_bytes > q.max_bytes)
ORDER BY q.quota_id;
