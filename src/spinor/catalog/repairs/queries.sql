-- name: replicas_on
-- All replicas of a VO on a storage element, in the order of the tables; the time is that since when they are as they are.
SELECT COALESCE(r.pfn, concat_ws('/', NULLIF(l.path, ''), f.name)) AS pfn, d.path || '/' || f.name AS lfn, f.size_bytes,
       f.adler32::bigint & 4294967295 AS adler32, COALESCE(r.status, 'available') AS status,
       to_char(COALESCE(f.replicas_at, f.created_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS created_at
FROM catalog.directory AS d
JOIN catalog.file AS f USING (directory_id)
CROSS JOIN LATERAL (
    SELECT f.pfns[n] AS pfn, f.statuses[n] AS status FROM array_position(f.se_ids, %(se_id)s::integer) AS n WHERE n IS NOT NULL
) AS r
LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = %(se_id)s::integer
WHERE d.vo_id = %(vo_id)s::integer AND (%(path)s::text IS NULL OR catalog.is_within(d.path, %(path)s::text));

-- name: removals_on
-- The PFNs of a VO that are to be deleted from a storage element.
SELECT concat_ws('/', NULLIF(r.path, ''), n.name) AS pfn
FROM catalog.removal AS r CROSS JOIN LATERAL unnest(r.names) AS n (name)
WHERE r.vo_id = %(vo_id)s::integer AND r.se_id = %(se_id)s::integer;

-- name: pending_among
-- every VO: bytes that are to be deleted are nobody's any more. Which of these places are such.
SELECT w.n::integer
FROM unnest(%(paths)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (path, name, n)
WHERE EXISTS (
    SELECT FROM catalog.removal AS r WHERE r.path = w.path AND r.se_id = %(se_id)s::integer AND w.name = ANY (r.names)
);

-- name: queue_removals
-- Remember bytes that nobody names, to delete them later.
INSERT INTO catalog.removal (vo_id, se_id, path, names, not_before)
SELECT %(vo_id)s::integer, %(se_id)s::integer, p.path, array_agg(p.name), now() + %(delay_s)s::integer * interval '1 second'
FROM (
    SELECT w.*, (row_number() OVER (PARTITION BY w.path) - 1) / 1000 AS part
    FROM unnest(%(paths)s::text[], %(names)s::text[]) AS w (path, name)
) AS p
GROUP BY p.path, p.part;

-- name: lock_removals
-- The removals in these places that nobody has begun yet, which wait for us from here on.
SELECT removal_id, path, names FROM catalog.removal
WHERE vo_id = %(vo_id)s::integer AND se_id = %(se_id)s::integer AND path = ANY (%(paths)s::text[]) AND attempts = 0
ORDER BY removal_id FOR UPDATE;

-- name: change_removals
-- What is left of removals; those of which nothing is left go.
WITH left_over AS (
    SELECT removal_id, names::text[] AS names
    FROM unnest(%(removal_ids)s::bigint[], %(names)s::text[]) AS w (removal_id, names)
), gone AS (
    DELETE FROM catalog.removal WHERE vo_id = %(vo_id)s::integer AND removal_id IN (SELECT removal_id FROM left_over WHERE names = '{}')
)
UPDATE catalog.removal AS r SET names = l.names FROM left_over AS l
WHERE r.vo_id = %(vo_id)s::integer AND r.removal_id = l.removal_id AND l.names <> '{}';

-- name: set_checksums
-- Give files another adler32, or none.
UPDATE catalog.file AS f SET adler32 = w.adler32::bit(32)::integer, modified_at = now()
FROM unnest(%(file_ids)s::bigint[], %(adler32)s::bigint[]) AS w (file_id, adler32)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = w.file_id;

-- name: shared_among
-- every VO: a place belongs to one file, whichever VO it is of. Which of these places more than one file has.
SELECT w.n::integer
FROM unnest(%(paths)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (path, name, n)
WHERE (
    SELECT count(*) FROM catalog.directory_location AS l
    JOIN catalog.file AS f ON f.directory_id = l.directory_id AND f.name = w.name
    WHERE l.path = w.path AND l.se_id = %(se_id)s::integer AND array_position(f.se_ids, %(se_id)s::integer) IS NOT NULL
      AND (f.pfns IS NULL OR f.pfns[array_position(f.se_ids, %(se_id)s::integer)] IS NULL)
) + (
    SELECT count(*) FROM catalog.file AS f
    WHERE f.pfns IS NOT NULL
      AND catalog.pfn_keys(f.pfns) @> ARRAY[hashtextextended(CASE w.path WHEN '' THEN w.name ELSE w.path || '/' || w.name END, 0)]
      AND f.pfns[array_position(f.se_ids, %(se_id)s::integer)] = CASE w.path WHEN '' THEN w.name ELSE w.path || '/' || w.name END
) > 1;
