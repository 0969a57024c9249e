-- name: now
-- every VO: the transactions that this statement sees.
SELECT pg_current_snapshot()::text;

-- name: expired
-- Whether changes that a position has not seen may have been pruned, or it is from another life of the database, whose
-- transactions had other numbers. Pruning leaves the newest row that is old enough to go.
SELECT pg_snapshot_xmax(%(seen)s::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) OR COALESCE((
    SELECT c.at < now() - make_interval(days => %(kept_days)s::integer) AND c.transaction >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
    FROM catalog.change AS c
    WHERE c.vo_id = %(vo_id)s::integer
    ORDER BY c.transaction, c.change_id
    LIMIT 1
), false);

-- name: changes
-- The changes that `seen` did not see and `until` (NULL: this statement) does, by number, after a number; always with
-- what this statement sees.
SELECT pg_current_snapshot()::text, c.*
FROM (VALUES (1)) AS one
LEFT JOIN (
    SELECT c.change_id, c.at, c.kind::text, c.path, c.directory_id, c.files, c.names, c.detail, c.first_file_id,
           c.last_file_id
    FROM catalog.change AS c
    WHERE c.vo_id = %(vo_id)s::integer
      AND c.transaction >= pg_snapshot_xmin(%(seen)s::pg_snapshot)
      AND NOT pg_visible_in_snapshot(c.transaction, %(seen)s::pg_snapshot)
      AND (%(until)s::text IS NULL OR pg_visible_in_snapshot(c.transaction, %(until)s::text::pg_snapshot))
      AND c.change_id > %(after)s::bigint
      AND (%(path)s::text IS NULL OR catalog.is_within(c.path, %(path)s::text))
      AND (%(gates)s::integer[] IS NULL OR c.gate_id = ANY (%(gates)s::integer[]))
      AND (%(readable)s::integer[] IS NULL OR c.access_id = ANY (%(readable)s::integer[]))
    ORDER BY c.change_id
    LIMIT %(limit)s::integer
) AS c ON true
ORDER BY c.change_id;

-- name: files_of_changes
-- What is known of new files that are still where they were registered, by number of their change.
SELECT w.n::integer, f.name, f.size_bytes, lpad(to_hex(f.adler32), 8, '0') AS adler32, f.guid
FROM unnest(%(directory_ids)s::bigint[], %(first_file_ids)s::bigint[], %(last_file_ids)s::bigint[]) WITH ORDINALITY
     AS w (directory_id, first_file_id, last_file_id, n)
JOIN catalog.file AS f ON f.file_id BETWEEN w.first_file_id AND w.last_file_id AND f.directory_id = w.directory_id
WHERE f.vo_id = %(vo_id)s::integer
  AND (%(readable)s::integer[] IS NULL OR f.access_id = ANY (%(readable)s::integer[]))
ORDER BY w.n, f.file_id;

-- name: prune
-- every VO: what is old goes alike. Of the oldest rows of each VO, those before the last one that is old enough.
WITH edge AS (
    SELECT DISTINCT ON (o.vo_id) o.vo_id, o.transaction, o.change_id
    FROM identity.vo AS v
    CROSS JOIN LATERAL (
        SELECT c.vo_id, c.transaction, c.change_id, c.at FROM catalog.change AS c
        WHERE c.vo_id = v.vo_id
        ORDER BY c.transaction, c.change_id
        LIMIT %(limit)s::integer
    ) AS o
    WHERE o.at < now() - make_interval(days => %(kept_days)s::integer)
    ORDER BY o.vo_id, o.transaction DESC, o.change_id DESC
)
DELETE FROM catalog.change AS c USING edge
WHERE c.vo_id = edge.vo_id AND (c.transaction, c.change_id) < (edge.transaction, edge.change_id);
