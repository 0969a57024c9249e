-- name: find_member_by_names
-- every VO: the VO is asked for by name, and the answer says which one it is.
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties, identity.is_suspended(u.user_id, v.vo_id) AS suspended
  FROM identity.vo v
  JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.retired_at IS NULL
  JOIN identity.membership m ON m.group_id = g.group_id
  JOIN identity.user_account u ON u.user_id = m.user_id AND u.retired_at IS NULL
 WHERE v.name = %(vo)s::text AND v.retired_at IS NULL AND g.name = %(group)s::text AND u.name = %(user)s::text;

-- name: find_member_by_subject
-- every VO: the VO is the one that the verified token names.
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties, identity.is_suspended(u.user_id, v.vo_id) AS suspended,
       EXISTS (SELECT FROM identity.session s
                WHERE s.session_id = %(session_id)s::uuid AND s.user_id = u.user_id AND s.group_id = g.group_id
                  AND s.ended_at IS NULL AND s.expires_at > clock_timestamp()) AS session_open
  FROM identity.user_account u
  JOIN identity.membership m ON m.user_id = u.user_id
  JOIN identity.vo_group g ON g.group_id = m.group_id AND g.retired_at IS NULL
  JOIN identity.vo v ON v.vo_id = g.vo_id AND v.retired_at IS NULL
 WHERE u.subject = %(subject)s::uuid AND u.retired_at IS NULL AND v.name = %(vo)s::text AND g.name = %(group)s::text;

-- name: find_member_by_ids
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties, identity.is_suspended(u.user_id, v.vo_id) AS suspended
  FROM identity.vo v
  JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.retired_at IS NULL
  JOIN identity.membership m ON m.group_id = g.group_id
  JOIN identity.user_account u ON u.user_id = m.user_id AND u.retired_at IS NULL
 WHERE v.vo_id = %(vo_id)s::integer AND v.retired_at IS NULL
   AND g.group_id = %(group_id)s::integer AND u.user_id = %(user_id)s::integer;

-- name: insert_probe_member
-- The account of a VO in whose name the service tests its elements. Operations data can have no such names, and nobody
-- can sign in as it.
WITH account AS (
    INSERT INTO identity.user_account (name, full_name, origin) VALUES ('spinor:probe', 'probes of this service', 'registration')
    ON CONFLICT (name) DO UPDATE SET retired_at = NULL
    RETURNING user_id
), grp AS (
    INSERT INTO identity.vo_group (vo_id, name) VALUES (%(vo_id)s::integer, 'spinor:probe')
    ON CONFLICT (vo_id, name) DO UPDATE SET retired_at = NULL
    RETURNING group_id
), membership AS (
    INSERT INTO identity.membership (user_id, group_id, sources)
    SELECT user_id, group_id, '{service}' FROM account CROSS JOIN grp
    ON CONFLICT DO NOTHING
)
SELECT user_id, group_id FROM account CROSS JOIN grp;

-- name: list_members_of_user
-- every VO: a user may see all roles that are their own.
SELECT v.vo_id, v.name AS vo, u.user_id, u.name AS "user", u.subject, u.full_name, u.email,
       g.group_id, g.name AS "group", g.properties, identity.is_suspended(u.user_id, v.vo_id) AS suspended
  FROM identity.user_account u
  JOIN identity.membership m ON m.user_id = u.user_id
  JOIN identity.vo_group g ON g.group_id = m.group_id AND g.retired_at IS NULL
  JOIN identity.vo v ON v.vo_id = g.vo_id AND v.retired_at IS NULL
 WHERE u.name = %(user)s::text AND u.retired_at IS NULL
 ORDER BY v.name, g.name;

-- name: find_vo_id
-- every VO: the VO is the one that the verified token of a pilot names.
SELECT vo_id FROM identity.vo WHERE name = %(vo)s::text AND retired_at IS NULL;

-- name: find_user_by_identity
-- every VO: a person is the same in all of them.
UPDATE identity.linked_identity l SET used_at = now()
  FROM identity.user_account u
 WHERE l.issuer = %(issuer)s::text AND l.subject = %(subject)s::text AND u.user_id = l.user_id AND u.retired_at IS NULL
RETURNING u.name;

-- name: insert_session
INSERT INTO identity.session (session_id, kind, vo_id, user_id, group_id, client_id, signed_in_by, scopes, address,
                              user_agent, expires_at, ends_by)
SELECT %(session_id)s::uuid, %(kind)s::identity.session_kind, %(vo_id)s::integer, %(user_id)s::integer,
       %(group_id)s::integer, %(client_id)s::text, %(signed_in_by)s::text, %(scopes)s::text[], %(address)s::text,
       %(user_agent)s::text,
       least(now() + make_interval(secs => %(lifetime_s)s::double precision), %(ends_by)s::timestamptz),
       %(ends_by)s::timestamptz;

-- name: insert_refresh_token
-- every VO: the session has the VO. It lives on as long as a token of it could be used.
WITH made AS (
    INSERT INTO identity.refresh_token (token_hash, session_id, expires_at)
    SELECT %(token_hash)s::bytea, session_id,
           least(now() + make_interval(secs => %(lifetime_s)s::double precision), ends_by)
      FROM identity.session WHERE session_id = %(session_id)s::uuid
    RETURNING session_id, expires_at)
UPDATE identity.session s SET used_at = now(), expires_at = greatest(s.expires_at, made.expires_at)
  FROM made WHERE s.session_id = made.session_id;

-- name: lock_session_of_token
-- every VO: whoever holds the token acts for the VO that its row names.
-- The session and not the token: an end of it must not miss a successor that is being made.
SELECT pg_advisory_xact_lock(hashtextextended(session_id::text, 0))
  FROM identity.refresh_token
 WHERE token_hash = %(token_hash)s::bytea;

-- name: find_refresh_token
-- every VO: whoever holds the token acts for the VO that its row names.
-- A statement after the lock, and not the one that takes it: that one would look for the successor in a snapshot from
-- before it waited. The times are compared with the clock and not with the start of the transaction for the same reason.
SELECT s.session_id, s.vo_id, s.user_id, s.group_id, s.client_id, s.scopes,
       extract(epoch FROM s.opened_at)::double precision AS opened_at,
       CASE WHEN s.ended_at IS NOT NULL THEN 'revoked'
            WHEN t.expires_at <= clock_timestamp() THEN 'expired'
            WHEN t.used_at IS NULL THEN 'fresh'
            WHEN t.used_at > clock_timestamp() - make_interval(secs => %(grace_s)s::double precision)
                 AND EXISTS (SELECT FROM identity.refresh_token n
                              WHERE n.token_hash = %(successor_hash)s::bytea AND n.used_at IS NULL) THEN 'in_grace'
            ELSE 'spent' END AS state
  FROM identity.refresh_token t JOIN identity.session s USING (session_id)
 WHERE t.token_hash = %(token_hash)s::bytea;

-- name: mark_refresh_token_used
-- every VO: the session was locked by this token just before.
UPDATE identity.refresh_token SET used_at = clock_timestamp() WHERE token_hash = %(token_hash)s::bytea;

-- name: end_session
-- every VO: whoever asks was found to be its owner, its holder or an administrator.
UPDATE identity.session SET ended_at = now(), ended_by = %(ended_by)s::text
 WHERE session_id = %(session_id)s::uuid AND ended_at IS NULL;

-- name: session_of_token
-- every VO: whoever holds a token of the session may end it.
SELECT s.session_id, s.client_id FROM identity.refresh_token t JOIN identity.session s USING (session_id)
 WHERE t.token_hash = %(token_hash)s::bytea;

-- name: spend
-- every VO: a hash of 256 bits belongs to whoever shows it first.
INSERT INTO identity.spent (hash, expires_at) SELECT %(hash)s::bytea, %(expires_at)s::timestamptz
    ON CONFLICT (hash) DO NOTHING;

-- name: insert_issued
-- every VO: each line names its own.
INSERT INTO identity.issued (kind, vo_id, user_id, session_id, client_id, name, audience, scopes, expires_at, address, facts)
SELECT w.* FROM jsonb_to_recordset(%(issued)s::jsonb)
    AS w (kind text, vo_id integer, user_id integer, session_id uuid, client_id text, name text, audience text[],
          scopes text[], expires_at timestamptz, address text, facts jsonb);

-- name: insert_browser_session
-- every VO: a person in a browser has not chosen a VO yet.
INSERT INTO identity.browser_session (cookie_hash, user_id, signed_in_by, expires_at)
SELECT %(cookie_hash)s::bytea, user_id, %(signed_in_by)s::text,
       now() + make_interval(secs => %(lifetime_s)s::double precision)
  FROM identity.user_account WHERE name = %(user)s::text AND retired_at IS NULL;

-- name: find_browser_session
-- every VO: a person in a browser has not chosen a VO yet.
SELECT u.name AS "user", u.full_name, b.signed_in_by, b.signed_in_at
  FROM identity.browser_session b JOIN identity.user_account u USING (user_id)
 WHERE b.cookie_hash = %(cookie_hash)s::bytea AND b.expires_at > now() AND u.retired_at IS NULL;

-- name: delete_browser_session
-- every VO: whoever holds the cookie may end it.
DELETE FROM identity.browser_session WHERE cookie_hash = %(cookie_hash)s::bytea;

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
                  OR u.subject <> w.subject OR u.origin <> 'configuration')
     THEN UPDATE SET retired_at = NULL, full_name = w.full_name, email = w.email, origin = 'configuration',
                     subject = coalesce(w.subject, u.subject)
WHEN NOT MATCHED THEN INSERT (name, full_name, email, subject)
     VALUES (w.name, w.full_name, w.email, coalesce(w.subject, gen_random_uuid()));

-- name: retire_users
-- every VO: a user belongs to none by itself.
UPDATE identity.user_account SET retired_at = now()
 WHERE retired_at IS NULL AND origin = 'configuration' AND name <> ALL (%(names)s::text[]);

-- name: delete_configured_identities
-- every VO: the operations data describe all of them.
DELETE FROM identity.linked_identity l
 WHERE l.origin = 'configuration'
   AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(users)s::jsonb) AS w (name text, identities jsonb)
                     JOIN identity.user_account u ON u.name = w.name,
                          jsonb_to_recordset(w.identities) AS i (issuer text, subject text)
                    WHERE i.issuer = l.issuer AND i.subject = l.subject AND u.user_id = l.user_id);

-- name: insert_configured_identities
-- every VO: the operations data describe all of them.
INSERT INTO identity.linked_identity (issuer, subject, user_id, origin)
SELECT i.issuer, i.subject, u.user_id, 'configuration'
  FROM jsonb_to_recordset(%(users)s::jsonb) AS w (name text, identities jsonb)
  JOIN identity.user_account u ON u.name = w.name,
       jsonb_to_recordset(w.identities) AS i (issuer text, subject text)
    ON CONFLICT (issuer, subject) DO UPDATE SET user_id = EXCLUDED.user_id, origin = 'configuration';

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
-- every VO: the operations data describe all of them. A name with a colon is the service's own.
UPDATE identity.vo_group g SET retired_at = now()
 WHERE g.retired_at IS NULL AND position(':' IN g.name) = 0
   AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text)
                     JOIN identity.vo v ON v.name = w.vo
                    WHERE v.vo_id = g.vo_id AND w.name = g.name);

-- name: insert_memberships
-- every VO: the operations data describe all of them.
INSERT INTO identity.membership AS m (user_id, group_id)
SELECT u.user_id, g.group_id
  FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text, members text[])
  JOIN identity.vo v ON v.name = w.vo
  JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w.name
  JOIN identity.user_account u ON u.name = ANY (w.members)
    ON CONFLICT (user_id, group_id) DO UPDATE SET sources = m.sources || '{configuration}'::text[]
 WHERE NOT 'configuration' = ANY (m.sources);

-- name: delete_memberships
-- every VO: the operations data describe all of them. Who is a member by another source as well remains one.
WITH ended AS (
    SELECT m.user_id, m.group_id, array_remove(m.sources, 'configuration') AS left_over
      FROM identity.membership m
     WHERE 'configuration' = ANY (m.sources)
       AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(groups)s::jsonb) AS w (vo text, name text, members text[])
                         JOIN identity.vo v ON v.name = w.vo
                         JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w.name
                         JOIN identity.user_account u ON u.name = ANY (w.members)
                        WHERE u.user_id = m.user_id AND g.group_id = m.group_id)),
kept AS (
    UPDATE identity.membership m SET sources = e.left_over
      FROM ended e WHERE e.user_id = m.user_id AND e.group_id = m.group_id AND e.left_over <> '{}')
DELETE FROM identity.membership m USING ended e
 WHERE e.user_id = m.user_id AND e.group_id = m.group_id AND e.left_over = '{}';

-- name: delete_expired
-- every VO: what has expired serves nobody, whosever it was.
WITH sessions AS (DELETE FROM identity.session WHERE expires_at < now() - interval '30 days' RETURNING 1),
     tokens AS (DELETE FROM identity.refresh_token t WHERE t.expires_at < now() - interval '1 day' RETURNING 1),
     browsers AS (DELETE FROM identity.browser_session WHERE expires_at < now() RETURNING 1),
     spent AS (DELETE FROM identity.spent WHERE expires_at < now() - interval '1 hour' RETURNING 1),
     -- The record is kept for thirteen months. It grows in the order of its key, so the oldest lines are looked at only.
     oldest AS (SELECT issued_id, issued_at FROM identity.issued ORDER BY issued_id LIMIT 100000),
     issued AS (DELETE FROM identity.issued WHERE issued_id IN (
                    SELECT issued_id FROM oldest WHERE issued_at < now() - interval '400 days') RETURNING 1)
SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM tokens) + (SELECT count(*) FROM browsers)
       + (SELECT count(*) FROM spent) + (SELECT count(*) FROM issued);
