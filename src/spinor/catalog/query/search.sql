-- Queries over files. What stands in braces is SQL that spinor.catalog.query writes, with all values as parameters.
-- `d` is a directory, `f` a file. A directory is `whole` when the query holds for every file in it. `certain` and
-- `possible` speak of those of its files that have no metadata of their own under the keys of the query.

-- name: reachable
-- The directories of a tree that hold files and that the caller may list. One range of the index over paths, in its
-- order, from the top to what would follow all that is below it; "0" is the byte after "/".
d.vo_id = %(vo_id)s::integer AND d.file_count > 0
  AND "left"(d.path, 512) >= "left"(%(path)s::text, 512) AND "left"(d.path, 512) <= "left"(%(path)s::text || '0', 512)
  AND (d.path = %(path)s::text OR (d.path > %(path)s::text || '/' AND d.path < %(path)s::text || '0'))
  AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
  AND (%(readable)s::integer[] IS NULL OR d.access_id = ANY (%(readable)s::integer[]));

-- name: readable
-- The files of a VO that the caller may read.
f.vo_id = %(vo_id)s::integer AND (%(readable)s::integer[] IS NULL OR f.access_id = ANY (%(readable)s::integer[]));

-- name: all_readable
-- Whether there is nothing in the VO that the caller may not read: then files can be counted without looking at them.
(%(readable)s::integer[] IS NULL OR NOT EXISTS (
    SELECT FROM catalog.access WHERE vo_id = %(vo_id)s::integer AND access_id <> ALL (%(readable)s::integer[])
));

-- name: directories
-- every VO: `reachable` filters. Directories without files that have metadata of their own, and the others.
SELECT d.directory_id, d.path, d.effective, d.file_count, d.size_bytes, d.annotated_files,
       {certain} IS TRUE AS whole, {certain} IS TRUE AS certain, TRUE AS possible, NULL::bigint[] AS file_ids
FROM catalog.directory AS d
WHERE {reachable} AND d.annotated_files = 0 AND {possible}
UNION ALL
SELECT d.directory_id, d.path, d.effective, d.file_count, d.size_bytes, d.annotated_files,
       {certain_annotated} IS TRUE AS whole, {certain} IS TRUE AS certain, {possible} IS TRUE AS possible,
       NULL::bigint[] AS file_ids
FROM catalog.directory AS d
WHERE {reachable} AND d.annotated_files > 0 AND {possible_annotated} AND {inherits};

-- name: near
-- every VO: `reachable` filters. Those of the next thousand directories in which files may match: where many match, the
-- first of them are found at once.
SELECT d.directory_id, d.path, d.effective, d.file_count, d.size_bytes, d.annotated_files,
       CASE d.annotated_files WHEN 0 THEN {certain} ELSE {certain_annotated} END IS TRUE AS whole,
       {certain} IS TRUE AS certain, {possible} IS TRUE AS possible, NULL::bigint[] AS file_ids
FROM (
    SELECT * FROM catalog.directory AS d
    WHERE {reachable}
      AND (%(first)s::text IS NULL
           OR ("left"(d.path, 512) >= "left"(%(first)s::text, 512) AND d.path >= %(first)s::text))
    ORDER BY "left"(d.path, 512), d.path
    LIMIT 1000
) AS d
WHERE CASE d.annotated_files WHEN 0 THEN {possible} ELSE {possible_annotated} END;

-- name: picked
-- Further directories, in which only files can match that the index over the metadata of files finds.
UNION ALL
SELECT d.directory_id, d.path, d.effective, d.file_count, d.size_bytes, d.annotated_files,
       FALSE AS whole, FALSE AS certain, TRUE AS possible, p.file_ids
FROM (
    SELECT f.directory_id, array_agg(f.file_id) AS file_ids
    FROM catalog.file AS f
    WHERE {readable} AND f.metadata IS NOT NULL AND {own}
    GROUP BY f.directory_id
) AS p
JOIN catalog.directory AS d USING (directory_id)
WHERE {reachable} AND d.annotated_files > 0 AND {possible_annotated} AND ({inherits}) IS NOT TRUE
  AND d.vo_id = %(vo_id)s::integer;

-- name: files
-- every VO: `readable` filters. The files of a directory that match.
SELECT f.* FROM catalog.file AS f
WHERE d.file_ids IS NULL AND f.directory_id = d.directory_id AND {readable}
  AND (d.whole OR CASE WHEN f.metadata ?| %(keys)s::text[] THEN {matches} ELSE d.certain OR (d.possible AND {matches}) END);

-- name: picked_files
-- every VO: `readable` filters. Those of the picked files of a directory that match.
UNION ALL
SELECT f.* FROM catalog.file AS f
WHERE f.file_id = ANY (d.file_ids) AND f.directory_id = d.directory_id AND {readable} AND {matches};

-- name: page
-- every VO: `directories` filters. The first matching files of the first directories, by path and name. A directory
-- without any has a row as well, so that whoever asks knows how far this went.
SELECT {select}
FROM (
    SELECT * FROM ({directories}) AS d
    WHERE %(first)s::text IS NULL
       OR ("left"(d.path, 512) >= "left"(%(first)s::text, 512) AND d.path >= %(first)s::text)
    ORDER BY "left"(d.path, 512), d.path
    LIMIT %(directories)s::integer
) AS d
LEFT JOIN LATERAL (
    SELECT f.* FROM ({files}) AS f
    WHERE %(first)s::text IS NULL OR d.path > %(first)s::text OR f.name > %(name)s::text
    ORDER BY f.name
    LIMIT {limit}
) AS f ON TRUE
ORDER BY "left"(d.path, 512), d.path, f.name
LIMIT {limit} + %(directories)s::integer;

-- name: sorted
-- every VO: `directories` filters. One page in an order of the caller's.
WITH d AS MATERIALIZED ({directories})
SELECT {select}
FROM d CROSS JOIN LATERAL ({files} OFFSET 0) AS f
WHERE {after}
ORDER BY {order}
LIMIT {limit};

-- name: count
-- every VO: `directories` filters. Directories are counted whole where every file in them matches and may be read.
WITH d AS MATERIALIZED ({directories})
SELECT COALESCE(sum(files), 0)::bigint, COALESCE(sum(size_bytes), 0)::bigint
FROM (
    SELECT d.file_count AS files, d.size_bytes FROM d WHERE d.whole AND {all_readable}
    UNION ALL
    SELECT f.files, f.size_bytes
    FROM d CROSS JOIN LATERAL (SELECT count(*) AS files, sum(f.size_bytes) AS size_bytes FROM ({files}) AS f) AS f
    WHERE NOT (d.whole AND {all_readable})
) AS counted;

-- name: facet_whole
-- every VO: `directories` filters. The values of directories that are counted whole.
UNION ALL
SELECT {of_directory}, sum(d.file_count) FROM d WHERE {counted_whole} GROUP BY 1;

-- name: facet
-- every VO: `directories` filters. How many of the files have each value of a field.
WITH d AS MATERIALIZED ({directories})
SELECT {shown} AS value, sum(files)::bigint AS files
FROM (
    SELECT v, count(*) AS files
    FROM (
        SELECT {of_file} AS v
        FROM d CROSS JOIN LATERAL ({files} OFFSET 0) AS f
        WHERE NOT {counted_whole}
    ) AS looked
    GROUP BY v
    {whole}
) AS counted
GROUP BY 1
ORDER BY 2 DESC, 1
LIMIT %(values)s::integer + 1;
