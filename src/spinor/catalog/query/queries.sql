-- name: keys_and_annotated
-- The declared keys of the VO, or one row without, and how many files of a tree have metadata of their own.
SELECT k.name, k.type::text, a.files
FROM (
    SELECT COALESCE(sum(annotated_files), 0)::bigint AS files FROM catalog.directory
    WHERE vo_id = %(vo_id)s::integer AND annotated_files > 0 AND catalog.is_within(path, %(path)s::text)
) AS a
LEFT JOIN catalog.metadata_key AS k ON k.vo_id = %(vo_id)s::integer
ORDER BY k.name;

-- name: value_of_key
-- One of the values that are stored under a key: at a directory, or else at a file.
(SELECT metadata -> %(key)s::text FROM catalog.directory
 WHERE vo_id = %(vo_id)s::integer AND metadata IS NOT NULL AND metadata ? %(key)s::text
 LIMIT 1)
UNION ALL
(SELECT f.metadata -> %(key)s::text
 FROM catalog.directory AS d
 CROSS JOIN LATERAL (
     SELECT f.metadata FROM catalog.file AS f
     WHERE f.directory_id = d.directory_id AND f.metadata IS NOT NULL AND f.metadata ? %(key)s::text
     LIMIT 1
 ) AS f
 WHERE d.vo_id = %(vo_id)s::integer AND d.annotated_files > 0
 LIMIT 1)
LIMIT 1;

-- name: undeclare_keys
-- Forget the types of keys; what is stored under them stays.
DELETE FROM catalog.metadata_key
WHERE vo_id = %(vo_id)s::integer AND name = ANY (%(names)s::text[])
RETURNING name;
