-- name: find_files
-- Those of the names that are files, numbered as they were asked.
SELECT w.n::integer AS n, d.path || '/' || f.name AS lfn, f.file_id, f.access_id, d.gate_id
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY w.n;

-- name: keep_files
-- Keep files from being removed until the end of the transaction. One that is being removed is passed over, so that
-- nobody waits here: a remover may wait for us already.
SELECT file_id FROM catalog.file
WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[])
FOR KEY SHARE SKIP LOCKED;

-- name: hold_lineage
-- Changes of links between files that are there take turns in a VO, or two of them could close a cycle together.
SELECT pg_advisory_xact_lock(7352, %(vo_id)s::integer);

-- name: ancestors
-- All files from which these were made. A way of any length is walked once per file and depth, however many there are.
WITH RECURSIVE line (start_id, file_id, depth) AS (
    SELECT w.file_id, a.ancestor_id, 1
    FROM unnest(%(file_ids)s::bigint[]) AS w (file_id) JOIN catalog.file_ancestor AS a USING (file_id)
    WHERE a.vo_id = %(vo_id)s::integer
    UNION
    SELECT l.start_id, a.ancestor_id, l.depth + 1
    FROM line AS l JOIN catalog.file_ancestor AS a USING (file_id)
    WHERE %(depth)s::integer IS NULL OR l.depth < %(depth)s::integer
)
SELECT l.start_id, d.path || '/' || f.name AS lfn, l.depth, f.access_id, d.gate_id
FROM (SELECT start_id, file_id, min(depth) AS depth FROM line GROUP BY start_id, file_id) AS l
JOIN catalog.file AS f USING (file_id) JOIN catalog.directory AS d USING (directory_id)
ORDER BY l.depth, lfn
LIMIT %(limit)s::integer;

-- name: descendants
-- All files that were made from these.
WITH RECURSIVE line (start_id, file_id, depth) AS (
    SELECT w.file_id, a.file_id, 1
    FROM unnest(%(file_ids)s::bigint[]) AS w (file_id) JOIN catalog.file_ancestor AS a ON a.ancestor_id = w.file_id
    WHERE a.vo_id = %(vo_id)s::integer
    UNION
    SELECT l.start_id, a.file_id, l.depth + 1
    FROM line AS l JOIN catalog.file_ancestor AS a ON a.ancestor_id = l.file_id
    WHERE %(depth)s::integer IS NULL OR l.depth < %(depth)s::integer
)
SELECT l.start_id, d.path || '/' || f.name AS lfn, l.depth, f.access_id, d.gate_id
FROM (SELECT start_id, file_id, min(depth) AS depth FROM line GROUP BY start_id, file_id) AS l
JOIN catalog.file AS f USING (file_id) JOIN catalog.directory AS d USING (directory_id)
ORDER BY l.depth, lfn
LIMIT %(limit)s::integer;

-- name: cut
-- Take all direct ancestors from files.
DELETE FROM catalog.file_ancestor
WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[]);

-- name: link
-- Add direct ancestors; a link that is there is there once.
INSERT INTO catalog.file_ancestor (file_id, ancestor_id, vo_id)
SELECT DISTINCT w.file_id, w.ancestor_id, %(vo_id)s::integer
FROM unnest(%(file_ids)s::bigint[], %(ancestor_ids)s::bigint[]) AS w (file_id, ancestor_id)
ON CONFLICT DO NOTHING;

-- name: find_cycle
-- One of the files that is among its own ancestors, if there is any.
WITH RECURSIVE line (start_id, file_id) AS (
    SELECT w.file_id, a.ancestor_id
    FROM unnest(%(file_ids)s::bigint[]) AS w (file_id) JOIN catalog.file_ancestor AS a USING (file_id)
    WHERE a.vo_id = %(vo_id)s::integer
    UNION
    SELECT l.start_id, a.ancestor_id FROM line AS l JOIN catalog.file_ancestor AS a USING (file_id)
)
SELECT start_id FROM line WHERE file_id = start_id LIMIT 1;

-- name: links_above
-- All links at and above a file.
WITH RECURSIVE line (file_id, ancestor_id) AS (
    SELECT file_id, ancestor_id FROM catalog.file_ancestor
    WHERE vo_id = %(vo_id)s::integer AND file_id = %(file_id)s::bigint
    UNION
    SELECT a.file_id, a.ancestor_id FROM line AS l JOIN catalog.file_ancestor AS a ON a.file_id = l.ancestor_id
)
SELECT file_id, ancestor_id FROM line;

-- name: names_of
-- What files are called.
SELECT f.file_id, d.path || '/' || f.name
FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]);
