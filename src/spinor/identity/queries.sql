-- name: find_member_by_names
-- every VO: the VO is asked for by name, and the answer says which one it is.
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties
  FROM identity.vo v
  JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.retired_at IS NULL
  JOIN identity.membership m ON m.group_id = g.group_id
  JOIN identity.user_account u ON u.user_id = m.user_id AND u.retired_at IS NULL
 WHERE v.name = %(vo)s::text AND v.retired_at IS NULL AND g.name = %(group)s::text AND u.name = %(user)s::text;

-- name: find_member_by_subject
-- every VO: the VO is the one that the verified token names.
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties
  FROM identity.user_account u
  JOIN identity.membership m ON m.user_id = u.user_id
  JOIN identity.vo_group g ON g.group_id = m.group_id AND g.retired_at IS NULL
  JOIN identity.vo v ON v.vo_id = g.vo_id AND v.retired_at IS NULL
 WHERE u.subject = %(subject)s::uuid AND u.retired_at IS NULL AND v.name = %(vo)s::text AND g.name = %(group)s::text;

-- name: find_member_by_ids
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties
  FROM identity.vo v
  JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.retired_at IS NULL
  JOIN identity.membership m ON m.group_id = g.group_id
  JOIN identity.user_account u ON u.user_id = m.user_id AND u.retired_at IS NULL
 WHERE v.vo_id = %(vo_id)s::integer AND v.retired_at IS NULL
   AND g.group_id = %(group_id)s::integer AND u.user_id = %(user_id)s::integer;

-- name: list_members_of_user
-- every VO: a user may see all roles that are their own.
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties
  FROM identity.user_account u
  JOIN identity.membership m ON m.user_id = u.user_id
  JOIN identity.vo_group g ON g.group_id = m.group_id AND g.retired_at IS NULL
  JOIN identity.vo v ON v.vo_id = g.vo_id AND v.retired_at IS NULL
 WHERE u.name = %(user)s::text AND u.retired_at IS NULL
 ORDER BY v.name, g.name;

-- name: find_vo_id
-- every VO: the VO is the one that the verified token of a pilot names.
SELECT vo_id FROM identity.vo WHERE name = %(vo)s::text AND retired_at IS NULL;

-- name: insert_refresh_token
INSERT INTO identity.refresh_token (token_hash, family_id, vo_id, user_id, group_id, expires_at)
SELECT %(token_hash)s::bytea, %(family_id)s::uuid, %(vo_id)s::integer, %(user_id)s::integer, %(group_id)s::integer,
       now() + make_interval(secs => %(lifetime_s)s::double precision);

-- name: lock_refresh_family
-- every VO: whoever holds the token acts for the VO that its row names.
-- The family and not the row: a revocation must not miss a successor that is being made.
SELECT pg_advisory_xact_lock(hashtextextended(family_id::text, 0))
  FROM identity.refresh_token
 WHERE token_hash = %(token_hash)s::bytea;

-- name: find_refresh_token
-- every VO: whoever holds the token acts for the VO that its row names.
-- A statement after the lock, and not the one that takes it: that one would look for the successor in a snapshot from
-- before it waited. The times are compared with the clock and not with the start of the transaction for the same reason.
SELECT family_id, vo_id, user_id, group_id,
       CASE WHEN revoked_at IS NOT NULL THEN 'revoked'
            WHEN expires_at <= clock_timestamp() THEN 'expired'
            WHEN used_at IS NULL THEN 'fresh'
            WHEN used_at > clock_timestamp() - make_interval(secs => %(grace_s)s::double precision)
                 AND EXISTS (SELECT FROM identity.refresh_token s
                              WHERE s.token_hash = %(successor_hash)s::bytea AND s.used_at IS NULL) THEN 'in_grace'
            ELSE 'spent' END AS state
  FROM identity.refresh_token
 WHERE token_hash = %(token_hash)s::bytea;

-- name: mark_refresh_token_used
-- every VO: the family was locked by this token just before.
UPDATE identity.refresh_token SET used_at = clock_timestamp() WHERE token_hash = %(token_hash)s::bytea;

-- name: revoke_refresh_family
-- every VO: whoever holds a token of the family may end it.
UPDATE identity.refresh_token SET revoked_at = now()
 WHERE family_id = %(family_id)s::uuid AND revoked_at IS NULL;

-- name: revoke_refresh_family_of_token
-- every VO: whoever holds a token of the family may end it.
UPDATE identity.refresh_token SET revoked_at = now()
 WHERE family_id = (SELECT family_id FROM identity.refresh_token WHERE token_hash = %(token_hash)s::bytea)
   AND revoked_at IS NULL;

-- name: merge_vos
-- every VO: the operations data describe all of them.
MERGE INTO identity.vo v
USING (SELECT w.name FROM unnest(%(names)s::text[]) WITH ORDINALITY AS w (name, n) ORDER BY w.n) w ON v.name = w.name
WHEN MATCHED AND v.retired_at IS NOT NULL THEN UPDATE SET retired_at = NULL
WHEN NOT MATCHED THEN INSERT (name) VALUES (w.name);

-- name: retire_vos
-- every VO: the operations data describe all of them.
UPDATE identity.vo SET retired_at = now() WHERE retired_at IS NULL AND name <> ALL (%(names)s::text[]);

-- name: merge_users
-- every VO: a user belongs to none by itself.
MERGE INTO identity.user_account u
USING jsonb_to_recordset(%(users)s::jsonb) AS w (name text, full_name text, email text, subject uuid) ON u.name = w.name
WHEN MATCHED AND (u.retired_at IS NOT NULL OR u.full_name <> w.full_name OR u.email <> w.email
                  OR u.subject <> w.subject)
     THEN UPDATE SET retired_at = NULL, full_name = w.full_name, email = w.email, subject = coalesce(w.subject, u.subject)
WHEN NOT MATCHED THEN INSERT (name, full_name, email, subject)
     VALUES (w.name, w.full_name, w.email, coalesce(w.subject, gen_random_uuid()));

-- name: retire_users
-- every VO: a user belongs to none by itself.
UPDATE identity.user_account SET retired_at = now() WHERE retired_at IS NULL AND name <> ALL (%(names)s::text[]);

-- name: merge_groups
-- every VO: the operations data describe all of them.
MERGE INTO identity.vo_group g
USING (SELECT v.vo_id, w.name, w.properties
         FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text, properties text[])
         JOIN identity.vo v ON v.name = w.vo) w ON g.vo_id = w.vo_id AND g.name = w.name
WHEN MATCHED AND (g.retired_at IS NOT NULL OR g.properties <> w.properties)
     THEN UPDATE SET retired_at = NULL, properties = w.properties
WHEN NOT MATCHED THEN INSERT (vo_id, name, properties) VALUES (w.vo_id, w.name, w.properties);

-- name: retire_groups
-- every VO: the operations data describe all of them.
UPDATE identity.vo_group g SET retired_at = now()
 WHERE g.retired_at IS NULL
   AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text)
                     JOIN identity.vo v ON v.name = w.vo
                    WHERE v.vo_id = g.vo_id AND w.name = g.name);

-- name: insert_memberships
-- every VO: the operations data describe all of them.
INSERT INTO identity.membership (user_id, group_id)
SELECT u.user_id, g.group_id
  FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text, members text[])
  JOIN identity.vo v ON v.name = w.vo
  JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w.name
  JOIN identity.user_account u ON u.name = ANY (w.members)
    ON CONFLICT (user_id, group_id) DO NOTHING;

-- name: delete_memberships
-- every VO: the operations data describe all of them.
DELETE FROM identity.membership m
 WHERE NOT EXISTS (SELECT FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text, members text[])
                     JOIN identity.vo v ON v.name = w.vo
                     JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w.name
                     JOIN identity.user_account u ON u.name = ANY (w.members)
                    WHERE u.user_id = m.user_id AND g.group_id = m.group_id);

-- name: delete_expired_refresh_tokens
-- every VO: what has expired serves nobody, whosever it was.
DELETE FROM identity.refresh_token WHERE expires_at < now() - interval '1 day';
