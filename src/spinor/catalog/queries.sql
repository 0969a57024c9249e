-- name: hold_tree
-- Every transaction that makes directories or puts names into them holds the tree of its VO shared; moving or removing
-- directories holds it alone. So a directory that was found stays where it is until the end of the transaction.
SELECT pg_advisory_xact_lock_shared(7351, %(vo_id)s::integer);

-- name: hold_tree_alone
-- Wait for everybody who holds the tree, and keep them out until the end of the transaction.
SELECT pg_advisory_xact_lock(7351, %(vo_id)s::integer);


-- name: find_directories
-- Those of the paths that are directories.
SELECT directory_id, path, owner_id, group_id, mode, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND path = ANY (%(paths)s::text[]);

-- name: lock_directories
-- Always in directory_id order, so that no two writers wait for each other in a circle.
SELECT directory_id, path, owner_id, group_id, mode, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND path = ANY (%(paths)s::text[])
ORDER BY directory_id
FOR NO KEY UPDATE;

-- name: insert_root
-- Make the VO's top directory, which belongs to the VO.
INSERT INTO catalog.directory (vo_id, path, mode)
VALUES (%(vo_id)s::integer, %(path)s::text, %(mode)s::smallint)
ON CONFLICT ON CONSTRAINT directory_path_unique DO NOTHING;

-- name: next_directory_ids
-- every VO: only numbers are taken from a sequence.
SELECT nextval(pg_get_serial_sequence('catalog.directory', 'directory_id')) FROM generate_series(1, %(count)s::integer);

-- name: insert_directories
-- Make directories whose parents are locked or among them.
INSERT INTO catalog.directory (directory_id, vo_id, parent_id, path, owner_id, group_id)
OVERRIDING SYSTEM VALUE
SELECT d.directory_id, %(vo_id)s::integer, d.parent_id, d.path, %(owner_id)s::integer, %(group_id)s::integer
FROM unnest(%(directory_ids)s::bigint[], %(parent_ids)s::bigint[], %(paths)s::text[]) AS d (directory_id, parent_id, path);

-- name: directories_with_children
-- Those of the directories that have subdirectories.
SELECT p.directory_id
FROM unnest(%(directory_ids)s::bigint[]) AS p (directory_id)
WHERE EXISTS (
    SELECT FROM catalog.directory AS c WHERE c.parent_id = p.directory_id AND c.vo_id = %(vo_id)s::integer
);

-- name: find_names
-- Which of these paths are files; the directories are given apart, since a file's path is stored nowhere.
SELECT f.directory_id, f.name, f.file_id, f.size_bytes, f.adler32, f.sha256, f.owner_id
FROM unnest(%(directory_ids)s::bigint[], %(names)s::text[]) AS w (directory_id, name)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name = w.name
WHERE f.vo_id = %(vo_id)s::integer;


-- name: all_names
-- Every file directly inside the directories.
SELECT f.directory_id, f.name, f.file_id, f.size_bytes, f.adler32, f.sha256, f.owner_id
FROM catalog.file AS f
WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: find_replicas
-- every VO: the files were found with the caller's VO just before.
SELECT file_id, se_id FROM catalog.replica WHERE file_id = ANY (%(file_ids)s::bigint[]);

-- name: next_file_blocks
-- every VO: only numbers are taken from a sequence.
SELECT nextval('catalog.file_id_blocks') FROM generate_series(1, %(count)s::integer);

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
SET file_count = d.file_count + c.files, size_bytes = d.size_bytes + c.size_bytes
FROM unnest(%(directory_ids)s::bigint[], %(files)s::bigint[], %(sizes)s::bigint[]) AS c (directory_id, files, size_bytes)
WHERE d.directory_id = c.directory_id AND d.vo_id = %(vo_id)s::integer;

-- name: add_to_usage
-- Count replicas that came (or went) in locked directories.
INSERT INTO catalog.directory_usage AS u (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT c.directory_id, c.se_id, c.owner_id, %(vo_id)s::integer, c.files, c.size_bytes
FROM unnest(
    %(directory_ids)s::bigint[], %(se_ids)s::integer[], %(owner_ids)s::integer[], %(files)s::bigint[], %(sizes)s::bigint[]
) AS c (directory_id, se_id, owner_id, files, size_bytes)
ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
SET files = u.files + excluded.files, size_bytes = u.size_bytes + excluded.size_bytes;

-- name: any_removals
-- Whether any bytes of the VO wait for their deletion on these storage elements.
SELECT EXISTS (
    SELECT FROM catalog.removal WHERE vo_id = %(vo_id)s::integer AND se_id = ANY (%(se_ids)s::integer[])
);

-- name: find_removals
-- every VO: bytes of any VO that are about to go are not to be registered.
SELECT r.se_id, r.pfn
FROM unnest(%(se_ids)s::integer[], %(pfns)s::text[]) AS w (se_id, pfn)
JOIN catalog.removal AS r ON r.se_id = w.se_id AND r.pfn = w.pfn;


-- name: stat_files
-- What is known of each file, in the order asked.
SELECT w.n AS n, d.path || '/' || f.name AS lfn, f.file_id, f.size_bytes, lpad(to_hex(f.adler32), 8, '0') AS adler32, encode(f.sha256, 'hex') AS sha256,
       f.guid, u.name AS owner, g.name AS "group", f.mode, f.created_at,
       ARRAY (
           SELECT s.name FROM catalog.replica AS r JOIN resources.storage_element AS s USING (se_id)
           WHERE r.file_id = f.file_id ORDER BY s.name
       ) AS storage_elements
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
JOIN identity.user_account AS u ON u.user_id = f.owner_id
JOIN identity.vo_group AS g ON g.group_id = f.group_id
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY w.n;

-- name: locate_files
-- The replicas of each file, in the order asked.
SELECT w.n AS n, d.path || '/' || f.name AS lfn, f.file_id, f.size_bytes, lpad(to_hex(f.adler32), 8, '0') AS adler32, encode(f.sha256, 'hex') AS sha256,
       r.se_id, s.name AS se, COALESCE(r.pfn, concat_ws('/', NULLIF(l.path, ''), f.name)) AS pfn, r.status
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
LEFT JOIN catalog.replica AS r ON r.file_id = f.file_id
LEFT JOIN resources.storage_element AS s ON s.se_id = r.se_id
LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY w.n, s.name;

-- name: directories_below
-- The directories at and below a path, by path.
SELECT path, file_count AS files
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND (path = %(path)s::text OR (path >= %(path)s::text || '/' AND path < %(path)s::text || '0'))
  AND path > %(after)s::text
ORDER BY path
LIMIT %(limit)s::integer;

-- name: list_subdirectories
-- The directories directly inside one, by path.
SELECT d.path, u.name AS owner, g.name AS "group", d.mode, d.created_at, d.file_count AS files, d.size_bytes
FROM catalog.directory AS d
LEFT JOIN identity.user_account AS u ON u.user_id = d.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = d.group_id
WHERE d.vo_id = %(vo_id)s::integer AND d.parent_id = %(directory_id)s::bigint
  AND d.path > %(path)s::text || '/' || %(after)s::text
  AND substr(d.path, length(%(path)s::text) + 2) LIKE %(pattern)s::text
ORDER BY d.path
LIMIT %(limit)s::integer;

-- name: list_files
-- The files directly inside a directory, by name.
SELECT f.name, u.name AS owner, g.name AS "group", f.mode, f.created_at, f.size_bytes,
       lpad(to_hex(f.adler32), 8, '0') AS adler32
FROM catalog.file AS f
JOIN identity.user_account AS u ON u.user_id = f.owner_id
JOIN identity.vo_group AS g ON g.group_id = f.group_id
WHERE f.vo_id = %(vo_id)s::integer AND f.directory_id = %(directory_id)s::bigint AND f.name > %(after)s::text
  AND f.name LIKE %(pattern)s::text
ORDER BY f.name
LIMIT %(limit)s::integer;

-- name: usage_of_tree
-- What lies at and below a path.
SELECT count(*) AS directories, COALESCE(sum(file_count), 0)::bigint AS files, COALESCE(sum(size_bytes), 0)::bigint AS size_bytes
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer
  AND (path = %(path)s::text OR (path >= %(path)s::text || '/' AND path < %(path)s::text || '0'));

-- name: usage_by_storage_element
-- What lies at and below a path, on each storage element.
SELECT s.name AS se, sum(u.files)::bigint AS files, sum(u.size_bytes)::bigint AS size_bytes
FROM catalog.directory AS d
JOIN catalog.directory_usage AS u USING (directory_id)
JOIN resources.storage_element AS s USING (se_id)
WHERE d.vo_id = %(vo_id)s::integer
  AND (d.path = %(path)s::text OR (d.path >= %(path)s::text || '/' AND d.path < %(path)s::text || '0'))
GROUP BY s.name
HAVING sum(u.files) > 0
ORDER BY s.name;

-- name: lock_tree
-- Lock every directory at and below a path, for its removal.
SELECT directory_id, path, owner_id, group_id, mode, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer
  AND (path = %(path)s::text OR (path >= %(path)s::text || '/' AND path < %(path)s::text || '0'))
ORDER BY directory_id
FOR UPDATE;

-- name: files_in
-- The ids of all files directly inside the directories.
SELECT file_id FROM catalog.file
WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: read_only_replicas
-- Those of the files that have bytes on a storage element from which nothing can be deleted.
SELECT r.file_id, min(s.name)
FROM catalog.replica AS r JOIN resources.storage_element AS s USING (se_id)
WHERE r.vo_id = %(vo_id)s::integer AND r.file_id = ANY (%(file_ids)s::bigint[]) AND s.read_only
GROUP BY r.file_id;

-- name: queue_removals
-- Remember all bytes of the files, to delete them from their storages.
INSERT INTO catalog.removal (vo_id, se_id, pfn)
SELECT r.vo_id, r.se_id, COALESCE(r.pfn, concat_ws('/', NULLIF(l.path, ''), f.name))
FROM catalog.replica AS r
JOIN catalog.file AS f ON f.file_id = r.file_id
LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
WHERE r.vo_id = %(vo_id)s::integer AND r.file_id = ANY (%(file_ids)s::bigint[]);

-- name: count_out_usage
-- Take the files' replicas out of the usage of their directories, which are locked.
UPDATE catalog.directory_usage AS u
SET files = u.files - c.files, size_bytes = u.size_bytes - c.size_bytes
FROM (
    SELECT f.directory_id, r.se_id, f.owner_id, count(*) AS files, sum(f.size_bytes)::bigint AS size_bytes
    FROM catalog.file AS f JOIN catalog.replica AS r ON r.file_id = f.file_id
    WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[])
    GROUP BY f.directory_id, r.se_id, f.owner_id
) AS c
WHERE u.directory_id = c.directory_id AND u.se_id = c.se_id AND u.owner_id = c.owner_id;

-- name: count_in_usage
-- Add the files' replicas to the usage of their directories, which are locked.
INSERT INTO catalog.directory_usage AS u (directory_id, se_id, owner_id, vo_id, files, size_bytes)
SELECT f.directory_id, r.se_id, f.owner_id, f.vo_id, count(*), sum(f.size_bytes)::bigint
FROM catalog.file AS f JOIN catalog.replica AS r ON r.file_id = f.file_id
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[])
GROUP BY f.directory_id, r.se_id, f.owner_id, f.vo_id
ON CONFLICT (directory_id, se_id, owner_id) DO UPDATE
SET files = u.files + excluded.files, size_bytes = u.size_bytes + excluded.size_bytes;

-- name: count_files
-- Add (sign 1) the files to the counters of their directories, which are locked, or take them out (sign -1).
UPDATE catalog.directory AS d
SET file_count = d.file_count + %(sign)s::integer * c.files, size_bytes = d.size_bytes + %(sign)s::integer * c.size_bytes
FROM (
    SELECT directory_id, count(*) AS files, sum(size_bytes)::bigint AS size_bytes
    FROM catalog.file
    WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[])
    GROUP BY directory_id
) AS c
WHERE d.directory_id = c.directory_id;

-- name: delete_files
-- Delete files; their replicas go with them.
DELETE FROM catalog.file WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[]);

-- name: delete_directories
-- Delete directories that are empty, or whose subdirectories are among them.
DELETE FROM catalog.directory WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: take_due_removals
-- every VO: one chore deletes the bytes of all. What is taken comes back by itself, later each time.
UPDATE catalog.removal AS r
SET attempts = r.attempts + 1, not_before = now() + least(30 * 2 ^ least(r.attempts, 20), 86400) * interval '1 second'
FROM (
    SELECT removal_id FROM catalog.removal WHERE not_before <= now()
    ORDER BY se_id, not_before LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED
) AS due
WHERE r.removal_id = due.removal_id
RETURNING r.removal_id, r.se_id, r.pfn, r.attempts;

-- name: forget_removals
-- every VO: the bytes are gone, and the rows were taken by their ids.
DELETE FROM catalog.removal WHERE removal_id = ANY (%(removal_ids)s::bigint[]);

-- name: note_removals
-- every VO: why the bytes could not be deleted yet; the rows were taken by their ids.
UPDATE catalog.removal AS r SET error = n.error
FROM unnest(%(removal_ids)s::bigint[], %(errors)s::text[]) AS n (removal_id, error)
WHERE r.removal_id = n.removal_id;

-- name: pin_replicas
-- Give the files' replicas PFNs of their own: the files are about to leave the directory that implied them.
UPDATE catalog.replica AS r
SET pfn = concat_ws('/', NULLIF(l.path, ''), f.name)
FROM catalog.file AS f, catalog.directory_location AS l
WHERE r.vo_id = %(vo_id)s::integer AND r.file_id = ANY (%(file_ids)s::bigint[]) AND r.pfn IS NULL
  AND f.file_id = r.file_id AND l.directory_id = f.directory_id AND l.se_id = r.se_id;

-- name: move_files
-- Give files their new directories and names.
UPDATE catalog.file AS f
SET directory_id = m.directory_id, name = m.name
FROM unnest(%(file_ids)s::bigint[], %(directory_ids)s::bigint[], %(names)s::text[]) AS m (file_id, directory_id, name)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = m.file_id;

-- name: longest_path_below
-- How many bytes the longest path of a directory at or below a path has.
SELECT max(octet_length(path)) FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer
  AND (path = %(path)s::text OR (path >= %(path)s::text || '/' AND path < %(path)s::text || '0'));

-- name: move_tree
-- Give a directory and all below it their new paths.
UPDATE catalog.directory
SET path = %(target)s::text || substr(path, length(%(source)s::text) + 1),
    parent_id = CASE WHEN path = %(source)s::text THEN %(parent_id)s::bigint ELSE parent_id END
WHERE vo_id = %(vo_id)s::integer
  AND (path = %(source)s::text OR (path >= %(source)s::text || '/' AND path < %(source)s::text || '0'));

-- name: lock_files
-- What is known of the files' ownership and metadata, locked in id order.
SELECT d.path || '/' || f.name AS path, f.file_id, f.owner_id, f.group_id, f.mode
FROM unnest(%(directories)s::text[], %(names)s::text[]) AS w (directory, name)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY f.file_id
FOR NO KEY UPDATE OF f;

-- name: change_file_metadata
-- Set some keys of files and unset others.
UPDATE catalog.file
SET metadata = NULLIF((COALESCE(metadata, '{}') - %(unset)s::text[]) || %(set)s::jsonb, '{}')
WHERE vo_id = %(vo_id)s::integer AND file_id = ANY (%(file_ids)s::bigint[]);

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
-- What is set at the files themselves.
SELECT d.path || '/' || f.name AS path, COALESCE(f.metadata, '{}') AS metadata
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
