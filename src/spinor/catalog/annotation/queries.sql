-- name: find_files
-- Those of the (directory, name) pairs that are files, with what the rights to change them depend on. Their directories
-- are locked.
SELECT w.n::integer, f.file_id, f.access_id, d.gate_id
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
WHERE d.vo_id = %(vo_id)s::integer;

-- name: describe_files
-- Give files of locked directories values of their own; a null takes one away. Their directories count the files with
-- any. Which files are others now.
WITH wanted AS MATERIALIZED (
    SELECT f.file_id, f.directory_id, f.metadata AS old,
           NULLIF(jsonb_strip_nulls(COALESCE(f.metadata, '{}') || w.given), '{}') AS new
    FROM unnest(%(file_ids)s::bigint[], %(given)s::jsonb[]) AS w (file_id, given)
    JOIN catalog.file AS f ON f.file_id = w.file_id AND f.vo_id = %(vo_id)s::integer
), changed AS (
    UPDATE catalog.file AS f SET metadata = w.new, modified_at = now()
    FROM wanted AS w
    WHERE f.file_id = w.file_id AND w.new IS DISTINCT FROM w.old
    RETURNING f.file_id, f.directory_id, (w.new IS NOT NULL)::integer - (w.old IS NOT NULL)::integer AS more
), counted AS (
    UPDATE catalog.directory AS d SET annotated_files = d.annotated_files + c.more
    FROM (SELECT directory_id, sum(more) AS more FROM changed GROUP BY directory_id HAVING sum(more) <> 0) AS c
    WHERE d.directory_id = c.directory_id
)
SELECT file_id FROM changed;

-- name: describe_directories
-- Give locked directories values of their own; a null takes one away. Which of them are others now.
UPDATE catalog.directory AS d
SET metadata = NULLIF(jsonb_strip_nulls(COALESCE(d.metadata, '{}') || w.given), '{}')
FROM unnest(%(directory_ids)s::bigint[], %(given)s::jsonb[]) AS w (directory_id, given)
WHERE d.directory_id = w.directory_id AND d.vo_id = %(vo_id)s::integer
  AND NULLIF(jsonb_strip_nulls(COALESCE(d.metadata, '{}') || w.given), '{}') IS DISTINCT FROM d.metadata
RETURNING d.directory_id;

-- name: inherit_below_all
-- Make what holds in the directories of some trees agree again with what is set in and above them. They are locked, and
-- none of the trees is in another one.
WITH RECURSIVE tree (directory_id, effective) AS (
    SELECT d.directory_id, COALESCE(p.effective, '{}') || COALESCE(d.metadata, '{}')
    FROM unnest(%(paths)s::text[]) AS w (path)
    JOIN catalog.directory AS d ON d.path = w.path
    LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
    WHERE d.vo_id = %(vo_id)s::integer
    UNION ALL
    SELECT c.directory_id, t.effective || COALESCE(c.metadata, '{}')
    FROM tree AS t JOIN catalog.directory AS c ON c.parent_id = t.directory_id
)
UPDATE catalog.directory AS d SET effective = NULLIF(t.effective, '{}')
FROM tree AS t
WHERE d.directory_id = t.directory_id AND d.effective IS DISTINCT FROM NULLIF(t.effective, '{}');
