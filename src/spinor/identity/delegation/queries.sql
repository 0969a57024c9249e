-- name: put_voms
-- every VO: the operations data describe all of them.
MERGE INTO identity.voms t
USING (SELECT v.vo_id, w.name, w.servers, w.signs_itself, w.groups
         FROM jsonb_to_recordset(%(voms)s::jsonb)
              AS w (vo text, name text, servers jsonb, signs_itself boolean, groups jsonb)
         JOIN identity.vo v ON v.name = w.vo) w ON t.vo_id = w.vo_id
WHEN MATCHED THEN UPDATE SET name = w.name, servers = w.servers, signs_itself = w.signs_itself, groups = w.groups
WHEN NOT MATCHED THEN INSERT (vo_id, name, servers, signs_itself, groups)
     VALUES (w.vo_id, w.name, w.servers, w.signs_itself, w.groups);

-- name: remove_voms
-- every VO: the operations data describe all of them.
DELETE FROM identity.voms t USING identity.vo v
 WHERE v.vo_id = t.vo_id AND v.name <> ALL (%(vos)s::text[]);

-- name: put_online_ca
-- every VO: there is one online CA for all of them.
INSERT INTO identity.online_ca AS t (is_enabled, longest_s) SELECT %(is_enabled)s::boolean, %(longest_s)s::integer
    ON CONFLICT (only_row) DO UPDATE SET is_enabled = EXCLUDED.is_enabled, longest_s = EXCLUDED.longest_s;

-- name: find_voms
SELECT v.name AS vo, t.name, t.servers, t.signs_itself, t.groups
  FROM identity.voms t JOIN identity.vo v USING (vo_id)
 WHERE t.vo_id = %(vo_id)s::integer AND v.retired_at IS NULL;

-- name: list_voms_by_name
-- every VO: whoever signs in has not chosen one yet, and a server's signature says which one it may speak for.
SELECT v.name AS vo, t.name, t.servers, t.signs_itself, t.groups
  FROM identity.voms t JOIN identity.vo v USING (vo_id)
 WHERE t.name = ANY (%(names)s::text[]) AND v.retired_at IS NULL
 ORDER BY v.name;

-- name: grant_voms_memberships
-- every VO: each group is named with the VO whose server has signed for it.
WITH meant AS (
    SELECT u.user_id, g.group_id
      FROM unnest(%(vos)s::text[], %(groups)s::text[]) AS w (vo, name)
      JOIN identity.vo v ON v.name = w.vo AND v.retired_at IS NULL
      JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w.name AND g.retired_at IS NULL
      JOIN identity.user_account u ON u.name = %(user)s::text AND u.retired_at IS NULL),
noted AS (
    INSERT INTO identity.voms_membership (user_id, group_id, ends_at)
    SELECT user_id, group_id, now() + make_interval(secs => %(lifetime_s)s::double precision) FROM meant
        ON CONFLICT (user_id, group_id) DO UPDATE SET ends_at = EXCLUDED.ends_at)
INSERT INTO identity.membership AS m (user_id, group_id, sources)
SELECT user_id, group_id, '{voms}' FROM meant
    ON CONFLICT (user_id, group_id) DO UPDATE SET sources = m.sources || '{voms}'::text[]
 WHERE NOT 'voms' = ANY (m.sources);

-- name: end_unmapped_voms_memberships
-- every VO: the operations data describe all of them.
UPDATE identity.voms_membership m SET ends_at = now()
  FROM identity.vo_group g
 WHERE g.group_id = m.group_id
   AND NOT EXISTS (SELECT FROM identity.voms t, jsonb_each_text(t.groups) AS f (fqan, name)
                    WHERE t.vo_id = g.vo_id AND f.name = g.name);

-- name: end_voms_memberships
-- every VO: what has ended holds for nobody. Who is a member by another source as well remains one.
WITH over AS (DELETE FROM identity.voms_membership WHERE ends_at <= now() RETURNING user_id, group_id),
ended AS (
    SELECT m.user_id, m.group_id, array_remove(m.sources, 'voms') AS left_over
      FROM identity.membership m JOIN over USING (user_id, group_id)),
kept AS (
    UPDATE identity.membership m SET sources = e.left_over
      FROM ended e WHERE e.user_id = m.user_id AND e.group_id = m.group_id AND e.left_over <> '{}')
DELETE FROM identity.membership m USING ended e
 WHERE e.user_id = m.user_id AND e.group_id = m.group_id AND e.left_over = '{}';

-- name: is_identity_of
-- every VO: a person is the same in all of them.
SELECT EXISTS (SELECT FROM identity.linked_identity
                WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text AND user_id = %(user_id)s::integer);

-- name: link_identity
-- every VO: a person is the same in all of them.
INSERT INTO identity.linked_identity AS l (issuer, subject, user_id, origin)
SELECT %(issuer)s::text, %(subject)s::text, %(user_id)s::integer, 'registration'
    ON CONFLICT (issuer, subject) DO UPDATE SET used_at = now() WHERE l.user_id = EXCLUDED.user_id
RETURNING user_id;

-- name: insert_proxy_request
-- every VO: a person's certificate is the same in all of them.
INSERT INTO identity.proxy_request (key_id, user_id, sealed_key, expires_at)
SELECT %(key_id)s::uuid, %(user_id)s::integer, %(sealed_key)s::bytea,
       now() + make_interval(secs => %(lifetime_s)s::double precision)
 WHERE (SELECT count(*) FROM identity.proxy_request
         WHERE user_id = %(user_id)s::integer AND expires_at > now()) < %(at_most)s::integer
RETURNING expires_at;

-- name: find_proxy_request
-- every VO: a person's certificate is the same in all of them.
SELECT key_id, sealed_key FROM identity.proxy_request
 WHERE key_id = %(key_id)s::uuid AND user_id = %(user_id)s::integer AND expires_at > now();

-- name: store_proxy
-- One statement, so that the former proxy is there until the new one is, and the request is gone with it.
WITH taken AS (
    DELETE FROM identity.proxy_request
     WHERE key_id = %(key_id)s::uuid AND user_id = %(user_id)s::integer AND expires_at > now()
    RETURNING key_id, user_id, sealed_key)
INSERT INTO identity.proxy AS p (proxy_id, user_id, vo_id, subject_dn, issuer_dn, chain, key_id, sealed_key, is_limited,
                                 expires_at)
SELECT %(proxy_id)s::uuid, user_id, CASE WHEN %(only_this_vo)s::boolean THEN %(vo_id)s::integer END,
       %(subject)s::text, %(issuer)s::text, %(chain)s::text, key_id, sealed_key, %(is_limited)s::boolean,
       %(expires_at)s::timestamptz
  FROM taken
    ON CONFLICT ON CONSTRAINT proxy_unique DO UPDATE
   SET chain = EXCLUDED.chain, key_id = EXCLUDED.key_id, sealed_key = EXCLUDED.sealed_key,
       is_limited = EXCLUDED.is_limited, expires_at = EXCLUDED.expires_at, renewed_at = now(), reminded_at = NULL
RETURNING proxy_id;

-- name: count_proxies
-- every VO: the bound is for a person.
SELECT count(*) FROM identity.proxy WHERE user_id = %(user_id)s::integer;

-- name: list_proxies
SELECT p.proxy_id, p.subject_dn AS subject, p.issuer_dn AS issuer, v.name AS vo, p.is_limited, p.stored_at, p.renewed_at,
       p.expires_at, p.expires_at < now() + make_interval(secs => %(remind_before_s)s::double precision) AS ends_soon
  FROM identity.proxy p LEFT JOIN identity.vo v USING (vo_id)
 WHERE p.user_id = %(user_id)s::integer AND (p.vo_id IS NULL OR p.vo_id = %(vo_id)s::integer) AND p.expires_at > now()
 ORDER BY p.expires_at DESC, p.proxy_id;

-- name: remove_proxies
DELETE FROM identity.proxy
 WHERE proxy_id = ANY (%(ids)s::uuid[]) AND user_id = %(user_id)s::integer
   AND (vo_id IS NULL OR vo_id = %(vo_id)s::integer)
RETURNING proxy_id;

-- name: find_proxy
SELECT proxy_id, user_id, chain, key_id, sealed_key, is_limited, expires_at, subject_dn AS subject, issuer_dn AS issuer
  FROM identity.proxy
 WHERE proxy_id = %(proxy_id)s::uuid AND user_id = %(user_id)s::integer
   AND (vo_id IS NULL OR vo_id = %(vo_id)s::integer) AND expires_at > now();

-- name: longest_proxy
SELECT proxy_id, user_id, chain, key_id, sealed_key, is_limited, expires_at, subject_dn AS subject, issuer_dn AS issuer
  FROM identity.proxy
 WHERE user_id = %(user_id)s::integer AND (vo_id IS NULL OR vo_id = %(vo_id)s::integer) AND expires_at > now()
   AND (%(limited_too)s::boolean OR NOT is_limited)
 ORDER BY expires_at DESC LIMIT 1;

-- name: still_stored
SELECT EXISTS (SELECT FROM identity.proxy
                WHERE proxy_id = %(proxy_id)s::uuid AND user_id = %(user_id)s::integer AND key_id = %(key_id)s::uuid
                  AND (vo_id IS NULL OR vo_id = %(vo_id)s::integer));

-- name: count_given
-- every VO: the bound is for a person.
SELECT count(*) FROM identity.issued
 WHERE user_id = %(user_id)s::integer AND kind IN ('proxy', 'certificate')
   AND issued_at > now() - make_interval(secs => %(within_s)s::double precision);

-- name: delete_ended_proxies
-- every VO: what has expired serves nobody, whosever it was.
WITH proxies AS (DELETE FROM identity.proxy WHERE expires_at <= now() RETURNING 1),
     requests AS (DELETE FROM identity.proxy_request WHERE expires_at <= now() RETURNING 1)
SELECT (SELECT count(*) FROM proxies) + (SELECT count(*) FROM requests);

-- name: remind_of_proxies
-- every VO: each owner is told of their own.
UPDATE identity.proxy p SET reminded_at = now()
  FROM identity.user_account u
 WHERE u.user_id = p.user_id AND p.reminded_at IS NULL AND p.expires_at > now()
   AND p.expires_at < now() + make_interval(secs => %(remind_before_s)s::double precision)
RETURNING u.name AS "user", p.subject_dn AS subject, p.expires_at;

-- name: find_online_ca
-- every VO: there is one online CA for all of them.
SELECT is_enabled, longest_s, fingerprint, crl, crl_number, crl_signed_at,
       EXISTS (SELECT FROM identity.voms WHERE signs_itself) AS signs_attributes
  FROM identity.online_ca;

-- name: lock_online_ca
-- every VO: there is one online CA for all of them.
INSERT INTO identity.online_ca AS t DEFAULT VALUES ON CONFLICT (only_row) DO UPDATE SET crl_number = t.crl_number
RETURNING is_enabled, longest_s, fingerprint, crl, crl_number, crl_signed_at;

-- name: keep_fingerprint
-- every VO: there is one online CA for all of them.
UPDATE identity.online_ca SET fingerprint = %(fingerprint)s::bytea;

-- name: keep_crl
-- every VO: there is one online CA for all of them.
UPDATE identity.online_ca SET crl = %(crl)s::bytea, crl_number = %(number)s::bigint, crl_signed_at = now();

-- name: common_name
-- every VO: the online CA calls a person the same in all of them.
INSERT INTO identity.online_ca_name AS n (user_id, common_name) SELECT %(user_id)s::integer, %(common_name)s::text
    ON CONFLICT (user_id) DO UPDATE SET common_name = n.common_name
RETURNING common_name;

-- name: insert_certificate
INSERT INTO identity.certificate (serial, vo_id, user_id, expires_at)
SELECT %(serial)s::text, %(vo_id)s::integer, %(user_id)s::integer, %(expires_at)s::timestamptz;

-- name: revoke_of_suspended
-- every VO: the revocation list is for all of them. It stays when the suspension is lifted, as a list cannot take back.
UPDATE identity.certificate c SET revoked_at = now()
  FROM identity.user_account u
 WHERE u.user_id = c.user_id AND c.revoked_at IS NULL AND c.expires_at > now()
   AND (u.retired_at IS NOT NULL OR identity.is_suspended(c.user_id, c.vo_id));

-- name: list_revoked
-- every VO: the revocation list is for all of them. One is named for a day after it has expired, for clocks that differ.
SELECT serial, revoked_at FROM identity.certificate
 WHERE revoked_at IS NOT NULL AND expires_at > now() - interval '1 day'
 ORDER BY serial;

-- name: delete_ended_certificates
-- every VO: what has expired serves nobody, whosever it was. The audit log keeps its line.
DELETE FROM identity.certificate WHERE expires_at < now() - interval '30 days';
