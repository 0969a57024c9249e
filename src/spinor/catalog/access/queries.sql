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
