-- name: delete_providers
-- every VO: a provider belongs to none; the operations data describe all of them.
DELETE FROM identity.provider;

-- name: insert_providers
-- every VO: a provider belongs to none; the operations data describe all of them.
INSERT INTO identity.provider (name, issuer, settings)
SELECT w ->> 'name', w ->> 'issuer', w FROM jsonb_array_elements(%(providers)s::jsonb) AS w;

-- name: rename_providers
-- every VO: a person is the same in all of them. A provider is known by its issuer, whatever it is called here.
UPDATE identity.provider_account a SET provider = p.name
  FROM identity.provider p WHERE p.issuer = a.issuer AND p.name <> a.provider;

-- name: list_providers
-- every VO: whoever wants to sign in has no VO yet.
SELECT settings FROM identity.provider ORDER BY name;

-- name: list_registered_names
-- every VO: a name is one person's in all of them. Accounts that made themselves, and that these users would take over
-- without saying by subject or identity that they mean them.
SELECT u.name
  FROM jsonb_to_recordset(%(users)s::jsonb) AS w (name text, subject uuid, identities jsonb)
  JOIN identity.user_account u ON u.name = w.name AND u.origin = 'registration'
 WHERE u.subject IS DISTINCT FROM w.subject
   AND NOT EXISTS (SELECT FROM identity.linked_identity l, jsonb_to_recordset(w.identities) AS i (issuer text, subject text)
                    WHERE l.user_id = u.user_id AND l.issuer = i.issuer AND l.subject = i.subject)
 ORDER BY u.name;

-- name: lock_person
-- every VO: a person is the same in all of them. Two first sign-ins of one person make one account.
SELECT pg_advisory_xact_lock(hashtextextended('person ' || %(issuer)s::text || ' ' || %(subject)s::text, 0));

-- name: lock_names
-- every VO: a name is one person's in all of them.
SELECT pg_advisory_xact_lock(hashtextextended('names of accounts', 0));

-- name: find_owner
-- every VO: a person is the same in all of them. Retired people are found too: their logins stay theirs.
SELECT u.user_id, u.name AS "user", u.retired_at IS NOT NULL AS retired, identity.is_suspended(u.user_id, NULL) AS banned
  FROM identity.linked_identity l JOIN identity.user_account u USING (user_id)
 WHERE l.issuer = %(issuer)s::text AND l.subject = %(subject)s::text;

-- name: find_user_id
-- every VO: a person is the same in all of them.
SELECT user_id FROM identity.user_account WHERE name = %(user)s::text AND retired_at IS NULL;

-- name: list_names_like
-- every VO: a name is one person's in all of them, also when they have left.
SELECT name FROM identity.user_account WHERE starts_with(name, %(wanted)s::text);

-- name: insert_user
-- every VO: a user belongs to none by itself.
INSERT INTO identity.user_account (name, full_name, email, origin)
SELECT %(name)s::text, %(full_name)s::text, %(email)s::text, 'registration'
RETURNING user_id;

-- name: update_user
-- every VO: a user belongs to none by itself. What the operations data say about their own users stays.
UPDATE identity.user_account SET full_name = %(full_name)s::text, email = %(email)s::text
 WHERE user_id = %(user_id)s::integer AND origin = 'registration'
   AND (full_name, email) IS DISTINCT FROM (%(full_name)s::text, %(email)s::text);

-- name: insert_identity
-- every VO: a person is the same in all of them.
INSERT INTO identity.linked_identity (issuer, subject, user_id, origin, used_at)
SELECT %(issuer)s::text, %(subject)s::text, %(user_id)s::integer, 'registration', now()
    ON CONFLICT (issuer, subject) DO NOTHING;

-- name: note_use
-- every VO: a person is the same in all of them.
UPDATE identity.linked_identity SET used_at = now()
 WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text;

-- name: keep_account
-- every VO: a person is the same in all of them. A refresh token is kept until there is a newer one.
INSERT INTO identity.provider_account AS a (issuer, subject, provider, sub, facts, refresh_sealed)
SELECT %(issuer)s::text, %(subject)s::text, %(provider)s::text, %(sub)s::text, %(facts)s::jsonb, %(refresh_sealed)s::bytea
    ON CONFLICT (issuer, subject) DO UPDATE
   SET provider = EXCLUDED.provider, sub = EXCLUDED.sub, facts = EXCLUDED.facts, checked_at = now(), asking_at = NULL,
       refresh_sealed = coalesce(EXCLUDED.refresh_sealed, a.refresh_sealed);

-- name: list_accounts
-- every VO: a person is the same in all of them.
SELECT a.issuer, a.subject, a.sub, a.provider, u.user_id, u.name AS "user", u.full_name, u.email, a.facts,
       a.checked_at, a.refresh_sealed
  FROM identity.provider_account a
  JOIN identity.linked_identity l USING (issuer, subject)
  JOIN identity.user_account u USING (user_id)
 WHERE a.provider = ANY (%(providers)s::text[])
   AND (%(user_ids)s::integer[] IS NULL OR u.user_id = ANY (%(user_ids)s::integer[]))
 ORDER BY a.issuer, a.subject;

-- name: list_old_accounts
-- every VO: a person is the same in all of them. Those that the provider can be asked about without the person.
SELECT a.issuer, a.subject, a.sub, a.provider, u.user_id, u.name AS "user", u.full_name, u.email, a.facts,
       a.checked_at, a.refresh_sealed
  FROM identity.provider_account a
  JOIN identity.linked_identity l USING (issuer, subject)
  JOIN identity.user_account u USING (user_id)
 WHERE a.provider = %(provider)s::text AND a.refresh_sealed IS NOT NULL AND u.retired_at IS NULL
   AND a.checked_at < now() - make_interval(secs => %(age_s)s::double precision)
 ORDER BY a.checked_at LIMIT %(limit)s::integer;

-- name: lapse_accounts
-- every VO: a person is the same in all of them.
UPDATE identity.provider_account a SET facts = '{}'
  FROM identity.linked_identity l
 WHERE a.provider = %(provider)s::text AND a.facts <> '{}' AND (l.issuer, l.subject) = (a.issuer, a.subject)
   AND a.checked_at < now() - make_interval(secs => %(age_s)s::double precision)
RETURNING l.user_id;

-- name: begin_asking
-- every VO: a person is the same in all of them. One asks at a time; who dies while asking is waited for a minute.
UPDATE identity.provider_account SET asking_at = now()
 WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text
   AND (asking_at IS NULL OR asking_at < now() - interval '1 minute');

-- name: end_asking
-- every VO: a person is the same in all of them.
UPDATE identity.provider_account SET asking_at = NULL WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text;

-- name: forget_refresh_token
-- every VO: a person is the same in all of them.
UPDATE identity.provider_account SET refresh_sealed = NULL, asking_at = NULL
 WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text;

-- name: take_memberships
-- every VO: a provider may put people into groups of all of them. Who is a member by another source remains one.
WITH ended AS (
    SELECT m.user_id, m.group_id, array_remove(m.sources, %(source)s::text) AS left_over
      FROM identity.membership m
     WHERE %(source)s::text = ANY (m.sources)
       AND (%(user_ids)s::integer[] IS NULL OR m.user_id = ANY (%(user_ids)s::integer[]))
       AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%(given)s::jsonb) AS w (user_id integer, vo text, "group" text)
                         JOIN identity.vo v ON v.name = w.vo
                         JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w."group"
                        WHERE w.user_id = m.user_id AND g.group_id = m.group_id)),
kept AS (
    UPDATE identity.membership m SET sources = e.left_over
      FROM ended e WHERE e.user_id = m.user_id AND e.group_id = m.group_id AND e.left_over <> '{}'),
gone AS (
    DELETE FROM identity.membership m USING ended e
     WHERE e.user_id = m.user_id AND e.group_id = m.group_id AND e.left_over = '{}')
SELECT e.user_id, v.vo_id, v.name AS vo, g.name AS "group"
  FROM ended e JOIN identity.vo_group g USING (group_id) JOIN identity.vo v USING (vo_id)
 ORDER BY e.user_id, v.name, g.name;

-- name: give_memberships
-- every VO: a provider may put people into groups of all of them.
WITH given AS (
    INSERT INTO identity.membership AS m (user_id, group_id, sources)
    SELECT DISTINCT w.user_id, g.group_id, ARRAY[%(source)s::text]
      FROM jsonb_to_recordset(%(given)s::jsonb) AS w (user_id integer, vo text, "group" text)
      JOIN identity.vo v ON v.name = w.vo AND v.retired_at IS NULL
      JOIN identity.vo_group g ON g.vo_id = v.vo_id AND g.name = w."group" AND g.retired_at IS NULL
        ON CONFLICT (user_id, group_id) DO UPDATE SET sources = m.sources || EXCLUDED.sources
     WHERE NOT %(source)s::text = ANY (m.sources)
    RETURNING user_id, group_id)
SELECT n.user_id, v.vo_id, v.name AS vo, g.name AS "group"
  FROM given n JOIN identity.vo_group g USING (group_id) JOIN identity.vo v USING (vo_id)
 ORDER BY n.user_id, v.name, g.name;

-- name: list_sources
-- every VO: a provider may put people into groups of all of them.
SELECT DISTINCT source FROM identity.membership, unnest(sources) AS source WHERE source LIKE 'provider:%%';

-- name: list_identities
-- every VO: a user may see their own logins.
SELECT l.issuer, l.subject, l.origin::text AS origin, p.name AS provider, l.linked_at, l.used_at
  FROM identity.linked_identity l
  JOIN identity.user_account u USING (user_id)
  LEFT JOIN identity.provider p ON p.issuer = l.issuer
 WHERE u.user_id = %(user_id)s::integer
 ORDER BY l.linked_at, l.issuer, l.subject;

-- name: lock_user
-- every VO: a person is the same in all of them.
SELECT user_id FROM identity.user_account WHERE user_id = %(user_id)s::integer FOR UPDATE;

-- name: delete_identity
-- every VO: a user may give up their own logins.
DELETE FROM identity.linked_identity
 WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text AND user_id = %(user_id)s::integer
   AND origin = 'registration';

-- name: find_way_signed_in
-- every VO: whoever holds the token acts for the session that it names.
SELECT s.signed_in_by, s.user_id, s.opened_at
  FROM identity.refresh_token t JOIN identity.session s USING (session_id)
 WHERE t.token_hash = %(token_hash)s::bytea AND s.ended_at IS NULL;

-- name: insert_happening
-- every VO: what happens to a person may concern none of them.
INSERT INTO identity.happening (event, user_id, vo_id, actor, address, facts)
SELECT %(event)s::text, %(user_id)s::integer, %(vo_id)s::integer, %(actor)s::text, %(address)s::text, %(facts)s::jsonb;

-- name: insert_newcomer
-- every VO: who has no account is in none. Those who did not ask in time are forgotten.
WITH old AS (DELETE FROM identity.newcomer WHERE expires_at < now())
INSERT INTO identity.newcomer (cookie_hash, visitor, expires_at)
SELECT %(cookie_hash)s::bytea, %(visitor)s::jsonb, now() + make_interval(secs => %(lifetime_s)s::double precision);

-- name: find_newcomer
-- every VO: who has no account is in none.
SELECT visitor FROM identity.newcomer WHERE cookie_hash = %(cookie_hash)s::bytea AND expires_at > now();

-- name: list_happenings
-- Newest first, below an id. A VO's administrators see what concerns their VO; operators (no vo_id) see everything.
SELECT h.happening_id, h.happened_at, h.event, u.name AS "user", v.name AS vo, h.actor, h.address, h.facts
  FROM identity.happening h
  LEFT JOIN identity.user_account u USING (user_id)
  LEFT JOIN identity.vo v USING (vo_id)
 WHERE (%(vo_id)s::integer IS NULL OR h.vo_id = %(vo_id)s::integer)
   AND (%(user)s::text IS NULL OR u.name = %(user)s::text)
   AND (%(before)s::bigint IS NULL OR h.happening_id < %(before)s::bigint)
 ORDER BY h.happening_id DESC LIMIT %(limit)s::integer;

-- name: list_vos
-- every VO: whoever asks to be let in has none yet.
SELECT name FROM identity.vo WHERE retired_at IS NULL ORDER BY name;

-- name: count_registrations
-- every VO: the limit is per person and per address.
SELECT count(*) FILTER (WHERE issuer = %(issuer)s::text AND subject = %(subject)s::text) AS of_person,
       count(*) FILTER (WHERE address = %(address)s::text AND asked_at > now() - interval '1 hour') AS of_address
  FROM identity.registration
 WHERE asked_at > now() - interval '1 day'
   AND ((issuer = %(issuer)s::text AND subject = %(subject)s::text) OR address = %(address)s::text);

-- name: insert_registration
-- every VO: the VO is the one that is asked for by name. Who asks again while the first waits changes the message.
INSERT INTO identity.registration (vo_id, provider, issuer, subject, visitor, message, address)
SELECT v.vo_id, %(provider)s::text, %(issuer)s::text, %(subject)s::text, %(visitor)s::jsonb, %(message)s::text,
       %(address)s::text
  FROM identity.vo v WHERE v.name = %(vo)s::text AND v.retired_at IS NULL
    ON CONFLICT (vo_id, issuer, subject) WHERE state = 'waiting'
    DO UPDATE SET message = EXCLUDED.message, visitor = EXCLUDED.visitor
RETURNING registration_id, vo_id;

-- name: list_own_registrations
-- every VO: a person may see what they have asked for, in whichever VO.
SELECT r.registration_id, r.state, v.name AS vo, r.provider, r.issuer, r.subject, r.visitor ->> 'full_name' AS full_name,
       r.visitor ->> 'email' AS email, r.message, coalesce(r.visitor -> 'facts', '{}') AS facts, r.asked_at, r.decided_at,
       r.reason
  FROM identity.registration r JOIN identity.vo v USING (vo_id)
 WHERE r.issuer = %(issuer)s::text AND r.subject = %(subject)s::text
 ORDER BY r.registration_id DESC LIMIT 50;

-- name: list_registrations
-- Newest first, below an id. A VO's administrators see their own VO only; operators (no vo_id) see every one.
SELECT r.registration_id, r.state, v.name AS vo, r.provider, r.issuer, r.subject, r.visitor ->> 'full_name' AS full_name,
       r.visitor ->> 'email' AS email, r.message, coalesce(r.visitor -> 'facts', '{}') AS facts, r.asked_at,
       u.name AS "user", g.name AS "group", r.decided_by, r.decided_at, r.reason
  FROM identity.registration r
  JOIN identity.vo v USING (vo_id)
  LEFT JOIN identity.user_account u USING (user_id)
  LEFT JOIN identity.vo_group g USING (group_id)
 WHERE (%(vo_id)s::integer IS NULL OR r.vo_id = %(vo_id)s::integer)
   AND (%(state)s::text IS NULL OR r.state::text = %(state)s::text)
   AND (%(ids)s::bigint[] IS NULL OR r.registration_id = ANY (%(ids)s::bigint[]))
   AND (%(before)s::bigint IS NULL OR r.registration_id < %(before)s::bigint)
 ORDER BY r.registration_id DESC LIMIT %(limit)s::integer;

-- name: lock_registrations
-- In the order of their ids; those of another VO, and those that were decided, are not found.
SELECT r.registration_id, r.vo_id, v.name AS vo, r.visitor
  FROM identity.registration r JOIN identity.vo v USING (vo_id)
 WHERE r.registration_id = ANY (%(ids)s::bigint[]) AND r.state = 'waiting'
   AND (%(vo_id)s::integer IS NULL OR r.vo_id = %(vo_id)s::integer)
 ORDER BY r.registration_id FOR UPDATE OF r;

-- name: decide_registration
-- every VO: the row was locked for its VO just before.
UPDATE identity.registration
   SET state = %(state)s::identity.registration_state, decided_by = %(decided_by)s::text, decided_at = now(),
       reason = %(reason)s::text, user_id = %(user_id)s::integer, group_id = %(group_id)s::integer
 WHERE registration_id = %(registration_id)s::bigint;

-- name: list_groups
SELECT group_id, name, properties FROM identity.vo_group
 WHERE vo_id = %(vo_id)s::integer AND retired_at IS NULL ORDER BY name;

-- name: delete_old_registrations
-- every VO: what was refused long ago serves nobody; the happenings keep that it was. Newcomers who did not ask neither.
WITH newcomers AS (DELETE FROM identity.newcomer WHERE expires_at < now())
DELETE FROM identity.registration WHERE state = 'refused' AND decided_at < now() - interval '180 days';
