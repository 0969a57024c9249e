-- Recounts. The caller holds the tree and the directories.

-- name: next_slice
-- The next directories of a VO in the order of their ids, and how many files each says it has.
SELECT directory_id, file_count FROM catalog.directory
WHERE (%(vo_id)s::integer IS NULL OR vo_id = %(vo_id)s::integer) AND directory_id > %(after)s::bigint
ORDER BY directory_id LIMIT %(limit)s::integer;

-- name: next_slice_within
-- The same, of those at and below a path.
SELECT directory_id, file_count FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND directory_id > %(after)s::bigint AND catalog.is_within(path, %(path)s::text)
ORDER BY directory_id LIMIT %(limit)s::integer;

-- name: extent
-- How much there is to look at: directories, and the files that they say they have.
SELECT count(*)::bigint, COALESCE(sum(greatest(file_count, 0)), 0)::bigint FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND (%(path)s::text IS NULL OR catalog.is_within(path, %(path)s::text));

-- name: lock_by_id
-- Lock directories in the order in which everybody locks them.
SELECT directory_id, path FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
ORDER BY directory_id FOR NO KEY UPDATE;

-- name: recount_directories
-- Make the counters of directories agree with their files.
UPDATE catalog.directory AS d
SET file_count = c.files, size_bytes = c.size_bytes, annotated_files = c.annotated
FROM catalog.directory AS old
CROSS JOIN LATERAL (
    SELECT count(*) AS files, COALESCE(sum(f.size_bytes), 0)::bigint AS size_bytes, count(f.metadata) AS annotated
    FROM catalog.file AS f WHERE f.directory_id = old.directory_id
) AS c
WHERE d.directory_id = old.directory_id
  AND old.vo_id = %(vo_id)s::integer AND old.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (old.file_count, old.size_bytes, old.annotated_files) <> (c.files, c.size_bytes, c.annotated)
RETURNING d.path,
    jsonb_build_object('files', old.file_count, 'size_bytes', old.size_bytes, 'annotated_files', old.annotated_files) AS before,
    jsonb_build_object('files', c.files, 'size_bytes', c.size_bytes, 'annotated_files', c.annotated) AS after;

-- name: recount_usage
-- Make the usage of directories agree with the replicas of their files.
WITH held AS (
    SELECT directory_id, path FROM catalog.directory
    WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
), c AS (
    SELECT f.directory_id, r.se_id, a.owner_id, count(*) AS files, sum(f.size_bytes)::bigint AS size_bytes
    FROM held JOIN catalog.file AS f USING (directory_id)
    JOIN catalog.access AS a USING (access_id) CROSS JOIN LATERAL unnest(f.se_ids) AS r (se_id)
    GROUP BY f.directory_id, r.se_id, a.owner_id
), u AS (
    SELECT usage.* FROM held JOIN catalog.directory_usage AS usage USING (directory_id)
), wrong AS (
    SELECT directory_id, se_id, owner_id, COALESCE(u.files, 0) AS old_files, COALESCE(u.size_bytes, 0) AS old_bytes,
           COALESCE(c.files, 0) AS files, COALESCE(c.size_bytes, 0) AS size_bytes
    FROM u FULL JOIN c USING (directory_id, se_id, owner_id)
    WHERE (COALESCE(u.files, 0), COALESCE(u.size_bytes, 0)) <> (COALESCE(c.files, 0), COALESCE(c.size_bytes, 0))
       OR u.vo_id <> %(vo_id)s::integer
), gone AS (
    DELETE FROM catalog.directory_usage AS t USING wrong AS w
    WHERE t.directory_id = w.directory_id AND t.se_id = w.se_id AND t.owner_id = w.owner_id AND w.files = 0
), put AS (
    INSERT INTO catalog.directory_usage (directory_id, se_id, owner_id, vo_id, files, size_bytes)
    SELECT directory_id, se_id, owner_id, %(vo_id)s::integer, files, size_bytes FROM wrong WHERE files > 0
    ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
    SET files = excluded.files, size_bytes = excluded.size_bytes, vo_id = excluded.vo_id
)
SELECT held.path,
       jsonb_build_object('se', s.name, 'owner', o.name, 'files', w.old_files, 'size_bytes', w.old_bytes) AS before,
       jsonb_build_object('se', s.name, 'owner', o.name, 'files', w.files, 'size_bytes', w.size_bytes) AS after
FROM wrong AS w JOIN held USING (directory_id)
LEFT JOIN resources.storage_element AS s USING (se_id)
LEFT JOIN identity.user_account AS o ON o.user_id = w.owner_id;

-- name: inherit_again
-- Make what holds in the directories of a tree agree again with what is set in and above them.
WITH RECURSIVE tree (directory_id, effective) AS (
    SELECT d.directory_id, COALESCE(p.effective, '{}') || COALESCE(d.metadata, '{}')
    FROM catalog.directory AS d
    LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
    WHERE d.vo_id = %(vo_id)s::integer AND d.path = %(path)s::text
    UNION ALL
    SELECT c.directory_id, t.effective || COALESCE(c.metadata, '{}')
    FROM tree AS t JOIN catalog.directory AS c ON c.parent_id = t.directory_id
)
UPDATE catalog.directory AS d SET effective = NULLIF(t.effective, '{}')
FROM tree AS t JOIN catalog.directory AS old USING (directory_id)
WHERE d.directory_id = t.directory_id AND old.effective IS DISTINCT FROM NULLIF(t.effective, '{}')
RETURNING d.directory_id, d.path, COALESCE(old.effective, '{}') AS before, t.effective AS after;
