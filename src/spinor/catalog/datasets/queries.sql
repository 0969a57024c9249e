-- name: datasets
-- Datasets of the VO by name, or those of these names, with what their readers' rights depend on.
SELECT s.name, s.path, s.query, s.state::text, s.version, s.annotation, u.name AS owner, g.name AS "group", a.mode,
       s.created_at, s.checked_at, s.files, s.size_bytes::bigint, encode(s.digest, 'hex') AS digest, s.dataset_id,
       s.access_id
FROM catalog.dataset AS s
JOIN catalog.access AS a USING (access_id)
LEFT JOIN identity.user_account AS u ON u.user_id = a.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
WHERE s.vo_id = %(vo_id)s::integer
  AND (%(names)s::text[] IS NULL OR s.name = ANY (%(names)s::text[]))
  AND (%(readable)s::integer[] IS NULL OR s.access_id = ANY (%(readable)s::integer[]))
  AND starts_with(s.name, %(beginning)s::text) AND s.name > %(after)s::text
ORDER BY s.name
LIMIT %(limit)s::integer;

-- name: lock_datasets
-- Nobody else changes these until the end of the transaction.
SELECT dataset_id FROM catalog.dataset
WHERE vo_id = %(vo_id)s::integer AND name = ANY (%(names)s::text[])
ORDER BY dataset_id
FOR UPDATE;

-- name: insert_dataset
-- Keep a query under a name, with what it finds now.
INSERT INTO catalog.dataset (vo_id, access_id, name, path, query, annotation, files, size_bytes, digest)
VALUES (%(vo_id)s::integer, %(access_id)s::integer, %(name)s::text, %(path)s::text, %(query)s::text, %(annotation)s::text,
        %(files)s::bigint, %(size_bytes)s::numeric, %(digest)s::bytea);

-- name: note
-- Note what a dataset holds now.
UPDATE catalog.dataset
SET files = %(files)s::bigint, size_bytes = %(size_bytes)s::numeric, digest = %(digest)s::bytea, checked_at = now()
WHERE vo_id = %(vo_id)s::integer AND dataset_id = %(dataset_id)s::bigint;

-- name: insert_version
-- Begin the next version of a dataset, which is frozen from now on; its number.
WITH frozen AS (
    UPDATE catalog.dataset SET state = 'frozen', version = version + 1
    WHERE vo_id = %(vo_id)s::integer AND dataset_id = %(dataset_id)s::bigint
    RETURNING dataset_id, vo_id, version, query
)
INSERT INTO catalog.dataset_version (dataset_id, version, vo_id, query, frozen_by, annotation, files, size_bytes, digest)
SELECT dataset_id, version, vo_id, query, %(user_id)s::integer, %(annotation)s::text, 0, 0, ''
FROM frozen
RETURNING version;

-- name: end_version
-- Count what a version holds, in it and in its dataset.
WITH counted AS (
    UPDATE catalog.dataset_version
    SET files = %(files)s::bigint, size_bytes = %(size_bytes)s::numeric, digest = %(digest)s::bytea
    WHERE vo_id = %(vo_id)s::integer AND dataset_id = %(dataset_id)s::bigint AND version = %(version)s::integer
    RETURNING dataset_id, files, size_bytes, digest
)
UPDATE catalog.dataset AS s
SET files = c.files, size_bytes = c.size_bytes, digest = c.digest, checked_at = now()
FROM counted AS c WHERE s.dataset_id = c.dataset_id;

-- name: version_rows
-- every VO: the dataset was found with the caller's VO. The files of a version, as they were.
SELECT lfn, file_id, size_bytes, adler32
FROM catalog.dataset_file
WHERE dataset_id = %(dataset_id)s::bigint AND version = %(version)s::integer;

-- name: gone
-- How many files of each dataset's newest version are no longer there.
SELECT s.dataset_id, count(*)
FROM catalog.dataset AS s
JOIN catalog.dataset_file AS v ON v.dataset_id = s.dataset_id AND v.version = s.version
WHERE s.vo_id = %(vo_id)s::integer AND s.dataset_id = ANY (%(dataset_ids)s::bigint[])
  AND NOT EXISTS (SELECT FROM catalog.file AS f WHERE f.file_id = v.file_id)
GROUP BY s.dataset_id;

-- name: versions
-- The versions of datasets, the oldest first.
SELECT s.name, v.version, v.query, v.frozen_at, u.name AS frozen_by, v.annotation, v.files, v.size_bytes::bigint,
       encode(v.digest, 'hex') AS digest
FROM catalog.dataset AS s
JOIN catalog.dataset_version AS v USING (dataset_id)
JOIN identity.user_account AS u ON u.user_id = v.frozen_by
WHERE s.vo_id = %(vo_id)s::integer AND s.dataset_id = ANY (%(dataset_ids)s::bigint[])
ORDER BY s.name, v.version;

-- name: release
-- Let datasets be what their queries find; their versions stay.
UPDATE catalog.dataset SET state = 'dynamic'
WHERE vo_id = %(vo_id)s::integer AND dataset_id = ANY (%(dataset_ids)s::bigint[]);

-- name: annotate
-- Say something about datasets.
UPDATE catalog.dataset SET annotation = %(annotation)s::text
WHERE vo_id = %(vo_id)s::integer AND dataset_id = ANY (%(dataset_ids)s::bigint[]);

-- name: rename
-- Give a dataset another name.
UPDATE catalog.dataset SET name = %(to)s::text
WHERE vo_id = %(vo_id)s::integer AND dataset_id = %(dataset_id)s::bigint;

-- name: remove
-- Forget datasets with their versions. Files stay.
DELETE FROM catalog.dataset WHERE vo_id = %(vo_id)s::integer AND dataset_id = ANY (%(dataset_ids)s::bigint[]);

-- name: version_lines
-- The files of a version as JSON, by LFN. Of those that are there, only what the reader may read.
SELECT '{"lfn":' || to_json(v.lfn)::text || ',"size_bytes":' || v.size_bytes || ',"adler32":'
    || COALESCE('"' || lpad(to_hex(v.adler32), 8, '0') || '"', 'null') || ',"file_id":' || v.file_id
    || ',"is_there":' || (f.file_id IS NOT NULL)::text || '}'
FROM catalog.dataset_file AS v
LEFT JOIN catalog.file AS f ON f.file_id = v.file_id
LEFT JOIN catalog.directory AS d ON d.directory_id = f.directory_id
WHERE v.vo_id = %(vo_id)s::integer AND v.dataset_id = %(dataset_id)s::bigint AND v.version = %(version)s::integer
  AND (%(readable)s::integer[] IS NULL OR f.file_id IS NULL
       OR (d.gate_id = ANY (%(gates)s::integer[]) AND d.access_id = ANY (%(readable)s::integer[])
           AND f.access_id = ANY (%(readable)s::integer[])))
ORDER BY v.lfn;
