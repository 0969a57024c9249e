-- The operations themselves, and the walk through a tree; what each kind does is in work.sql.

-- name: insert_operation
-- Ask for an operation, once per key.
INSERT INTO catalog.operation (
    vo_id, user_id, group_id, scopes, kind, arguments, total_files, total_bytes, total_directories, idempotency_key
)
VALUES (
    %(vo_id)s::integer, %(user_id)s::integer, %(group_id)s::integer, %(scopes)s::text[], %(kind)s::text,
    %(arguments)s::jsonb, %(total_files)s::bigint, %(total_bytes)s::numeric, %(total_directories)s::bigint,
    %(idempotency_key)s::text
)
ON CONFLICT ON CONSTRAINT operation_idempotency DO NOTHING
RETURNING operation_id;

-- name: same_operation
-- The operation that was asked for with this key before.
SELECT operation_id, kind, arguments
FROM catalog.operation
WHERE vo_id = %(vo_id)s::integer AND user_id = %(user_id)s::integer AND idempotency_key = %(idempotency_key)s::text;

-- name: find_operations
-- Operations of the VO; with a user, of that one only.
SELECT o.operation_id, o.kind, o.state, u.name AS "user", g.name AS "group", o.arguments, o.cursor, o.total_files,
       o.total_bytes::bigint AS total_bytes, o.total_directories, o.done_files, o.done_bytes::bigint AS done_bytes,
       o.done_directories, o.refused, o.slices, o.error, o.created_at, o.started_at, o.updated_at, o.ended_at
FROM catalog.operation AS o
JOIN identity.user_account AS u USING (user_id)
JOIN identity.vo_group AS g USING (group_id)
WHERE o.vo_id = %(vo_id)s::integer
  AND (%(user_id)s::integer IS NULL OR o.user_id = %(user_id)s::integer)
  AND (%(ids)s::bigint[] IS NULL OR o.operation_id = ANY (%(ids)s::bigint[]))
  AND (%(states)s::text[] IS NULL OR o.state::text = ANY (%(states)s::text[]))
  AND (%(before)s::bigint IS NULL OR o.operation_id < %(before)s::bigint)
ORDER BY o.operation_id DESC
LIMIT %(limit)s::integer;

-- name: refusals_of
-- What an operation could not do.
SELECT number, lfn, code, reason
FROM catalog.operation_refusal
WHERE vo_id = %(vo_id)s::integer AND operation_id = %(operation_id)s::bigint AND number > %(after)s::bigint
ORDER BY number
LIMIT %(limit)s::integer;

-- name: change_states
-- Pause, resume or cancel operations that are in one of the states from which that is possible.
UPDATE catalog.operation
SET state = %(state)s::catalog.operation_state, updated_at = now(),
    ended_at = CASE WHEN %(state)s::text = 'cancelled' THEN now() END
WHERE vo_id = %(vo_id)s::integer AND operation_id = ANY (%(ids)s::bigint[])
  AND (%(user_id)s::integer IS NULL OR user_id = %(user_id)s::integer)
  AND state::text = ANY (%(states)s::text[])
RETURNING operation_id;

-- name: take_operation
-- every VO: a worker serves all. The VO that waits longest is next, and of its operations the one that waits longest.
-- One that another worker has is passed over; a worker that died holds nothing any more.
WITH served AS (
    SELECT vo_id, max(updated_at) AS at FROM catalog.operation
    WHERE ended_at IS NULL AND slices > 0 AND state IN ('waiting', 'running') GROUP BY vo_id
)
SELECT o.operation_id, o.vo_id, v.name AS vo, o.user_id, u.name AS "user", o.group_id, g.name AS "group", o.scopes,
       o.kind, o.arguments, o.cursor, o.refused, o.slices, o.created_at, o.updated_at, clock_timestamp() AS now
FROM catalog.operation AS o
JOIN identity.vo AS v USING (vo_id)
JOIN identity.user_account AS u USING (user_id)
JOIN identity.vo_group AS g USING (group_id)
LEFT JOIN served ON served.vo_id = o.vo_id
WHERE o.ended_at IS NULL AND o.state IN ('waiting', 'running')
  AND (%(operation_id)s::bigint IS NULL OR o.operation_id = %(operation_id)s::bigint)
ORDER BY served.at NULLS FIRST, o.updated_at, o.operation_id
LIMIT 1
FOR NO KEY UPDATE OF o SKIP LOCKED;

-- name: wait_at_most
-- every VO: a setting of this transaction.
-- A slice that waits for others gives up and comes back, so that whoever pauses or cancels it need not wait as long.
SELECT set_config('lock_timeout', %(ms)s::text, true);

-- name: advance
-- every VO: the operation was locked by this transaction.
-- What a slice did.
UPDATE catalog.operation
SET state = CASE WHEN %(ended)s::boolean THEN 'done' ELSE 'running' END::catalog.operation_state,
    cursor = %(cursor)s::jsonb, done_files = done_files + %(files)s::bigint, done_bytes = done_bytes + %(size_bytes)s::numeric,
    done_directories = done_directories + %(directories)s::bigint, refused = refused + %(refused)s::bigint,
    slices = slices + 1, started_at = COALESCE(started_at, now()), updated_at = clock_timestamp(), error = '',
    ended_at = CASE WHEN %(ended)s::boolean THEN clock_timestamp() END
WHERE operation_id = %(operation_id)s::bigint;

-- name: insert_refusals
-- Keep refusals of an operation one by one.
INSERT INTO catalog.operation_refusal (operation_id, number, vo_id, lfn, code, reason)
SELECT %(operation_id)s::bigint, %(before)s::bigint + w.n, %(vo_id)s::integer, w.lfn, w.code, w.reason
FROM unnest(%(lfns)s::text[], %(codes)s::text[], %(reasons)s::text[]) WITH ORDINALITY AS w (lfn, code, reason, n);

-- name: fail_operation
-- every VO: its worker found that it cannot go on.
UPDATE catalog.operation
SET state = 'failed', error = %(error)s::text, ended_at = now(), updated_at = now(), started_at = COALESCE(started_at, now())
WHERE operation_id = %(operation_id)s::bigint AND ended_at IS NULL;

-- name: note_delay
-- every VO: its worker was stopped by others, and tries again with a smaller part.
UPDATE catalog.operation
SET error = %(error)s::text, updated_at = now(), cursor = cursor || jsonb_strip_nulls(jsonb_build_object('size', %(size)s::integer))
WHERE operation_id = %(operation_id)s::bigint AND ended_at IS NULL;

-- name: where_is
-- Where a directory is now, and whether it is still there.
SELECT path FROM catalog.directory WHERE vo_id = %(vo_id)s::integer AND directory_id = %(directory_id)s::bigint;

-- name: walk_down
-- The next directories of a tree, by path, from one on.
SELECT directory_id, path, access_id, gate_id, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND catalog.is_within(path, %(top)s::text)
  AND "left"(path, 512) >= "left"(%(start)s::text, 512) AND path >= %(start)s::text
ORDER BY "left"(path, 512), path
LIMIT %(limit)s::integer;

-- name: walk_up
-- The next directories of a tree, the deepest first, before one; with their parents.
SELECT d.directory_id, d.path, d.access_id, d.gate_id, d.file_count, d.parent_id
FROM catalog.directory AS d
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(top)s::text)
  AND (%(before)s::text = '' OR ("left"(d.path, 512) <= "left"(%(before)s::text, 512) AND d.path < %(before)s::text))
ORDER BY "left"(d.path, 512) DESC, d.path DESC
LIMIT %(limit)s::integer;

-- name: nth_name
-- The name of the n-th file of a directory, from a name on; none when there are fewer.
SELECT name FROM catalog.file
WHERE vo_id = %(vo_id)s::integer AND directory_id = %(directory_id)s::bigint AND name >= %(first)s::text
ORDER BY name
OFFSET %(n)s::integer - 1 LIMIT 1;

-- name: count_range
-- The files of some ranges of names, or those of them that were selected, and their bytes.
SELECT count(*), COALESCE(sum(f.size_bytes), 0)::bigint
FROM unnest(%(directory_ids)s::bigint[], %(firsts)s::text[], %(lasts)s::text[]) AS w (directory_id, first, last)
JOIN catalog.file AS f ON f.directory_id = w.directory_id AND f.name BETWEEN w.first AND w.last
WHERE f.vo_id = %(vo_id)s::integer
  AND (%(file_ids)s::bigint[] IS NULL OR f.file_id = ANY (%(file_ids)s::bigint[]));

-- name: children_of
-- How many subdirectories each of these directories has.
SELECT parent_id, count(*) FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND parent_id = ANY (%(directory_ids)s::bigint[])
GROUP BY parent_id;

-- name: directories_by_id
-- Those of the directories that are there.
SELECT directory_id, path, access_id, gate_id, file_count
FROM catalog.directory
WHERE vo_id = %(vo_id)s::integer AND directory_id = ANY (%(directory_ids)s::bigint[]);

-- name: usage_of_tops
-- What the counters of these trees say together; trees within others count once.
SELECT COALESCE(sum(d.file_count), 0)::bigint, COALESCE(sum(d.size_bytes), 0)::numeric, count(*)
FROM catalog.directory AS d
WHERE d.vo_id = %(vo_id)s::integer
  AND EXISTS (SELECT FROM unnest(%(paths)s::text[]) AS w (path) WHERE catalog.is_within(d.path, w.path));

-- name: waiting_bytes
-- What is still to be deleted from each storage element.
SELECT s.name AS se, sum(cardinality(r.names))::bigint AS names,
       (array_agg(r.error ORDER BY r.not_before DESC) FILTER (WHERE r.error IS NOT NULL))[1] AS error
FROM catalog.removal AS r JOIN resources.storage_element AS s USING (se_id)
WHERE r.vo_id = %(vo_id)s::integer
GROUP BY s.name
ORDER BY s.name;
