-- name: dump
-- All replicas on a storage element, by directory and name: its directories are sorted, and the files of each come
-- sorted out of their key, so that the first row leaves at once and nothing is ever held. PFNs are relative to the root.
SELECT d.path || '/' || f.name AS lfn, COALESCE(f.pfns[f.place], d.prefix || f.name) AS pfn, f.size_bytes,
       lpad(to_hex(f.adler32), 8, '0') AS adler32, COALESCE(f.statuses[f.place], 'available') AS status, f.created_at, f.file_id
FROM (
    SELECT d.directory_id, d.path, CASE l.path WHEN '' THEN '' ELSE l.path || '/' END AS prefix
    FROM catalog.directory AS d
    LEFT JOIN catalog.directory_location AS l ON l.directory_id = d.directory_id AND l.se_id = %(se_id)s::integer
    WHERE d.directory_id IN (
        SELECT u.directory_id FROM catalog.directory_usage AS u
        WHERE u.vo_id = %(vo_id)s::integer AND u.se_id = %(se_id)s::integer AND u.files > 0
    )
      AND (%(path)s::text IS NULL OR catalog.is_within(d.path, %(path)s::text))
      AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
      AND (%(readable)s::integer[] IS NULL OR d.access_id = ANY (%(readable)s::integer[]))
    ORDER BY d.path
) AS d
CROSS JOIN LATERAL (
    SELECT *, array_position(f.se_ids, %(se_id)s::integer) AS place
    FROM catalog.file AS f
    WHERE f.directory_id = d.directory_id AND %(se_id)s::integer = ANY (f.se_ids)
      AND (%(readable)s::integer[] IS NULL OR f.access_id = ANY (%(readable)s::integer[]))
    ORDER BY f.name
) AS f;

-- name: access_texts
-- What an entry of a listing says of its access, for each access of the VO: as JSON, by its number.
SELECT COALESCE(jsonb_object_agg(a.access_id,
    ',"owner":' || COALESCE(to_json(u.name)::text, 'null') || ',"group":' || COALESCE(to_json(g.name)::text, 'null')
    || ',"mode":' || a.mode || ',"acl":' || (a.acl <> '' OR a.default_acl <> '') || ',"created_at":'), '{}')::text
FROM catalog.access AS a
LEFT JOIN identity.user_account AS u ON u.user_id = a.owner_id
LEFT JOIN identity.vo_group AS g ON g.group_id = a.group_id
WHERE a.vo_id = %(vo_id)s::integer;

-- name: directory_lines
-- The directories directly inside one, or (NULL) all below a path whose parents may be listed, by path, as JSON.
SELECT '{"name":' || to_json(d.name)::text || ',"lfn":' || to_json(d.path)::text || ',"kind":"directory","size_bytes":'
    || d.size_bytes || ',"files":' || d.file_count || '' || (%(texts)s::jsonb ->> d.access_id::text)
    || to_json(d.created_at)::text || '}'
FROM catalog.directory AS d
JOIN catalog.directory AS p ON p.directory_id = d.parent_id
WHERE d.vo_id = %(vo_id)s::integer
  AND CASE WHEN %(directory_id)s::bigint IS NULL THEN catalog.is_below(d.path, %(path)s::text)
           ELSE d.parent_id = %(directory_id)s::bigint END
  AND (%(gates)s::integer[] IS NULL OR p.gate_id = ANY (%(gates)s::integer[]))
  AND (%(readable)s::integer[] IS NULL OR p.access_id = ANY (%(readable)s::integer[]))
ORDER BY d.path;

-- name: file_lines
-- The files directly inside one directory, or (NULL) in all at and below a path that may be listed, by directory and
-- name, as JSON. Sorted as in a dump.
SELECT '{"name":' || to_json(f.name)::text || ',"lfn":' || to_json(d.path || '/' || f.name)::text
    || ',"kind":"file","size_bytes":' || f.size_bytes || ',"adler32":'
    || COALESCE('"' || lpad(to_hex(f.adler32), 8, '0') || '"', 'null') || (%(texts)s::jsonb ->> f.access_id::text)
    || to_json(f.created_at)::text || '}'
FROM (
    SELECT d.directory_id, d.path FROM catalog.directory AS d
    WHERE d.vo_id = %(vo_id)s::integer
      AND CASE WHEN %(directory_id)s::bigint IS NULL THEN catalog.is_within(d.path, %(path)s::text)
               ELSE d.directory_id = %(directory_id)s::bigint END
      AND (%(gates)s::integer[] IS NULL OR d.gate_id = ANY (%(gates)s::integer[]))
      AND (%(readable)s::integer[] IS NULL OR d.access_id = ANY (%(readable)s::integer[]))
    ORDER BY d.path
) AS d
CROSS JOIN LATERAL (
    SELECT * FROM catalog.file AS f WHERE f.directory_id = d.directory_id ORDER BY f.name
) AS f;
