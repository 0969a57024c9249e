-- name: insert_code
INSERT INTO identity.authorization_code (code_hash, client_id, redirect_uri, challenge, scope, nonce, user_id, vo_id,
                                         group_id, browser_hash, signed_in_by, signed_in_at, expires_at)
SELECT %(code_hash)s::bytea, %(client_id)s::text, %(redirect_uri)s::text, %(code_challenge)s::text, %(scope)s::text,
       %(nonce)s::text, %(user_id)s::integer, %(vo_id)s::integer, %(group_id)s::integer, %(browser_hash)s::bytea,
       %(signed_in_by)s::text, %(signed_in_at)s::timestamptz,
       now() + make_interval(secs => %(lifetime_s)s::double precision);

-- name: lock_code
-- every VO: whoever holds the code acts for the VO that its row names.
SELECT c.client_id, c.redirect_uri, c.challenge, c.scope, c.nonce, c.user_id, c.vo_id, c.group_id, c.signed_in_by,
       c.signed_in_at, c.session_id, c.expires_at <= clock_timestamp() AS expired,
       EXISTS (SELECT FROM identity.browser_session b
                WHERE b.cookie_hash = c.browser_hash AND b.user_id = c.user_id) AS browser_open
  FROM identity.authorization_code c
 WHERE c.code_hash = %(code_hash)s::bytea
   FOR UPDATE OF c;

-- name: redeem_code
-- every VO: the row was locked by its code just before.
UPDATE identity.authorization_code SET session_id = %(session_id)s::uuid
 WHERE code_hash = %(code_hash)s::bytea AND session_id IS NULL;

-- name: count_waiting_devices
-- every VO: a program that waits belongs to none yet.
SELECT count(*) FILTER (WHERE address = %(address)s::text) AS from_address, count(*) AS from_all
  FROM identity.device_grant
 WHERE state = 'waiting' AND expires_at > now();

-- name: insert_device
-- every VO: a program that waits belongs to none yet.
INSERT INTO identity.device_grant (device_hash, user_code_hash, client_id, challenge, scope, wanted_vo, wanted_group,
                                   address, user_agent, interval_s, expires_at)
SELECT %(device_hash)s::bytea, %(user_code_hash)s::bytea, %(client_id)s::text, %(challenge)s::text, %(scope)s::text,
       %(wanted_vo)s::text, %(wanted_group)s::text, %(address)s::text, %(user_agent)s::text, %(interval_s)s::integer,
       now() + make_interval(secs => %(lifetime_s)s::double precision)
    ON CONFLICT (user_code_hash) DO NOTHING;

-- name: lock_guesses
-- every VO: user codes belong to none yet. Who looks one up waits for the others, so that no two pass a limit together.
SELECT pg_advisory_xact_lock(hashtextextended('identity.device_guess', 0));

-- name: count_guesses
-- every VO: user codes belong to none yet.
SELECT count(*) FILTER (WHERE u.name = %(user)s::text) AS by_person,
       count(*) FILTER (WHERE g.address = %(address)s::text) AS by_address, count(*) AS by_all
  FROM identity.device_guess g JOIN identity.user_account u USING (user_id)
 WHERE g.guessed_at > now() - make_interval(secs => %(window_s)s::double precision);

-- name: insert_guess
-- every VO: user codes belong to none yet.
INSERT INTO identity.device_guess (user_id, address)
SELECT user_id, %(address)s::text FROM identity.user_account WHERE name = %(user)s::text;

-- name: find_waiting_device
-- every VO: the person who has the user code says in which VO it shall act.
SELECT client_id, scope, wanted_vo, wanted_group, address, user_agent, asked_at
  FROM identity.device_grant
 WHERE user_code_hash = %(user_code_hash)s::bytea AND state = 'waiting' AND expires_at > clock_timestamp()
   FOR UPDATE;

-- name: allow_device
UPDATE identity.device_grant
   SET state = 'allowed', user_id = %(user_id)s::integer, vo_id = %(vo_id)s::integer, group_id = %(group_id)s::integer,
       signed_in_by = %(signed_in_by)s::text, signed_in_at = %(signed_in_at)s::timestamptz
 WHERE user_code_hash = %(user_code_hash)s::bytea AND state = 'waiting';

-- name: deny_device
-- every VO: a program that waits belongs to none yet.
UPDATE identity.device_grant SET state = 'denied'
 WHERE user_code_hash = %(user_code_hash)s::bytea AND state = 'waiting';

-- name: lock_device
-- every VO: whoever holds the device code acts for the VO that its row names.
-- Half a second is forgiven: clocks and networks shift a poll by that much.
SELECT client_id, challenge, scope, state, expires_at <= clock_timestamp() AS expired,
       coalesce(polled_at > clock_timestamp() - make_interval(secs => interval_s - 0.5), false) AS too_soon,
       user_id, vo_id, group_id, signed_in_by, signed_in_at, session_id
  FROM identity.device_grant
 WHERE device_hash = %(device_hash)s::bytea
   FOR UPDATE;

-- name: mark_polled
-- every VO: the row was locked by its device code just before.
UPDATE identity.device_grant
   SET polled_at = clock_timestamp(), interval_s = interval_s + CASE WHEN %(too_soon)s::boolean THEN 5 ELSE 0 END
 WHERE device_hash = %(device_hash)s::bytea;

-- name: redeem_device
-- every VO: the row was locked by its device code just before.
UPDATE identity.device_grant SET state = 'redeemed', session_id = %(session_id)s::uuid
 WHERE device_hash = %(device_hash)s::bytea AND state = 'allowed';

-- name: delete_expired
-- every VO: what has expired serves nobody, whosever it was. A day longer it tells when it is used again.
WITH codes AS (DELETE FROM identity.authorization_code WHERE expires_at < now() - interval '1 day' RETURNING 1),
     devices AS (DELETE FROM identity.device_grant WHERE expires_at < now() - interval '1 day' RETURNING 1),
     guesses AS (DELETE FROM identity.device_guess WHERE guessed_at < now() - interval '1 day' RETURNING 1)
SELECT (SELECT count(*) FROM codes) + (SELECT count(*) FROM devices) + (SELECT count(*) FROM guesses);
