-- name: hold_tree
-- Every transaction that makes directories or puts names into them holds the tree of its VO shared; moving or removing
-- directories holds it alone. So a directory that was found stays where it is until the end of the transaction.
SELECT pg_advisory_xact_lock_shared(7351, %(vo_id)s::integer);

-- name: hold_tree_alone
-- Wait for everybody who holds the tree, and keep them out until the end of the transaction.
SELECT pg_advisory_xact_lock(7351, %(vo_id)s::integer);

-- name: find_directories
-- Those of the paths that are directories.
SELECT d.directory_id, d.path, d.access_id, d.gate_id, d.file_count
FROM unnest(%(paths)s::text[]) AS w (path)
JOIN catalog.directory AS d ON d.path = w.path
WHERE d.vo_id = %(vo_id)s::integer;

-- name: lock_directories
-- Always in directory_id order, so that no two writers wait for each other in a circle.
SELECT directory_id, path, access_id, gate_id, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND path = ANY (%(paths)s::text[])
ORDER BY directory_id
FOR NO KEY UPDATE;

-- name: insert_root
-- Make the VO's top directory, which belongs to the VO.
INSERT INTO catalog.directory (vo_id, parent_id, access_id, gate_id, name, path)
VALUES (%(vo_id)s::integer, NULL, %(access_id)s::integer, %(gate_id)s::integer, %(name)s::text, '/' || %(name)s::text)
ON CONFLICT ON CONSTRAINT directory_name_unique DO NOTHING;

-- name: next_directory_ids
-- every VO: only numbers are taken from a sequence.
SELECT nextval(pg_get_serial_sequence('catalog.directory', 'directory_id')) FROM generate_series(1, %(count)s::integer);

-- name: insert_directories
-- Make directories whose parents are locked or among them. What holds for the nearest one that was there, `above_id`,
-- holds for them.
INSERT INTO catalog.directory (directory_id, vo_id, parent_id, access_id, gate_id, name, path, effective)
OVERRIDING SYSTEM VALUE
SELECT d.directory_id, %(vo_id)s::integer, d.parent_id, d.access_id, d.gate_id, d.name, d.path, above.effective
FROM unnest(
    %(directory_ids)s::bigint[], %(parent_ids)s::bigint[], %(above_ids)s::bigint[], %(access_ids)s::integer[],
    %(gate_ids)s::integer[], %(names)s::text[], %(paths)s::text[]
) AS d (directory_id, parent_id, above_id, access_id, gate_id, name, path)
JOIN catalog.directory AS above ON above.directory_id = d.above_id;

-- name: directories_with_children
-- Those of the directories that have subdirectories.
SELECT p.directory_id
FROM unnest(%(directory_ids)s::bigint[]) AS p (directory_id)
WHERE EXISTS (
    SELECT FROM catalog.directory AS c WHERE c.parent_id = p.directory_id AND c.vo_id = %(vo_id)s::integer
);

-- name: find_names
-- Which of these names are files; sorted by nothing.
SELECT f.directory_id, f.name, f.file_id, f.size_bytes, f.adler32::bigint & 4294967295 AS adler32, encode(f.sha256, 'hex') AS sha256,
       f.access_id, a.owner_id, f.se_ids::text
FROM unnest(%(directory_ids)s::bigint[], %(names)s::text[]) AS w (directory_id, name)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name = w.name
JOIN catalog.access AS a USING (access_id)
WHERE f.vo_id = %(vo_id)s::integer;

-- name: all_names
-- Every file directly inside the directories.
SELECT f.directory_id, f.name, f.file_id, f.size_bytes, f.adler32::bigint & 4294967295 AS adler32, encode(f.sha256, 'hex') AS sha256,
       f.access_id, a.owner_id, f.se_ids::text
FROM catalog.file AS f
JOIN catalog.access AS a USING (access_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: next_file_blocks
-- every VO: only numbers are taken from a sequence.
SELECT nextval('catalog.file_id_blocks') FROM generate_series(1, %(count)s::integer);

-- name: add_replicas
-- Give files one more replica each; their directories are locked.
UPDATE catalog.file AS f
SET se_ids = f.se_ids || w.se_id, replicas_at = now(),
    pfns = CASE WHEN f.pfns IS NOT NULL OR w.pfn IS NOT NULL
                THEN COALESCE(f.pfns, array_fill(NULL::text, ARRAY[cardinality(f.se_ids)])) || w.pfn END,
    statuses = CASE WHEN f.statuses IS NOT NULL THEN f.statuses || 'available'::catalog.replica_status END
FROM unnest(%(file_ids)s::bigint[], %(se_ids)s::integer[], %(pfns)s::text[]) AS w (file_id, se_id, pfn)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = w.file_id;

-- name: find_locations
-- every VO: the directories were locked with the caller's VO just before.
SELECT directory_id, se_id, path FROM catalog.directory_location WHERE directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: insert_locations
-- every VO: the directories were locked with the caller's VO just before.
INSERT INTO catalog.directory_location (directory_id, se_id, path)
SELECT * FROM unnest(%(directory_ids)s::bigint[], %(se_ids)s::integer[], %(paths)s::text[]);

-- name: add_to_directories
-- Count files that came (or, negative, went) in locked directories.
UPDATE catalog.directory AS d
SET file_count = d.file_count + c.files, size_bytes = d.size_bytes + c.size_bytes,
    annotated_files = d.annotated_files + c.annotated
FROM unnest(%(directory_ids)s::bigint[], %(files)s::bigint[], %(sizes)s::bigint[], %(annotated)s::bigint[])
     AS c (directory_id, files, size_bytes, annotated)
WHERE d.directory_id = c.directory_id AND d.vo_id = %(vo_id)s::integer;

-- name: add_to_usage
-- Count replicas that came in locked directories.
INSERT INTO catalog.directory_usage AS u (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT c.directory_id, c.se_id, c.owner_id, %(vo_id)s::integer, c.files, c.size_bytes
FROM unnest(
    %(directory_ids)s::bigint[], %(se_ids)s::integer[], %(owner_ids)s::integer[], %(files)s::bigint[], %(sizes)s::bigint[]
) AS c (directory_id, se_id, owner_id, files, size_bytes)
ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
SET files = u.files + excluded.files, size_bytes = u.size_bytes + excluded.size_bytes;

-- name: find_removals
-- every VO: bytes of any VO that are about to go are not to be registered.
SELECT r.se_id, CASE r.path WHEN '' THEN n.name ELSE r.path || '/' || n.name END AS pfn
FROM unnest(%(se_ids)s::integer[], %(paths)s::text[]) AS w (se_id, path)
JOIN catalog.removal AS r ON r.path = w.path AND r.se_id = w.se_id
CROSS JOIN LATERAL unnest(r.names) AS n (name);

-- name: any_removals
-- every VO: whether any bytes wait for their deletion on these storage elements.
SELECT EXISTS (SELECT FROM catalog.removal WHERE se_id = ANY (%(se_ids)s::integer[]));

-- name: stat_files
-- What is known of each file, in the order asked; with what its reader's rights depend on.
SELECT w.n::integer AS n, d.path || '/' || f.name AS lfn, f.file_id, f.size_bytes, lpad(to_hex(f.adler32), 8, '0') AS adler32,
       encode(f.sha256, 'hex') AS sha256, f.guid, u.name AS owner, COALESCE(g.name, '') AS "group", a.mode, a.acl <> '' AS acl,
       f.created_at, COALESCE(f.modified_at, f.created_at) AS modified_at, COALESCE(f.status, 'available') AS status,
       ARRAY (SELECT s.name FROM resources.storage_element AS s WHERE s.se_id = ANY (f.se_ids) ORDER BY s.name)
           AS storage_elements,
       f.access_id, d.gate_id
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
JOIN catalog.access AS a ON a.access_id = f.access_id
JOIN identity.user_account AS u ON u.user_id = a.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY w.n;

-- name: locate_files
-- Where the bytes of each file are, by replica; where there is no PFN, by the directory's location.
SELECT w.n::integer, f.file_id, f.size_bytes, f.adler32, f.sha256, f.se_ids, f.pfns, f.statuses::text[], f.access_id, d.gate_id,
       d.directory_id
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
WHERE d.vo_id = %(vo_id)s::integer;

-- name: directories_below
-- The directories at and below a path, by path.
SELECT path, file_count AS files
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND catalog.is_within(path, %(path)s::text)
  AND "left"(path, 512) >= "left"(%(after)s::text, 512) AND path > %(after)s::text
  AND (%(gates)s::integer[] IS NULL OR gate_id = ANY (%(gates)s::integer[]))
ORDER BY "left"(path, 512), path
LIMIT %(limit)s::integer;

-- name: list_subdirectories
-- The directories directly inside one, by name, each with its entry as JSON.
SELECT d.name, '{"name":' || to_json(d.name)::text || ',"lfn":' || to_json(d.path)::text || ',"kind":"directory","size_bytes":'
    || d.size_bytes || ',"files":' || d.file_count || ',"owner":' || COALESCE(to_json(u.name)::text, 'null') || ',"group":'
    || COALESCE(to_json(g.name)::text, 'null') || ',"mode":' || a.mode || ',"acl":'
    || (a.acl <> '' OR a.default_acl <> '')::text || ',"created_at":' || to_json(d.created_at)::text || '}'
FROM catalog.directory AS d
JOIN catalog.access AS a USING (access_id)
LEFT JOIN identity.user_account AS u ON u.user_id = a.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
WHERE d.vo_id = %(vo_id)s::integer AND d.parent_id = %(directory_id)s::bigint AND d.name > %(after)s::text
  AND (%(pattern)s::text IS NULL OR d.name LIKE %(pattern)s::text)
ORDER BY d.name
LIMIT %(limit)s::integer;

-- name: list_files
-- The files directly inside a directory, by name, each with its entry as JSON.
SELECT f.name, '{"name":' || f.written || ',"lfn":' || %(above)s::text || substr(f.written, 2) || ',"kind":"file","size_bytes":'
    || f.size_bytes || ',"adler32":' || COALESCE('"' || lpad(to_hex(f.adler32), 8, '0') || '"', 'null') || ',"owner":'
    || to_json(u.name)::text || ',"group":' || COALESCE(to_json(g.name)::text, 'null') || ',"mode":' || a.mode || ',"acl":'
    || (a.acl <> '')::text || ',"created_at":' || to_json(f.created_at)::text || '}'
FROM (
    SELECT name, to_json(name)::text AS written, access_id, created_at, size_bytes, adler32
    FROM catalog.file
    WHERE vo_id = %(vo_id)s::integer AND directory_id = %(directory_id)s::bigint AND name > %(after)s::text
      AND (%(pattern)s::text IS NULL OR name LIKE %(pattern)s::text)
    ORDER BY name
    LIMIT %(limit)s::integer
) AS f
JOIN catalog.access AS a USING (access_id)
JOIN identity.user_account AS u ON u.user_id = a.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
ORDER BY f.name;

-- name: usage_of_tree
-- What lies at and below a path.
SELECT count(*) AS directories, COALESCE(sum(file_count), 0)::bigint AS files, COALESCE(sum(size_bytes), 0)::bigint AS size_bytes
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND catalog.is_within(path, %(path)s::text)
  AND (%(gates)s::integer[] IS NULL OR gate_id = ANY (%(gates)s::integer[]));

-- name: usage_by_storage_element
-- What lies at and below a path, on each storage element.
SELECT s.name AS se, sum(u.files)::bigint AS files, sum(u.size_bytes)::bigint AS size_bytes
FROM catalog.directory AS d
JOIN catalog.directory_usage AS u USING (directory_id)
JOIN resources.storage_element AS s USING (se_id)
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(path)s::text)
  AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
GROUP BY s.name
HAVING sum(u.files) > 0
ORDER BY s.name;

-- name: usage_by_owner
-- What lies at and below a path, of each owner; a file with two replicas counts twice here.
SELECT o.name AS owner, sum(u.files)::bigint AS files, sum(u.size_bytes)::bigint AS size_bytes
FROM catalog.directory AS d
JOIN catalog.directory_usage AS u USING (directory_id)
JOIN identity.user_account AS o ON o.user_id = u.owner_id
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(path)s::text)
  AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
GROUP BY o.name
HAVING sum(u.files) > 0
ORDER BY o.name;

-- name: lock_tree
-- Lock every directory at and below a path, for its removal.
SELECT directory_id, path, access_id, gate_id, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND catalog.is_within(path, %(path)s::text)
ORDER BY directory_id
FOR UPDATE;

-- name: lock_trees
-- Lock every directory at and below some paths, and some others, in one order.
SELECT directory_id FROM catalog.directory AS d
WHERE d.vo_id = %(vo_id)s::integer
  AND d.directory_id IN (
      SELECT t.directory_id FROM unnest(%(trees)s::text[]) AS w (path)
      JOIN catalog.directory AS t ON catalog.is_within(t.path, w.path) AND t.vo_id = %(vo_id)s::integer
      UNION ALL
      SELECT o.directory_id FROM unnest(%(paths)s::text[]) AS w (path) JOIN catalog.directory AS o ON o.path = w.path
  )
ORDER BY d.directory_id
FOR NO KEY UPDATE;

-- name: files_in
-- The ids of all files directly inside the directories.
SELECT file_id FROM catalog.file
WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: foreign_file
-- A file in the directories that somebody else owns.
SELECT f.directory_id, f.name
FROM catalog.file AS f JOIN catalog.access AS a USING (access_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = ANY (%(directory_ids)s::bigint[])
  AND a.owner_id IS DISTINCT FROM %(user_id)s::integer
LIMIT 1;

-- name: read_only_replicas
-- Those of the files that have bytes on a storage element from which nothing can be deleted.
SELECT f.file_id, min(s.name)
FROM catalog.file AS f JOIN resources.storage_element AS s ON s.se_id = ANY (f.se_ids)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]) AND s.read_only
GROUP BY f.file_id;

-- name: count_out_usage
-- Take the files' replicas out of the usage of their directories, which are locked.
UPDATE catalog.directory_usage AS u
SET files = u.files - c.files, size_bytes = u.size_bytes - c.size_bytes
FROM (
    SELECT f.directory_id, r.se_id, a.owner_id, count(*) AS files, sum(f.size_bytes)::bigint AS size_bytes
    FROM catalog.file AS f
    JOIN catalog.access AS a USING (access_id)
    CROSS JOIN LATERAL unnest(f.se_ids) AS r (se_id)
    WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[])
    GROUP BY f.directory_id, r.se_id, a.owner_id
) AS c
WHERE u.directory_id = c.directory_id AND u.se_id = c.se_id AND u.owner_id = c.owner_id;

-- name: count_in_usage
-- Add the files' replicas to the usage of their directories, which are locked.
INSERT INTO catalog.directory_usage AS u (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT f.directory_id, r.se_id, a.owner_id, f.vo_id, count(*), sum(f.size_bytes)::bigint
FROM catalog.file AS f
JOIN catalog.access AS a USING (access_id)
CROSS JOIN LATERAL unnest(f.se_ids) AS r (se_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[])
GROUP BY f.directory_id, r.se_id, a.owner_id, f.vo_id
ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
SET files = u.files + excluded.files, size_bytes = u.size_bytes + excluded.size_bytes;

-- name: count_files
-- Add (sign 1) the files to the counters of their directories, which are locked, or take them out (sign -1).
UPDATE catalog.directory AS d
SET file_count = d.file_count + %(sign)s::integer * c.files,
    size_bytes = d.size_bytes + %(sign)s::integer * c.size_bytes,
    annotated_files = d.annotated_files + %(sign)s::integer * c.annotated
FROM (
    SELECT directory_id, count(*) AS files, sum(size_bytes)::bigint AS size_bytes, count(metadata) AS annotated
    FROM catalog.file
    WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[])
    GROUP BY directory_id
) AS c
WHERE d.directory_id = c.directory_id;

-- name: remove_files
-- Remove the files of some ranges, each a directory with a first and a last name, with all that hangs on them: bytes
-- queued, feed told, counters and usage taken down. Of a range with `own_only` only files of these accesses go.
WITH gone AS (
    DELETE FROM catalog.file AS f
    USING unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[], %(own_only)s::boolean[])
          AS w (directory_id, first, last, own_only)
    WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
      AND NOT f.se_ids && %(fixed)s::integer[]
      AND (NOT w.own_only OR f.access_id = ANY (%(own)s::integer[]))
      AND (%(file_ids)s::bigint[] IS NULL OR f.file_id = ANY (%(file_ids)s::bigint[]))
    RETURNING f.file_id, f.directory_id, f.name, f.size_bytes, f.access_id, f.se_ids, f.pfns,
              (f.metadata IS NOT NULL)::integer AS annotated
), alike AS (
    SELECT directory_id, access_id, se_ids, count(*) AS files, sum(size_bytes)::bigint AS size_bytes,
           sum(annotated) AS annotated, array_agg(name) AS names, array_agg(name) FILTER (WHERE pfns IS NULL) AS placed
    FROM gone GROUP BY directory_id, access_id, se_ids
), queued AS (
    INSERT INTO catalog.removal (vo_id, se_id, path, names)
    SELECT %(vo_id)s::integer, r.se_id, COALESCE(l.path, ''), a.placed[part.first:part.first + 999]
    FROM alike AS a
    CROSS JOIN LATERAL unnest(a.se_ids) AS r (se_id)
    CROSS JOIN LATERAL generate_series(1, cardinality(a.placed), 1000) AS part (first)
    LEFT JOIN catalog.directory_location AS l ON l.directory_id = a.directory_id AND l.se_id = r.se_id
    WHERE %(delete_bytes)s::boolean
    UNION ALL
    SELECT %(vo_id)s::integer, o.se_id, o.path, array_agg(o.name)
    FROM (
        SELECT p.se_id, p.path, p.name, (row_number() OVER (PARTITION BY p.se_id, p.path) - 1) / 1000 AS part
        FROM (
            SELECT r.se_id,
                   CASE WHEN r.pfn IS NULL THEN COALESCE(l.path, '')
                        WHEN strpos(r.pfn, '/') > 0 THEN regexp_replace(r.pfn, '/[^/]*$', '') ELSE '' END AS path,
                   COALESCE(regexp_replace(r.pfn, '^.*/', ''), g.name) AS name
            FROM gone AS g
            CROSS JOIN LATERAL unnest(g.se_ids, g.pfns) AS r (se_id, pfn)
            LEFT JOIN catalog.directory_location AS l ON l.directory_id = g.directory_id AND l.se_id = r.se_id
            WHERE %(delete_bytes)s::boolean AND g.pfns IS NOT NULL
        ) AS p
    ) AS o
    GROUP BY o.se_id, o.path, o.part
), told AS (
    INSERT INTO catalog.change (vo_id, directory_id, gate_id, access_id, kind, path, files, names)
    SELECT %(vo_id)s::integer, d.directory_id, d.gate_id, d.access_id, 'files-removed', d.path, a.files, a.names
    FROM alike AS a JOIN catalog.directory AS d USING (directory_id)
), used AS (
    UPDATE catalog.directory_usage AS u
    SET files = u.files - c.files, size_bytes = u.size_bytes - c.size_bytes
    FROM (
        SELECT s.directory_id, r.se_id, a.owner_id, sum(s.files)::bigint AS files, sum(s.size_bytes)::bigint AS size_bytes
        FROM alike AS s
        JOIN catalog.access AS a USING (access_id)
        CROSS JOIN LATERAL unnest(s.se_ids) AS r (se_id)
        GROUP BY s.directory_id, r.se_id, a.owner_id
    ) AS c
    WHERE u.directory_id = c.directory_id AND u.se_id = c.se_id AND u.owner_id = c.owner_id
), counted AS (
    UPDATE catalog.directory AS d
    SET file_count = d.file_count - c.files, size_bytes = d.size_bytes - c.size_bytes,
        annotated_files = d.annotated_files - c.annotated
    FROM (
        SELECT directory_id, sum(files)::bigint AS files, sum(size_bytes)::bigint AS size_bytes, sum(annotated) AS annotated
        FROM alike GROUP BY directory_id
    ) AS c
    WHERE d.directory_id = c.directory_id
), forgotten AS (
    DELETE FROM catalog.file_ancestor
    WHERE %(lineage)s::boolean AND vo_id = %(vo_id)s::integer
      AND (file_id IN (SELECT file_id FROM gone) OR ancestor_id IN (SELECT file_id FROM gone))
)
SELECT COALESCE(sum(files), 0)::bigint, COALESCE(sum(size_bytes), 0)::bigint FROM alike;

-- name: forget_provenance
-- Take files out of the lineage of others.
DELETE FROM catalog.file_ancestor
WHERE vo_id = %(vo_id)s::integer
  AND (file_id = ANY (%(file_ids)s::bigint[]) OR ancestor_id = ANY (%(file_ids)s::bigint[]));

-- name: any_provenance
-- Whether the VO keeps any lineage at all.
SELECT EXISTS (SELECT FROM catalog.file_ancestor WHERE vo_id = %(vo_id)s::integer);

-- name: delete_directories
-- Delete directories that are empty, or whose subdirectories are among them.
WITH gone AS (
    DELETE FROM catalog.directory WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
    RETURNING directory_id
), unlocated AS (
    DELETE FROM catalog.directory_location WHERE directory_id IN (SELECT directory_id FROM gone)
)
DELETE FROM catalog.directory_usage WHERE directory_id IN (SELECT directory_id FROM gone);

-- name: take_due_removals
-- every VO: one chore deletes the bytes of all. What is taken comes back by itself, later each time. Where removing is
-- banned, it waits.
UPDATE catalog.removal AS r
SET attempts = r.attempts + 1, not_before = now() + least(30 * 2 ^ least(r.attempts, 20), 86400) * interval '1 second'
FROM (
    SELECT removal_id FROM catalog.removal WHERE not_before <= now()
       AND se_id NOT IN (SELECT e.se_id FROM resources.storage AS e WHERE e.held -> 'remove' ->> 'status' IN ('banned', 'probing'))
    ORDER BY se_id, not_before LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
) AS due
WHERE r.removal_id = due.removal_id
RETURNING r.removal_id, r.se_id, r.path, r.names, r.attempts;

-- name: names_in_use
-- every VO: bytes that a file of any VO still has are never deleted. Which of the names of a removal are such.
SELECT r.removal_id, n.name
FROM catalog.removal AS r
CROSS JOIN LATERAL unnest(r.names) AS n (name)
WHERE r.removal_id = ANY (%(removal_ids)s::bigint[])
  AND (EXISTS (
           SELECT FROM catalog.directory_location AS l
           JOIN catalog.file AS f ON f.directory_id = l.directory_id AND f.name = n.name
           WHERE l.path = r.path AND l.se_id = r.se_id
             AND array_position(f.se_ids, r.se_id) IS NOT NULL
             AND (f.pfns IS NULL OR f.pfns[array_position(f.se_ids, r.se_id)] IS NULL)
       ) OR EXISTS (
           SELECT FROM catalog.file AS f
           WHERE f.pfns IS NOT NULL
             AND catalog.pfn_keys(f.pfns) @> ARRAY[hashtextextended(CASE r.path WHEN '' THEN n.name ELSE r.path || '/' || n.name END, 0)]
             AND f.pfns[array_position(f.se_ids, r.se_id)] = CASE r.path WHEN '' THEN n.name ELSE r.path || '/' || n.name END
       ));

-- name: settle_removals
-- every VO: the rows were taken by their ids. What is left of them, and why; nothing left: they are done.
WITH settled AS (
    SELECT removal_id, string_to_array(names, '/') AS names, error
    FROM unnest(%(removal_ids)s::bigint[], %(names)s::text[], %(errors)s::text[]) AS w (removal_id, names, error)
), gone AS (
    DELETE FROM catalog.removal WHERE removal_id IN (SELECT removal_id FROM settled WHERE names IS NULL OR names = '{}')
)
UPDATE catalog.removal AS r SET names = s.names, error = s.error
FROM settled AS s WHERE r.removal_id = s.removal_id AND s.names <> '{}';

-- name: pin_replicas
-- Give the files' replicas PFNs of their own: the files are about to leave the directory that implied them.
UPDATE catalog.file AS f
SET pfns = ARRAY (
    SELECT COALESCE(r.pfn, concat_ws('/', NULLIF(l.path, ''), f.name))
    FROM unnest(f.se_ids, f.pfns) WITH ORDINALITY AS r (se_id, pfn, n)
    LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
    ORDER BY r.n
)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]) AND f.se_ids <> '{}';

-- name: move_files
-- Give files their new directories and names.
UPDATE catalog.file AS f
SET directory_id = m.directory_id, name = m.name
FROM unnest(%(file_ids)s::bigint[], %(directory_ids)s::bigint[], %(names)s::text[]) AS m (file_id, directory_id, name)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = m.file_id;

-- name: longest_path_below
-- How many bytes the longest path of a file or directory at or below a path has, of those whose directory has at least
-- so many: only these can become too long.
SELECT max(GREATEST(
    octet_length(d.path),
    octet_length(d.path) + 1 + (SELECT max(octet_length(f.name)) FROM catalog.file AS f WHERE f.directory_id = d.directory_id)
))
FROM catalog.directory AS d
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(path)s::text)
  AND octet_length(d.path) >= %(least)s::integer;

-- name: move_tree
-- Give a directory and all below it their new paths.
UPDATE catalog.directory
SET path = %(target)s::text || substr(path, length(%(source)s::text) + 1),
    parent_id = CASE WHEN path = %(source)s::text THEN %(parent_id)s::bigint ELSE parent_id END,
    name = CASE WHEN path = %(source)s::text THEN regexp_replace(%(target)s::text, '^.*/', '') ELSE name END
WHERE vo_id = %(vo_id)s::integer AND catalog.is_within(path, %(source)s::text);

-- name: inherit_below
-- Make what holds in the directories of a tree agree again with what is set in and above them. They are locked.
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
FROM tree AS t
WHERE d.directory_id = t.directory_id AND d.effective IS DISTINCT FROM NULLIF(t.effective, '{}');

-- name: lock_files
-- What is known of the files' ownership, locked in id order. Their directories are locked.
SELECT d.path || '/' || f.name AS path, f.file_id, f.directory_id, f.access_id, d.gate_id
FROM unnest(%(directories)s::text[], %(names)s::text[]) AS w (directory, name)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY f.file_id
FOR NO KEY UPDATE OF f;

-- name: change_file_metadata
-- Set some keys of files and unset others; their directories, which are locked, count the files with any.
WITH changed AS (
    UPDATE catalog.file AS f
    SET metadata = NULLIF((COALESCE(f.metadata, '{}') - %(unset)s::text[]) || %(set)s::jsonb, '{}'), modified_at = now()
    FROM catalog.file AS old
    WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]) AND old.file_id = f.file_id
    RETURNING f.directory_id, (f.metadata IS NOT NULL)::integer - (old.metadata IS NOT NULL)::integer AS more
)
UPDATE catalog.directory AS d SET annotated_files = d.annotated_files + c.more
FROM (SELECT directory_id, sum(more) AS more FROM changed GROUP BY directory_id) AS c
WHERE d.directory_id = c.directory_id AND c.more <> 0;

-- name: change_directory_metadata
-- Set some keys of directories and unset others.
UPDATE catalog.directory
SET metadata = NULLIF((COALESCE(metadata, '{}') - %(unset)s::text[]) || %(set)s::jsonb, '{}')
WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: directory_metadata
-- What is set at the directories themselves.
SELECT path, COALESCE(metadata, '{}') AS metadata
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND path = ANY (%(paths)s::text[]);

-- name: file_metadata
-- What is set at the files themselves, and what its reader's rights depend on.
SELECT d.path || '/' || f.name AS path, COALESCE(f.metadata, '{}') AS metadata, f.access_id, d.gate_id
FROM unnest(%(directories)s::text[], %(names)s::text[]) AS w (directory, name)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
WHERE d.vo_id = %(vo_id)s::integer;

-- name: metadata_keys
-- The declared keys of the VO.
SELECT name, type FROM catalog.metadata_key WHERE vo_id = %(vo_id)s::integer ORDER BY name;

-- name: declare_keys
-- Declare keys; those that are declared stay as they are.
INSERT INTO catalog.metadata_key (vo_id, name, type)
SELECT %(vo_id)s::integer, k.name, k.type::catalog.metadata_type
FROM unnest(%(names)s::text[], %(types)s::text[]) AS k (name, type)
ON CONFLICT DO NOTHING;

-- name: values_of_key
-- The different values that are stored under a key, of any type, until `limit`.
SELECT DISTINCT value FROM (
    SELECT metadata -> %(key)s::text AS value FROM catalog.directory
    WHERE vo_id = %(vo_id)s::integer AND metadata IS NOT NULL AND metadata ? %(key)s::text
    UNION ALL
    SELECT metadata -> %(key)s::text FROM catalog.file
    WHERE vo_id = %(vo_id)s::integer AND metadata IS NOT NULL AND metadata ? %(key)s::text
) AS all_values
LIMIT %(limit)s::integer;

-- name: record_changes
-- Write into the change feed what happened to each of some directories, and wake who follows it.
WITH told AS (
    INSERT INTO catalog.change (vo_id, directory_id, gate_id, access_id, kind, path, files, first_file_id, last_file_id, names, detail)
    SELECT %(vo_id)s::integer, w.directory_id, d.gate_id, d.access_id, %(kind)s::catalog.change_kind, d.path, w.files,
           w.first_file_id, w.last_file_id, NULL, %(detail)s::jsonb
    FROM unnest(%(directory_ids)s::bigint[], %(files)s::bigint[], %(first_file_ids)s::bigint[], %(last_file_ids)s::bigint[])
         AS w (directory_id, files, first_file_id, last_file_id)
    JOIN catalog.directory AS d ON d.directory_id = w.directory_id AND d.vo_id = %(vo_id)s::integer
    RETURNING vo_id
)
SELECT pg_notify('spinor', 'changes:' || vo_id) FROM (SELECT vo_id FROM told LIMIT 1) AS one;

-- name: record_files
-- Write into the change feed what is about to happen, or just happened, to these files, and wake who follows it.
WITH told AS (
    INSERT INTO catalog.change (vo_id, directory_id, gate_id, access_id, kind, path, files, names, detail)
    SELECT %(vo_id)s::integer, d.directory_id, d.gate_id, d.access_id, %(kind)s::catalog.change_kind, d.path, f.files, f.names, %(detail)s::jsonb
    FROM (
        SELECT directory_id, count(*) AS files, array_agg(name ORDER BY name) AS names
        FROM catalog.file
        WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[])
        GROUP BY directory_id
    ) AS f
    JOIN catalog.directory AS d USING (directory_id)
    RETURNING vo_id
)
SELECT pg_notify('spinor', 'changes:' || vo_id) FROM (SELECT vo_id FROM told LIMIT 1) AS one;

-- name: wake_followers
-- Wake who follows the VO's change feed, once the transaction is committed.
SELECT pg_notify('spinor', 'changes:' || %(vo_id)s::integer);
