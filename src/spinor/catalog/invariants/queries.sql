-- What must be true of the catalog's tables at every commit, each as the rows that break it: directory_id, path, sentence.
-- The constraints of the schema hold some of it; here it is proved without them, and as far as it goes without indexes.
--
-- What a statement asks for says when it runs: `directory_ids`: for each slice of directories; `low` and `high`: for the
-- ids between two slices; `part`: over the whole table, once for each part of its rows; none of these: once.
-- No vo_id stands for all VOs: tests and benchmarks ask so, a service never does.

-- name: directories_out_of_place
-- A directory's path is its parent's path and its own name, in one VO. Only the top of a VO has no parent.
SELECT d.directory_id, d.path,
       CASE WHEN d.parent_id IS NULL THEN 'has no parent, and is not the top of its VO'
            WHEN p.directory_id IS NULL THEN format('is below directory %%s, which does not exist', d.parent_id)
            WHEN p.vo_id <> d.vo_id THEN format('is of VO %%s, and its parent of VO %%s', d.vo_id, p.vo_id)
            ELSE format('is in %%s under the name %%s', p.path, d.name) END AS sentence
FROM catalog.directory AS d
LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
LEFT JOIN identity.vo AS v ON v.vo_id = d.vo_id
WHERE (d.directory_id = ANY (%(directory_ids)s::bigint[]) OR d.parent_id = ANY (%(directory_ids)s::bigint[]) AND p.vo_id <> d.vo_id)
  AND (%(vo_id)s::integer IS NULL OR %(vo_id)s::integer IN (d.vo_id, p.vo_id))
  AND CASE WHEN d.parent_id IS NULL THEN (d.path, d.name) IS DISTINCT FROM ('/' || v.name, v.name)
           ELSE p.directory_id IS NULL OR p.vo_id <> d.vo_id OR d.path <> p.path || '/' || d.name END;

-- name: directories_twice
-- A path is one directory.
SELECT max(d.directory_id) AS directory_id, d.path, format('is %%s directories', count(*)) AS sentence
FROM catalog.directory AS d
WHERE %(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer
GROUP BY d.path HAVING count(*) > 1;

-- name: directories_of_strange_access
-- Access, gate and group of a directory are of its VO.
SELECT d.directory_id, d.path, format('has access %%s and gate %%s, which its VO does not have', d.access_id, d.gate_id) AS sentence
FROM catalog.directory AS d
LEFT JOIN catalog.access AS a ON a.access_id = d.access_id
LEFT JOIN catalog.gate AS t ON t.gate_id = d.gate_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
LEFT JOIN identity.user_account AS o ON o.user_id = a.owner_id
WHERE d.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND (a.vo_id IS DISTINCT FROM d.vo_id OR t.vo_id IS DISTINCT FROM d.vo_id
       OR a.group_id IS NOT NULL AND g.vo_id IS DISTINCT FROM d.vo_id
       OR a.owner_id IS NOT NULL AND o.user_id IS NULL);

-- name: gates_that_disagree
-- The gate of a directory is the set of accesses on the way from the top down to it.
SELECT d.directory_id, d.path, format('has a gate of the accesses %%s, and the way to it has others', g.access_ids) AS sentence
FROM catalog.directory AS d
JOIN catalog.gate AS g USING (gate_id)
LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
LEFT JOIN catalog.gate AS above ON above.gate_id = p.gate_id
WHERE d.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND g.access_ids <> ARRAY(SELECT DISTINCT a FROM unnest(above.access_ids || d.access_id) AS a ORDER BY a);

-- name: metadata_that_disagree
-- What holds in a directory is its own metadata over those of its parent.
SELECT d.directory_id, d.path, 'holds other metadata than it and the directories above it set' AS sentence
FROM catalog.directory AS d
LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
WHERE d.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND COALESCE(d.effective, '{}') <> COALESCE(p.effective, '{}') || COALESCE(d.metadata, '{}');

-- name: directories_that_count_wrong
-- A directory counts the files directly inside, their bytes, and those of them that have metadata of their own.
SELECT d.directory_id, d.path,
       format('counts %%s files of %%s bytes, %%s with metadata, and holds %%s of %%s, %%s with metadata',
              d.file_count, d.size_bytes, d.annotated_files, c.files, c.size_bytes, c.annotated) AS sentence
FROM catalog.directory AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS files, COALESCE(sum(f.size_bytes), 0) AS size_bytes, count(f.metadata) AS annotated
    FROM catalog.file AS f WHERE f.directory_id = d.directory_id
) AS c
WHERE d.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND (d.file_count, d.size_bytes, d.annotated_files) <> (c.files, c.size_bytes, c.annotated);

-- name: usage_that_counts_wrong
-- The usage of a directory is the replicas of its files and their bytes, for each storage element and owner. It may say
-- that there are none, and no bytes.
WITH c AS (
    SELECT f.directory_id, r.se_id, a.owner_id, count(*) AS files, sum(f.size_bytes) AS size_bytes
    FROM catalog.file AS f JOIN catalog.access AS a USING (access_id) CROSS JOIN LATERAL unnest(f.se_ids) AS r (se_id)
    WHERE f.directory_id = ANY (%(directory_ids)s::bigint[])
    GROUP BY f.directory_id, r.se_id, a.owner_id
), u AS (
    SELECT * FROM catalog.directory_usage WHERE directory_id = ANY (%(directory_ids)s::bigint[])
)
SELECT d.directory_id, d.path,
       format('has on storage element %%s of owner %%s by its usage %%s replicas of %%s bytes, and holds %%s of %%s',
              COALESCE(s.name, se_id::text), COALESCE(o.name, owner_id::text), COALESCE(u.files, 0),
              COALESCE(u.size_bytes, 0), COALESCE(c.files, 0), COALESCE(c.size_bytes, 0)) AS sentence
FROM u FULL JOIN c USING (directory_id, se_id, owner_id)
JOIN catalog.directory AS d USING (directory_id)
LEFT JOIN resources.storage_element AS s USING (se_id)
LEFT JOIN identity.user_account AS o ON o.user_id = owner_id
WHERE (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND ((COALESCE(u.files, 0), COALESCE(u.size_bytes, 0)) <> (COALESCE(c.files, 0), COALESCE(c.size_bytes, 0))
       OR u.vo_id <> d.vo_id);

-- name: usage_without_directory
-- Usage is of a directory.
SELECT u.directory_id, '-' AS path, format('is directory %%s of a row of usage, and does not exist', u.directory_id) AS sentence
FROM catalog.directory_usage AS u
WHERE u.directory_id > %(low)s::bigint AND u.directory_id <= %(high)s::bigint
  AND (%(vo_id)s::integer IS NULL OR u.vo_id = %(vo_id)s::integer)
  AND NOT EXISTS (SELECT FROM catalog.directory AS d WHERE d.directory_id = u.directory_id);

-- name: locations_without_directory
-- A location is of a directory, on a storage element. One without a directory is told to the VOs of its storage element.
SELECT l.directory_id, COALESCE(d.path, '-') AS path,
       format('is directory %%s with a location on storage element %%s, and one of the two does not exist', l.directory_id, l.se_id) AS sentence
FROM catalog.directory_location AS l
LEFT JOIN catalog.directory AS d USING (directory_id)
LEFT JOIN resources.storage_element AS s USING (se_id)
WHERE l.directory_id > %(low)s::bigint AND l.directory_id <= %(high)s::bigint
  AND (d.directory_id IS NULL OR s.se_id IS NULL)
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer OR d.directory_id IS NULL AND l.se_id IN (
      SELECT se_id FROM resources.storage_access WHERE vo_id = %(vo_id)s::integer
  ));

-- name: files_without_directory
-- A file is in a directory.
SELECT f.directory_id, f.name AS path, format('is file %%s in directory %%s, which does not exist', f.file_id, f.directory_id) AS sentence
FROM catalog.file AS f
WHERE f.directory_id > %(low)s::bigint AND f.directory_id <= %(high)s::bigint
  AND (%(vo_id)s::integer IS NULL OR f.vo_id = %(vo_id)s::integer)
  AND NOT EXISTS (SELECT FROM catalog.directory AS d WHERE d.directory_id = f.directory_id);

-- name: files_of_another_vo
-- A file is of its directory's VO.
SELECT d.directory_id, d.path || '/' || f.name AS path, format('is of VO %%s, in a directory of VO %%s', f.vo_id, d.vo_id) AS sentence
FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
WHERE f.directory_id = ANY (%(directory_ids)s::bigint[]) AND f.vo_id <> d.vo_id
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer);

-- name: files_that_are_directories
-- A name is a file or a directory.
SELECT p.directory_id, c.path, 'is both a file and a directory' AS sentence
FROM catalog.directory AS p
JOIN catalog.directory AS c ON c.parent_id = p.directory_id
JOIN catalog.file AS f ON f.directory_id = p.directory_id AND f.name = c.name
WHERE p.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR p.vo_id = %(vo_id)s::integer);

-- name: files_of_strange_access
-- The access of a file is of its VO, has an owner, and its group is of the VO.
SELECT d.directory_id, d.path || '/' || f.name AS path,
       format('has access %%s, which has no owner or which its VO does not have', f.access_id) AS sentence
FROM catalog.file AS f
JOIN catalog.directory AS d USING (directory_id)
LEFT JOIN catalog.access AS a ON a.access_id = f.access_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
LEFT JOIN identity.user_account AS o ON o.user_id = a.owner_id
WHERE f.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND (a.vo_id IS DISTINCT FROM d.vo_id OR o.user_id IS NULL
       OR a.group_id IS NOT NULL AND g.vo_id IS DISTINCT FROM d.vo_id);

-- name: replicas_that_disagree
-- The storage elements of a file's replicas, their PFNs and their statuses lie side by side; no storage element comes twice.
SELECT d.directory_id, d.path || '/' || f.name AS path,
       format('has replicas on %%s, with %%s PFNs and %%s statuses', f.se_ids, COALESCE(cardinality(f.pfns)::text, 'no'),
              COALESCE(cardinality(f.statuses)::text, 'no')) AS sentence
FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
WHERE f.directory_id = ANY (%(directory_ids)s::bigint[])
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND (cardinality(f.pfns) <> cardinality(f.se_ids) OR cardinality(f.statuses) <> cardinality(f.se_ids)
       OR array_position(f.statuses, NULL) IS NOT NULL
       OR cardinality(f.se_ids) > 1 AND NOT catalog.are_distinct(f.se_ids));

-- name: replicas_without_place
-- A replica is on a storage element that exists. Without a PFN of its own, it has its directory's location there.
SELECT d.directory_id, d.path || '/' || f.name AS path,
       CASE WHEN s.se_id IS NULL THEN format('has a replica on storage element %%s, which does not exist', COALESCE(r.se_id::text, 'NULL'))
            ELSE format('has a replica on %%s without a PFN, and its directory has no location there', s.name) END AS sentence
FROM catalog.file AS f
JOIN catalog.directory AS d USING (directory_id)
CROSS JOIN LATERAL unnest(f.se_ids, f.pfns) WITH ORDINALITY AS r (se_id, pfn, n)
LEFT JOIN resources.storage_element AS s USING (se_id)
LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
WHERE f.directory_id = ANY (%(directory_ids)s::bigint[]) AND r.n <= cardinality(f.se_ids)
  AND (%(vo_id)s::integer IS NULL OR d.vo_id = %(vo_id)s::integer)
  AND (s.se_id IS NULL OR r.pfn IS NULL AND l.path IS NULL);

-- name: names_twice
-- A directory has a name once, also in the rows that an index may have lost.
SELECT t.directory_id, COALESCE(d.path, '-') || '/' || t.name AS path, format('is there %%s times', t.times) AS sentence
FROM (
    SELECT directory_id, name, count(*) AS times
    FROM catalog.file
    WHERE (%(vo_id)s::integer IS NULL OR vo_id = %(vo_id)s::integer)
      AND (hashtextextended(name, directory_id) & (%(parts)s::bigint - 1)) = %(part)s::bigint
    GROUP BY directory_id, name HAVING count(*) > 1
) AS t
LEFT JOIN catalog.directory AS d USING (directory_id);

-- name: guids_twice
-- A VO has a guid once.
SELECT max(directory_id) AS directory_id, max(name) AS path, format('has the guid %%s, as %%s files have', guid, count(*)) AS sentence
FROM catalog.file
WHERE (%(vo_id)s::integer IS NULL OR vo_id = %(vo_id)s::integer)
  AND (uuid_hash_extended(guid, 0) & (%(parts)s::bigint - 1)) = %(part)s::bigint
GROUP BY vo_id, guid HAVING count(*) > 1;

-- name: file_ids_twice
-- A file_id is one file.
SELECT max(directory_id) AS directory_id, max(name) AS path, format('has the file_id %%s, as %%s files have', file_id, count(*)) AS sentence
FROM catalog.file
WHERE (%(vo_id)s::integer IS NULL OR vo_id = %(vo_id)s::integer)
  AND (file_id & (%(parts)s::bigint - 1)) = %(part)s::bigint
GROUP BY file_id HAVING count(*) > 1;

-- name: ancestors_without_file
-- Both ends of a line of lineage are files of its VO.
SELECT COALESCE(f.directory_id, g.directory_id, 0) AS directory_id, COALESCE(f.name, g.name, '-') AS path,
       format('is file %%s made from file %%s by its lineage, and one of the two does not exist or is of another VO', a.file_id, a.ancestor_id) AS sentence
FROM catalog.file_ancestor AS a
LEFT JOIN catalog.file AS f ON f.file_id = a.file_id
LEFT JOIN catalog.file AS g ON g.file_id = a.ancestor_id
WHERE (%(vo_id)s::integer IS NULL OR a.vo_id = %(vo_id)s::integer)
  AND (f.vo_id IS DISTINCT FROM a.vo_id OR g.vo_id IS DISTINCT FROM a.vo_id);

-- name: removals_without_storage
-- Bytes that are to be deleted are on a storage element that exists.
SELECT 0::bigint AS directory_id, r.path, format('has bytes to be deleted from storage element %%s, which does not exist', r.se_id) AS sentence
FROM catalog.removal AS r
WHERE (%(vo_id)s::integer IS NULL OR r.vo_id = %(vo_id)s::integer)
  AND NOT EXISTS (SELECT FROM resources.storage_element AS s WHERE s.se_id = r.se_id);

-- name: quotas_of_another_vo
-- A quota below a directory is of the directory's VO.
SELECT q.directory_id, COALESCE(d.path, '-') AS path, format('has quota %%s, which is of another VO or of no directory', q.quota_id) AS sentence
FROM catalog.quota AS q
LEFT JOIN catalog.directory AS d USING (directory_id)
WHERE q.directory_id IS NOT NULL AND d.vo_id IS DISTINCT FROM q.vo_id
  AND (%(vo_id)s::integer IS NULL OR %(vo_id)s::integer IN (q.vo_id, d.vo_id));

-- name: datasets_that_disagree
-- A snapshot and the files that it names are of its dataset's VO. Files that were removed since stay named.
SELECT 0::bigint AS directory_id, COALESCE(s.name, '-') AS path,
       format('is dataset %%s, whose version %%s is of another VO or of no dataset', w.dataset_id, w.version) AS sentence
FROM (
    SELECT dataset_id, version, vo_id FROM catalog.dataset_version
    UNION
    SELECT dataset_id, version, vo_id FROM catalog.dataset_file
) AS w
LEFT JOIN catalog.dataset AS s USING (dataset_id)
WHERE s.vo_id IS DISTINCT FROM w.vo_id AND (%(vo_id)s::integer IS NULL OR %(vo_id)s::integer IN (w.vo_id, s.vo_id));
