-- name: users_of_vo
-- Those of the names that are users of the VO.
SELECT DISTINCT u.name, u.user_id
FROM identity.user_account AS u
JOIN identity.membership AS m USING (user_id)
JOIN identity.vo_group AS g USING (group_id)
WHERE g.vo_id = %(vo_id)s::integer AND g.retired_at IS NULL AND u.retired_at IS NULL AND u.name = ANY (%(names)s::text[]);

-- name: users_known_to_vo
-- Those of the names that are or were users of the VO: an ACL, a file or a quota names them.
SELECT u.name, u.user_id
FROM identity.user_account AS u
WHERE u.name = ANY (%(names)s::text[])
  AND (EXISTS (
           SELECT FROM identity.membership AS m JOIN identity.vo_group AS g USING (group_id)
           WHERE m.user_id = u.user_id AND g.vo_id = %(vo_id)s::integer
       ) OR EXISTS (
           SELECT FROM catalog.access AS a
           WHERE a.vo_id = %(vo_id)s::integer
             AND (a.owner_id = u.user_id OR concat(',', a.acl, ',', a.default_acl) LIKE concat('%%,u', u.user_id, '=%%'))
       ) OR EXISTS (
           SELECT FROM catalog.quota AS q WHERE q.vo_id = %(vo_id)s::integer AND q.owner_id = u.user_id
       ));

-- name: groups_known_to_vo
-- Those of the names that are or were groups of the VO.
SELECT name, group_id FROM identity.vo_group WHERE vo_id = %(vo_id)s::integer AND name = ANY (%(names)s::text[]);

-- name: groups_of_vo
-- Those of the names that are groups of the VO.
SELECT name, group_id FROM identity.vo_group
WHERE vo_id = %(vo_id)s::integer AND retired_at IS NULL AND name = ANY (%(names)s::text[]);

-- name: groups_of_user
-- The groups of the VO of which a user is a member.
SELECT g.group_id FROM identity.vo_group AS g JOIN identity.membership AS m USING (group_id)
WHERE g.vo_id = %(vo_id)s::integer AND g.retired_at IS NULL AND m.user_id = %(user_id)s::integer;

-- name: names_of_users
-- every VO: the ids come from accesses of the caller's VO. Also those who have left keep their names.
SELECT user_id, name FROM identity.user_account WHERE user_id = ANY (%(ids)s::integer[]);

-- name: names_of_groups
-- The names of groups, also of those that are retired.
SELECT group_id, name FROM identity.vo_group WHERE vo_id = %(vo_id)s::integer AND group_id = ANY (%(ids)s::integer[]);

-- name: size_of_trees
-- How many directories and files trees hold, which do not overlap.
SELECT count(*), COALESCE(sum(d.file_count), 0)::bigint
FROM unnest(%(paths)s::text[]) AS w (path)
JOIN catalog.directory AS d ON catalog.is_within(d.path, w.path)
WHERE d.vo_id = %(vo_id)s::integer;

-- name: directories_within
-- The directories of trees that do not overlap, parents first.
SELECT d.directory_id, d.path, d.access_id, d.gate_id, d.file_count
FROM unnest(%(paths)s::text[]) AS w (path)
JOIN catalog.directory AS d ON catalog.is_within(d.path, w.path)
WHERE d.vo_id = %(vo_id)s::integer
ORDER BY "left"(d.path, 512), d.path;

-- name: accesses_of_files
-- The accesses of files, and the directories that hold them.
SELECT f.file_id, f.access_id, d.directory_id, d.gate_id, d.path
FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]);

-- name: paths_of_files
-- The LFNs of files.
SELECT f.file_id, d.path || '/' || f.name
FROM catalog.file AS f JOIN catalog.directory AS d USING (directory_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]);

-- name: set_file_accesses
-- Give files the access that replaces the one they have; their directories are locked.
UPDATE catalog.file AS f
SET access_id = w.new_id, modified_at = now()
FROM unnest(%(old_ids)s::integer[], %(new_ids)s::integer[]) AS w (old_id, new_id)
WHERE f.vo_id = %(vo_id)s::integer AND f.file_id = ANY (%(file_ids)s::bigint[]) AND f.access_id = w.old_id;

-- name: set_directory_accesses
-- Give directories the access that replaces the one they have; the tree is held alone.
UPDATE catalog.directory AS d
SET access_id = w.new_id
FROM unnest(%(old_ids)s::integer[], %(new_ids)s::integer[]) AS w (old_id, new_id)
WHERE d.vo_id = %(vo_id)s::integer AND d.directory_id = ANY (%(directory_ids)s::bigint[]) AND d.access_id = w.old_id;

-- name: find_accesses
-- What these accesses say.
SELECT access_id, owner_id, group_id, mode, acl, default_acl
FROM catalog.access
WHERE vo_id = %(vo_id)s::integer AND access_id = ANY (%(access_ids)s::integer[]);

-- name: accesses_after
-- All accesses of the VO that are newer than one that is known.
SELECT access_id, owner_id, group_id, mode, acl, default_acl
FROM catalog.access
WHERE vo_id = %(vo_id)s::integer AND access_id > %(known)s::integer
ORDER BY access_id;

-- name: same_accesses
-- The ids of accesses that say this, with the number of the question.
SELECT w.n::integer, a.access_id
FROM unnest(%(owner_ids)s::integer[], %(group_ids)s::integer[], %(modes)s::integer[], %(acls)s::text[], %(default_acls)s::text[])
     WITH ORDINALITY AS w (owner_id, group_id, mode, acl, default_acl, n)
JOIN catalog.access AS a ON a.vo_id = %(vo_id)s::integer AND a.owner_id IS NOT DISTINCT FROM w.owner_id
 AND a.group_id IS NOT DISTINCT FROM w.group_id AND a.mode = w.mode AND a.acl = w.acl AND a.default_acl = w.default_acl;

-- name: insert_accesses
-- Add accesses; those that another adds meanwhile are theirs.
INSERT INTO catalog.access (vo_id, owner_id, group_id, mode, acl, default_acl)
SELECT %(vo_id)s::integer, w.*
FROM unnest(%(owner_ids)s::integer[], %(group_ids)s::integer[], %(modes)s::integer[], %(acls)s::text[], %(default_acls)s::text[]) AS w
ON CONFLICT ON CONSTRAINT access_unique DO NOTHING;

-- name: find_gates
-- Which accesses lead to these gates.
SELECT gate_id, access_ids FROM catalog.gate
WHERE vo_id = %(vo_id)s::integer AND gate_id = ANY (%(gate_ids)s::integer[]);

-- name: gates_after
-- All gates of the VO that are newer than one that is known.
SELECT gate_id, access_ids FROM catalog.gate
WHERE vo_id = %(vo_id)s::integer AND gate_id > %(known)s::integer
ORDER BY gate_id;

-- name: same_gate
-- The gate of these accesses.
SELECT gate_id FROM catalog.gate WHERE vo_id = %(vo_id)s::integer AND access_ids = %(access_ids)s::integer[];

-- name: insert_gate
-- Add a gate; one that another adds meanwhile is theirs.
INSERT INTO catalog.gate (vo_id, access_ids) VALUES (%(vo_id)s::integer, %(access_ids)s::integer[])
ON CONFLICT ON CONSTRAINT gate_unique DO NOTHING;

-- name: accesses_below
-- The ways down into a tree: for each of its directories its parent's gate and its own access, to make their gates anew.
SELECT d.directory_id, d.parent_id, d.access_id, d.gate_id, p.gate_id AS above_gate_id
FROM catalog.directory AS d
LEFT JOIN catalog.directory AS p ON p.directory_id = d.parent_id
WHERE d.vo_id = %(vo_id)s::integer AND catalog.is_within(d.path, %(path)s::text)
ORDER BY "left"(d.path, 512), d.path;

-- name: set_gates
-- Give directories other gates.
UPDATE catalog.directory AS d SET gate_id = w.gate_id
FROM unnest(%(directory_ids)s::bigint[], %(gate_ids)s::integer[]) AS w (directory_id, gate_id)
WHERE d.vo_id = %(vo_id)s::integer AND d.directory_id = w.directory_id;

-- name: any_below
-- Whether a directory below a path has one of these accesses.
SELECT EXISTS (
    SELECT FROM catalog.directory
    WHERE vo_id = %(vo_id)s::integer AND catalog.is_below(path, %(path)s::text) AND access_id = ANY (%(access_ids)s::integer[])
);
