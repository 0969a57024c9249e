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
       r.se_id, s.name AS se, COALESCE(r.pfn, l.path || '/' || f.name) AS pfn, r.status
FROM unnest(%(directories)s::text[], %(names)s::text[]) WITH ORDINALITY AS w (directory, name, n)
JOIN catalog.directory AS d ON d.path = w.directory
JOIN catalog.file AS f ON f.directory_id = d.directory_id AND f.name = w.name
LEFT JOIN catalog.replica AS r ON r.file_id = f.file_id
LEFT JOIN resources.storage_element AS s ON s.se_id = r.se_id
LEFT JOIN catalog.directory_location AS l ON l.directory_id = f.directory_id AND l.se_id = r.se_id
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY w.n, r.se_id;
