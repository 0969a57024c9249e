-- name: list_sites
SELECT s.site_id, s.name,
       ARRAY (SELECT c.name FROM resources.computing_element c JOIN resources.computing_access a ON a.ce_id = c.ce_id
               WHERE c.site_id = s.site_id AND c.retired_at IS NULL AND a.vo_id = %(vo_id)s::integer
               ORDER BY c.name) AS computing_elements,
       ARRAY (SELECT e.name FROM resources.storage_element e JOIN resources.storage_access a ON a.se_id = e.se_id
               WHERE e.site_id = s.site_id AND e.retired_at IS NULL AND a.vo_id = %(vo_id)s::integer
               ORDER BY e.name) AS storage_elements
  FROM resources.site s
 WHERE s.retired_at IS NULL
 ORDER BY s.name;

-- name: list_computing_elements
-- every VO: the pilot factory serves all of them; the rows say which.
SELECT c.ce_id, c.name, c.site_id, s.name AS site, c.plugin, c.cores, c.memory_bytes, c.wall_s, c.max_pilots,
       c.options, c.retired_at, c.max_waiting, c.max_pilots_of_vos, c.max_submissions_per_minute,
       s.max_pilots AS site_max_pilots,
       ARRAY (SELECT v.name FROM resources.computing_access a JOIN identity.vo v ON v.vo_id = a.vo_id
               WHERE a.ce_id = c.ce_id ORDER BY v.vo_id) AS vos,
       ARRAY (SELECT a.vo_id FROM resources.computing_access a WHERE a.ce_id = c.ce_id ORDER BY a.vo_id) AS vo_ids
  FROM resources.computing_element c
  JOIN resources.site s ON s.site_id = c.site_id
 WHERE c.retired_at IS NULL OR %(with_retired)s::boolean
 ORDER BY c.name;

-- name: list_computing_elements_of_vo
SELECT c.name, s.name AS site, c.plugin, c.cores, c.memory_bytes, c.wall_s, c.max_pilots
  FROM resources.computing_element c
  JOIN resources.computing_access a ON a.ce_id = c.ce_id AND a.vo_id = %(vo_id)s::integer
  JOIN resources.site s ON s.site_id = c.site_id
 WHERE c.retired_at IS NULL
 ORDER BY c.name;

-- name: list_storage_elements
SELECT e.se_id, e.name, e.site, e.plugin, e.root, e.read_only, e.options, e.held
  FROM resources.storage e
  JOIN resources.storage_access a ON a.se_id = e.se_id AND a.vo_id = %(vo_id)s::integer
 WHERE e.retired_at IS NULL
 ORDER BY e.name;

-- name: find_storage_element
SELECT e.se_id, e.name, e.site, e.plugin, e.root, e.read_only, e.options, e.held
  FROM resources.storage e
  JOIN resources.storage_access a ON a.se_id = e.se_id AND a.vo_id = %(vo_id)s::integer
 WHERE e.retired_at IS NULL AND e.name = %(name)s::text;

-- name: list_all_storage_elements
-- every VO: for the chores that delete what was removed, also from elements that are retired.
SELECT se_id, name, site, plugin, root, read_only, options, held FROM resources.storage ORDER BY name;

-- name: merge_sites
-- every VO: sites belong to none; the operations data describe all of them.
MERGE INTO resources.site s
USING (SELECT * FROM jsonb_to_recordset(%(sites)s::jsonb)
                         AS w (name text, max_pilots integer, administrators text[])) w ON s.name = w.name
WHEN MATCHED AND (s.retired_at IS NOT NULL
                  OR (s.max_pilots, s.administrators) IS DISTINCT FROM (w.max_pilots, w.administrators))
     THEN UPDATE SET retired_at = NULL, max_pilots = w.max_pilots, administrators = w.administrators
WHEN NOT MATCHED THEN INSERT (name, max_pilots, administrators) VALUES (w.name, w.max_pilots, w.administrators);

-- name: retire_sites
-- every VO: sites belong to none; the operations data describe all of them.
UPDATE resources.site SET retired_at = now() WHERE retired_at IS NULL AND name <> ALL (%(names)s::text[]);

-- name: merge_computing_elements
-- every VO: the operations data describe all of them.
MERGE INTO resources.computing_element c
USING (SELECT s.site_id, w.*
         FROM jsonb_to_recordset(%(elements)s::jsonb)
              AS w (site text, name text, plugin text, cores integer, memory_bytes bigint, wall_s integer,
                    max_pilots integer, options jsonb, max_waiting integer, max_pilots_of_vos jsonb,
                    max_submissions_per_minute integer)
         JOIN resources.site s ON s.name = w.site) w ON c.name = w.name
WHEN MATCHED AND (c.retired_at IS NOT NULL
                  OR (c.site_id, c.plugin, c.cores, c.memory_bytes, c.wall_s, c.max_pilots, c.options, c.max_waiting,
                      c.max_pilots_of_vos, c.max_submissions_per_minute)
                     IS DISTINCT FROM (w.site_id, w.plugin, w.cores, w.memory_bytes, w.wall_s, w.max_pilots, w.options,
                                       w.max_waiting, w.max_pilots_of_vos, w.max_submissions_per_minute))
     THEN UPDATE SET site_id = w.site_id, plugin = w.plugin, cores = w.cores, memory_bytes = w.memory_bytes,
                     wall_s = w.wall_s, max_pilots = w.max_pilots, options = w.options, retired_at = NULL,
                     max_waiting = w.max_waiting, max_pilots_of_vos = w.max_pilots_of_vos,
                     max_submissions_per_minute = w.max_submissions_per_minute
WHEN NOT MATCHED
     THEN INSERT (site_id, name, plugin, cores, memory_bytes, wall_s, max_pilots, options, max_waiting, max_pilots_of_vos,
                  max_submissions_per_minute)
          VALUES (w.site_id, w.name, w.plugin, w.cores, w.memory_bytes, w.wall_s, w.max_pilots, w.options,
                  w.max_waiting, w.max_pilots_of_vos, w.max_submissions_per_minute);

-- name: retire_computing_elements
-- every VO: the operations data describe all of them.
UPDATE resources.computing_element SET retired_at = now() WHERE retired_at IS NULL AND name <> ALL (%(names)s::text[]);

-- name: delete_computing_access
-- every VO: the operations data describe all of them.
DELETE FROM resources.computing_access a
 WHERE NOT EXISTS (SELECT FROM jsonb_to_recordset(%(elements)s::jsonb) AS w (name text, vos text[])
                     JOIN resources.computing_element c ON c.name = w.name
                     JOIN identity.vo v ON v.name = ANY (w.vos)
                    WHERE c.ce_id = a.ce_id AND v.vo_id = a.vo_id);

-- name: insert_computing_access
-- every VO: the operations data describe all of them.
INSERT INTO resources.computing_access (ce_id, vo_id)
SELECT c.ce_id, v.vo_id
  FROM jsonb_to_recordset(%(elements)s::jsonb) AS w (name text, vos text[])
  JOIN resources.computing_element c ON c.name = w.name
  JOIN identity.vo v ON v.name = ANY (w.vos)
    ON CONFLICT (ce_id, vo_id) DO NOTHING;

-- name: merge_storage_elements
-- every VO: the operations data describe all of them.
MERGE INTO resources.storage_element e
USING (SELECT s.site_id, w.*
         FROM jsonb_to_recordset(%(elements)s::jsonb)
              AS w (site text, name text, plugin text, root text, read_only boolean, options jsonb)
         JOIN resources.site s ON s.name = w.site) w ON e.name = w.name
WHEN MATCHED AND (e.retired_at IS NOT NULL
                  OR (e.site_id, e.plugin, e.root, e.read_only, e.options)
                     IS DISTINCT FROM (w.site_id, w.plugin, w.root, w.read_only, w.options))
     THEN UPDATE SET site_id = w.site_id, plugin = w.plugin, root = w.root, read_only = w.read_only,
                     options = w.options, retired_at = NULL
WHEN NOT MATCHED THEN INSERT (site_id, name, plugin, root, read_only, options)
     VALUES (w.site_id, w.name, w.plugin, w.root, w.read_only, w.options);

-- name: retire_storage_elements
-- every VO: the operations data describe all of them.
UPDATE resources.storage_element SET retired_at = now() WHERE retired_at IS NULL AND name <> ALL (%(names)s::text[]);

-- name: delete_storage_access
-- every VO: the operations data describe all of them.
DELETE FROM resources.storage_access a
 WHERE NOT EXISTS (SELECT FROM jsonb_to_recordset(%(elements)s::jsonb) AS w (name text, vos text[])
                     JOIN resources.storage_element e ON e.name = w.name
                     JOIN identity.vo v ON v.name = ANY (w.vos)
                    WHERE e.se_id = a.se_id AND v.vo_id = a.vo_id);

-- name: insert_storage_access
-- every VO: the operations data describe all of them.
INSERT INTO resources.storage_access (se_id, vo_id)
SELECT e.se_id, v.vo_id
  FROM jsonb_to_recordset(%(elements)s::jsonb) AS w (name text, vos text[])
  JOIN resources.storage_element e ON e.name = w.name
  JOIN identity.vo v ON v.name = ANY (w.vos)
    ON CONFLICT (se_id, vo_id) DO NOTHING;

-- name: find_fitness_policy
-- every VO: nodes and elements are the same for all of them.
SELECT policy FROM resources.fitness_policy;

-- name: set_fitness_policy
-- every VO: see above.
INSERT INTO resources.fitness_policy (policy) VALUES (%(policy)s::jsonb)
ON CONFLICT (is_only) DO UPDATE SET policy = excluded.policy;
