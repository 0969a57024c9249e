-- What a slice does to the files of some ranges of names, all in locked directories. A range is a directory, a first and
-- a last name. `own_only` says of a range that the caller may take out of it only files of their own.

-- name: remove_files
-- Remove the files of some ranges with all that hangs on them: bytes queued, feed told, counters and usage taken down.
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

-- name: remove_all_files
-- The same for all files of some directories, of which none may stay and none is in a lineage: a DELETE that returns
-- nothing takes a fifth of the time, and counters need only become zero.
WITH alike AS (
    SELECT directory_id, se_ids, pfns IS NULL AS placed, count(*) AS files, sum(size_bytes)::bigint AS size_bytes,
           array_agg(name) AS names
    FROM catalog.file
    WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
    GROUP BY directory_id, se_ids, pfns IS NULL
), gone AS (
    DELETE FROM catalog.file
    WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
), queued AS (
    INSERT INTO catalog.removal (vo_id, se_id, path, names)
    SELECT %(vo_id)s::integer, r.se_id, COALESCE(l.path, ''), a.names[part.first:part.first + 999]
    FROM alike AS a
    CROSS JOIN LATERAL unnest(a.se_ids) AS r (se_id)
    CROSS JOIN LATERAL generate_series(1, cardinality(a.names), 1000) AS part (first)
    LEFT JOIN catalog.directory_location AS l ON l.directory_id = a.directory_id AND l.se_id = r.se_id
    WHERE %(delete_bytes)s::boolean AND a.placed
    UNION ALL
    SELECT %(vo_id)s::integer, o.se_id, o.path, array_agg(o.name)
    FROM (
        SELECT p.se_id, p.path, p.name, (row_number() OVER (PARTITION BY p.se_id, p.path) - 1) / 1000 AS part
        FROM (
            SELECT r.se_id,
                   CASE WHEN r.pfn IS NULL THEN COALESCE(l.path, '')
                        WHEN strpos(r.pfn, '/') > 0 THEN regexp_replace(r.pfn, '/[^/]*$', '') ELSE '' END AS path,
                   COALESCE(regexp_replace(r.pfn, '^.*/', ''), f.name) AS name
            FROM catalog.file AS f
            CROSS JOIN LATERAL unnest(f.se_ids, f.pfns) AS r (se_id, pfn)
            LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
            WHERE %(delete_bytes)s::boolean AND f.vo_id = %(vo_id)s::integer AND f.pfns IS NOT NULL
              AND f.directory_id = ANY (%(directory_ids)s::bigint[]) AND EXISTS (SELECT FROM alike WHERE NOT placed)
        ) AS p
    ) AS o
    GROUP BY o.se_id, o.path, o.part
), told AS (
    INSERT INTO catalog.change (vo_id, directory_id, gate_id, access_id, kind, path, files, names)
    SELECT %(vo_id)s::integer, d.directory_id, d.gate_id, d.access_id, 'files-removed', d.path, a.files, a.names
    FROM alike AS a JOIN catalog.directory AS d USING (directory_id)
), used AS (
    UPDATE catalog.directory_usage SET files = 0, size_bytes = 0
    WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
), counted AS (
    UPDATE catalog.directory SET file_count = 0, size_bytes = 0, annotated_files = 0
    WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
)
SELECT COALESCE(sum(files), 0)::bigint, COALESCE(sum(size_bytes), 0)::bigint FROM alike;

-- name: not_removed
-- Those files of the ranges that may not be removed, and whether it is for a read-only storage element (else for their
-- owner); with how many they are.
SELECT d.path || '/' || f.name, f.se_ids && %(fixed)s::integer[], count(*) OVER (), sum(f.size_bytes) OVER ()::bigint
FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[], %(own_only)s::boolean[])
     AS w (directory_id, first, last, own_only)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
JOIN catalog.directory AS d ON d.directory_id = f.directory_id
WHERE f.vo_id = %(vo_id)s::integer
  AND (f.se_ids && %(fixed)s::integer[] OR (w.own_only AND f.access_id <> ALL (%(own)s::integer[])))
  AND (%(file_ids)s::bigint[] IS NULL OR f.file_id = ANY (%(file_ids)s::bigint[]))
ORDER BY f.directory_id, f.name
LIMIT %(limit)s::integer;

-- name: own_accesses
-- The accesses that make a file the caller's.
SELECT access_id FROM catalog.access WHERE vo_id = %(vo_id)s::integer AND owner_id = %(user_id)s::integer;

-- name: annotate_files
-- Set some keys of the files of some ranges and unset others, where the caller may; tell the feed, count the annotated.
WITH changed AS (
    UPDATE catalog.file AS f
    SET metadata = NULLIF((COALESCE(f.metadata, '{}') - %(unset)s::text[]) || %(set)s::jsonb, '{}'), modified_at = now()
    FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
    JOIN catalog.file AS old ON old.directory_id = w.directory_id AND old.name BETWEEN w.first AND w.last
    WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = old.directory_id AND f.name = old.name
      AND (%(writable)s::integer[] IS NULL OR f.access_id = ANY (%(writable)s::integer[]))
      AND (%(file_ids)s::bigint[] IS NULL OR f.file_id = ANY (%(file_ids)s::bigint[]))
    RETURNING f.directory_id, f.name, f.size_bytes,
              (f.metadata IS NOT NULL)::integer - (old.metadata IS NOT NULL)::integer AS more
), told AS (
    INSERT INTO catalog.change (vo_id, directory_id, gate_id, access_id, kind, path, files, names, detail)
    SELECT %(vo_id)s::integer, d.directory_id, d.gate_id, d.access_id, 'metadata-changed', d.path, g.files, g.names,
           jsonb_build_object('set', %(set)s::jsonb, 'unset', %(unset)s::text[])
    FROM (SELECT directory_id, count(*) AS files, array_agg(name) AS names FROM changed GROUP BY directory_id) AS g
    JOIN catalog.directory AS d USING (directory_id)
), counted AS (
    UPDATE catalog.directory AS d SET annotated_files = d.annotated_files + c.more
    FROM (SELECT directory_id, sum(more) AS more FROM changed GROUP BY directory_id) AS c
    WHERE d.directory_id = c.directory_id AND c.more <> 0
)
SELECT count(*), COALESCE(sum(size_bytes), 0)::bigint FROM changed;

-- name: not_writable
-- Those files of the ranges that the caller may not change; with how many they are.
SELECT d.path || '/' || f.name, FALSE, count(*) OVER (), sum(f.size_bytes) OVER ()::bigint
FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
JOIN catalog.directory AS d ON d.directory_id = f.directory_id
WHERE f.vo_id = %(vo_id)s::integer AND f.access_id <> ALL (%(writable)s::integer[])
  AND (%(file_ids)s::bigint[] IS NULL OR f.file_id = ANY (%(file_ids)s::bigint[]))
ORDER BY f.directory_id, f.name
LIMIT %(limit)s::integer;

-- name: add_locations
-- Where the files of some directories lie on the new storage element, as they lay on the old one.
INSERT INTO catalog.directory_location (directory_id, se_id, path)
SELECT l.directory_id, %(to_id)s::integer, n.path
FROM catalog.directory_location AS l
JOIN catalog.directory AS d USING (directory_id)
CROSS JOIN LATERAL (
    SELECT CASE WHEN %(from_prefix)s::text = '' THEN concat_ws('/', NULLIF(%(to_prefix)s::text, ''), l.path)
            WHEN l.path = %(from_prefix)s::text THEN %(to_prefix)s::text
            WHEN starts_with(l.path, %(from_prefix)s::text || '/')
            THEN %(to_prefix)s::text || substr(l.path, length(%(from_prefix)s::text) + 1) END AS path
) AS n
WHERE d.vo_id = %(vo_id)s::integer AND l.directory_id = ANY (%(directory_ids)s::bigint[]) AND l.se_id = %(from_id)s::integer
  AND n.path IS NOT NULL
ON CONFLICT (directory_id, se_id) DO NOTHING;

-- name: rehost_files
-- Write the new storage element, and where needed the new PFN, into the replicas that some ranges' files have on the old
-- one, unless they have one on the new; usage follows.
WITH moving AS (
    SELECT f.file_id, f.directory_id, f.name, f.size_bytes, f.access_id, p.place,
           CASE WHEN p.was IS NOT NULL OR n.pfn IS DISTINCT FROM concat_ws('/', NULLIF(there.path, ''), f.name)
                  OR there.path IS NULL THEN n.pfn END AS own
    FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
    JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
    CROSS JOIN LATERAL (
        SELECT place, f.pfns[place] AS was FROM array_position(f.se_ids, %(from_id)s::integer) AS place
    ) AS p
    LEFT JOIN catalog.directory_location AS here ON here.directory_id = f.directory_id AND here.se_id = %(from_id)s::integer
    LEFT JOIN catalog.directory_location AS there ON there.directory_id = f.directory_id AND there.se_id = %(to_id)s::integer
    CROSS JOIN LATERAL (SELECT COALESCE(p.was, concat_ws('/', NULLIF(here.path, ''), f.name)) AS pfn) AS old
    CROSS JOIN LATERAL (
        SELECT CASE WHEN %(from_prefix)s::text = '' THEN concat_ws('/', NULLIF(%(to_prefix)s::text, ''), old.pfn)
            WHEN old.pfn = %(from_prefix)s::text THEN %(to_prefix)s::text
            WHEN starts_with(old.pfn, %(from_prefix)s::text || '/')
            THEN %(to_prefix)s::text || substr(old.pfn, length(%(from_prefix)s::text) + 1) END AS pfn
    ) AS n
    WHERE f.vo_id = %(vo_id)s::integer AND p.place IS NOT NULL AND array_position(f.se_ids, %(to_id)s::integer) IS NULL
      AND n.pfn <> ''
      AND (NOT %(leaving)s::boolean OR NOT EXISTS (
          SELECT FROM catalog.removal AS r
          WHERE r.se_id = %(to_id)s::integer AND regexp_replace(n.pfn, '^.*/', '') = ANY (r.names)
            AND r.path = CASE WHEN strpos(n.pfn, '/') > 0 THEN regexp_replace(n.pfn, '/[^/]*$', '') ELSE '' END
      ))
), moved AS (
    UPDATE catalog.file AS f
    SET se_ids[m.place] = %(to_id)s::integer,
        pfns = CASE WHEN f.pfns IS NULL AND m.own IS NULL THEN NULL
                    ELSE (COALESCE(f.pfns, array_fill(NULL::text, ARRAY[cardinality(f.se_ids)])))[:m.place - 1] || m.own
                         || (COALESCE(f.pfns, array_fill(NULL::text, ARRAY[cardinality(f.se_ids)])))[m.place + 1:] END
    FROM moving AS m WHERE f.directory_id = m.directory_id AND f.name = m.name
    RETURNING f.directory_id, f.name, f.size_bytes, f.access_id
), sums AS (
    SELECT m.directory_id, a.owner_id, count(*) AS files, sum(m.size_bytes)::bigint AS size_bytes
    FROM moved AS m JOIN catalog.access AS a USING (access_id) GROUP BY m.directory_id, a.owner_id
), gone AS (
    UPDATE catalog.directory_usage AS u SET files = u.files - s.files, size_bytes = u.size_bytes - s.size_bytes
    FROM sums AS s
    WHERE u.directory_id = s.directory_id AND u.owner_id = s.owner_id AND u.se_id = %(from_id)s::integer
), come AS (
    INSERT INTO catalog.directory_usage AS u (directory_id, se_id, owner_id, vo_id, files, size_bytes)
    SELECT directory_id, %(to_id)s::integer, owner_id, %(vo_id)s::integer, files, size_bytes FROM sums
    ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
    SET files = u.files + excluded.files, size_bytes = u.size_bytes + excluded.size_bytes
), told AS (
    INSERT INTO catalog.change (vo_id, directory_id, gate_id, access_id, kind, path, files, names, detail)
    SELECT %(vo_id)s::integer, d.directory_id, d.gate_id, d.access_id, 'replicas-changed', d.path, g.files, g.names,
           jsonb_build_object('from', %(from_se)s::text, 'to', %(to_se)s::text)
    FROM (SELECT directory_id, count(*) AS files, array_agg(name) AS names FROM moved GROUP BY directory_id) AS g
    JOIN catalog.directory AS d USING (directory_id)
)
SELECT count(*), COALESCE(sum(size_bytes), 0)::bigint FROM moved;

-- name: not_rehosted
-- Those files of the ranges that still have a replica on the old storage element, and whether they have one on both.
SELECT d.path || '/' || f.name, f.se_ids @> ARRAY[%(to_id)s::integer], count(*) OVER (), sum(f.size_bytes) OVER ()::bigint
FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
JOIN catalog.directory AS d ON d.directory_id = f.directory_id
WHERE f.vo_id = %(vo_id)s::integer AND f.se_ids @> ARRAY[%(from_id)s::integer]
ORDER BY f.directory_id, f.name
LIMIT %(limit)s::integer;

-- name: wrong_counters
-- Which counters of the directories differ from a count of their files: path, what, what it says, what it should say.
SELECT d.path, v.what, v.says, v.is_so
FROM catalog.directory AS d
LEFT JOIN (
    SELECT directory_id, count(*) AS files, sum(size_bytes)::bigint AS size_bytes, count(metadata) AS annotated
    FROM catalog.file WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
    GROUP BY directory_id
) AS c USING (directory_id)
CROSS JOIN LATERAL (VALUES
    ('files', d.file_count, COALESCE(c.files, 0)), ('bytes', d.size_bytes, COALESCE(c.size_bytes, 0)),
    ('files with metadata', d.annotated_files, COALESCE(c.annotated, 0))
) AS v (what, says, is_so)
WHERE d.vo_id = %(vo_id)s::integer AND d.directory_id = ANY (%(directory_ids)s::bigint[]) AND v.says <> v.is_so
ORDER BY d.path, v.what;

-- name: wrong_usage
-- Which rows of usage differ from a count of the replicas of the directories' files.
SELECT d.path, s.name || ' of ' || o.name, v.what, v.says, v.is_so, k.directory_id, k.se_id, k.owner_id
FROM (
    SELECT directory_id, se_id, owner_id, files, size_bytes FROM catalog.directory_usage
    WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
) AS u
FULL JOIN (
    SELECT f.directory_id, r.se_id, a.owner_id, count(*) AS files, sum(f.size_bytes)::bigint AS size_bytes
    FROM catalog.file AS f JOIN catalog.access AS a USING (access_id) CROSS JOIN LATERAL unnest(f.se_ids) AS r (se_id)
    WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = ANY (%(directory_ids)s::bigint[])
    GROUP BY f.directory_id, r.se_id, a.owner_id
) AS c USING (directory_id, se_id, owner_id)
CROSS JOIN LATERAL (SELECT directory_id, se_id, owner_id) AS k
JOIN catalog.directory AS d ON d.directory_id = k.directory_id
JOIN resources.storage_element AS s ON s.se_id = k.se_id
JOIN identity.user_account AS o ON o.user_id = k.owner_id
CROSS JOIN LATERAL (VALUES
    ('files', COALESCE(u.files, 0), COALESCE(c.files, 0)), ('bytes', COALESCE(u.size_bytes, 0), COALESCE(c.size_bytes, 0))
) AS v (what, says, is_so)
WHERE v.says <> v.is_so
ORDER BY d.path, s.name, o.name, v.what;

-- name: mend_counters
-- Write into locked directories what a count of their files says.
UPDATE catalog.directory AS d
SET file_count = COALESCE(c.files, 0), size_bytes = COALESCE(c.size_bytes, 0), annotated_files = COALESCE(c.annotated, 0)
FROM unnest(%(directory_ids)s::bigint[]) AS w (directory_id)
LEFT JOIN (
    SELECT directory_id, count(*) AS files, sum(size_bytes)::bigint AS size_bytes, count(metadata) AS annotated
    FROM catalog.file WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[])
    GROUP BY directory_id
) AS c USING (directory_id)
WHERE d.vo_id = %(vo_id)s::integer AND d.directory_id = w.directory_id;

-- name: forget_usage
-- Drop the usage of locked directories, to write it anew.
DELETE FROM catalog.directory_usage
WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: write_usage
-- Write the usage of locked directories from a count of their files' replicas.
INSERT INTO catalog.directory_usage (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT f.directory_id, r.se_id, a.owner_id, f.vo_id, count(*), sum(f.size_bytes)::bigint
FROM catalog.file AS f JOIN catalog.access AS a USING (access_id) CROSS JOIN LATERAL unnest(f.se_ids) AS r (se_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = ANY (%(directory_ids)s::bigint[])
GROUP BY f.directory_id, r.se_id, a.owner_id, f.vo_id;

-- name: files_of_ranges
-- The files of some ranges, and their bytes.
SELECT f.file_id, f.size_bytes
FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
WHERE f.vo_id = %(vo_id)s::integer;
