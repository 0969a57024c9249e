-- name: lock_files
-- Files with their replicas, in the order asked; their directories are locked.
SELECT w.n::integer AS n, f.file_id, f.directory_id, f.name, f.size_bytes, f.se_ids, f.pfns, f.statuses::text[] AS statuses,
       f.access_id, a.owner_id, d.gate_id, lpad(to_hex(f.adler32), 8, '0') AS adler32, encode(f.sha256, 'hex') AS sha256
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
JOIN catalog.access AS a ON a.access_id = f.access_id
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY w.n;

-- name: write_replicas
-- Give files other replicas than they had; an array of statuses or PFNs is empty where the column is to be NULL.
UPDATE catalog.file AS f
SET se_ids = w.se_ids::integer[], pfns = w.pfns::text[], statuses = w.statuses::catalog.replica_status[], replicas_at = now()
FROM unnest(%(file_ids)s::bigint[], %(se_ids)s::text[], %(pfns)s::text[], %(statuses)s::text[])
     AS w (file_id, se_ids, pfns, statuses)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = w.file_id;

-- name: count_usage
-- Count replicas that came or, negative, went; the directories are locked.
INSERT INTO catalog.directory_usage AS u (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT c.directory_id, c.se_id, c.owner_id, %(vo_id)s::integer, sum(c.files), sum(c.size_bytes)
FROM unnest(
    %(directory_ids)s::bigint[], %(se_ids)s::integer[], %(owner_ids)s::integer[], %(files)s::bigint[], %(sizes)s::bigint[]
) AS c (directory_id, se_id, owner_id, files, size_bytes)
GROUP BY c.directory_id, c.se_id, c.owner_id
HAVING sum(c.files) >= 0
ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
SET files = u.files + excluded.files, size_bytes = u.size_bytes + excluded.size_bytes;

-- name: count_out_usage
-- Count replicas that went; the directories are locked.
UPDATE catalog.directory_usage AS u
SET files = u.files - c.files, size_bytes = u.size_bytes - c.size_bytes
FROM (
    SELECT w.directory_id, w.se_id, w.owner_id, count(*) AS files, sum(w.size_bytes)::bigint AS size_bytes
    FROM unnest(%(directory_ids)s::bigint[], %(se_ids)s::integer[], %(owner_ids)s::integer[], %(sizes)s::bigint[])
         AS w (directory_id, se_id, owner_id, size_bytes)
    GROUP BY w.directory_id, w.se_id, w.owner_id
) AS c
WHERE u.vo_id = %(vo_id)s::integer
  AND u.directory_id = c.directory_id AND u.se_id = c.se_id AND u.owner_id = c.owner_id;

-- name: queue_removals
-- Remember bytes, to delete them from their storages.
INSERT INTO catalog.removal (vo_id, se_id, path, names)
SELECT %(vo_id)s::integer, p.se_id, p.path, array_agg(p.name)
FROM (
    SELECT w.*, (row_number() OVER (PARTITION BY w.se_id, w.path) - 1) / 1000 AS part
    FROM unnest(%(se_ids)s::integer[], %(paths)s::text[], %(names)s::text[]) AS w (se_id, path, name)
) AS p
GROUP BY p.se_id, p.path, p.part;

-- name: used_places
-- every VO: a place that a file of any VO has is not another's. Which of these (se_id, directory of PFNs, name) are taken.
SELECT w.n::integer
FROM unnest(%(se_ids)s::integer[], %(paths)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (se_id, path, name, n)
WHERE EXISTS (
          SELECT FROM catalog.directory_location AS l
          JOIN catalog.file AS f ON f.directory_id = l.directory_id AND f.name = w.name
          WHERE l.path = w.path AND l.se_id = w.se_id AND array_position(f.se_ids, w.se_id) IS NOT NULL
            AND (f.pfns IS NULL OR f.pfns[array_position(f.se_ids, w.se_id)] IS NULL)
      ) OR EXISTS (
          SELECT FROM catalog.file AS f
          WHERE f.pfns IS NOT NULL
            AND catalog.pfn_keys(f.pfns) @> ARRAY[hashtextextended(CASE w.path WHEN '' THEN w.name ELSE w.path || '/' || w.name END, 0)]
            AND f.pfns[array_position(f.se_ids, w.se_id)] = CASE w.path WHEN '' THEN w.name ELSE w.path || '/' || w.name END
      );

-- name: set_file_status
-- Give files a status; how many have another one than before.
UPDATE catalog.file SET status = NULLIF(%(status)s::catalog.file_status, 'available'), modified_at = now()
WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[])
  AND COALESCE(status, 'available') <> %(status)s::catalog.file_status;

-- name: fill_checksums
-- Tell the checksums of files that had none; how many were filled.
UPDATE catalog.file AS f
SET adler32 = COALESCE(f.adler32, w.adler32::bit(32)::integer), sha256 = COALESCE(f.sha256, w.sha256), modified_at = now()
FROM unnest(%(file_ids)s::bigint[], %(adler32)s::bigint[], %(sha256)s::bytea[]) AS w (file_id, adler32, sha256)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = w.file_id
  AND (f.adler32 IS NULL AND w.adler32 IS NOT NULL OR f.sha256 IS NULL AND w.sha256 IS NOT NULL);

-- name: find_guids
-- The files that have these guids, and what their reader's rights depend on.
SELECT f.guid, d.path || '/' || f.name AS lfn, f.access_id, d.gate_id
FROM unnest(%(guids)s::uuid[]) AS w (guid)
JOIN catalog.file AS f ON f.guid = w.guid AND f.vo_id = %(vo_id)s::integer
JOIN catalog.directory AS d USING (directory_id);
