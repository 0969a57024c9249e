-- name: hold_key
-- Let requests of one key take turns, until the end of the transaction.
SELECT pg_advisory_xact_lock(7352, hashtext(concat_ws(' ', %(vo_id)s::integer, %(user_id)s::integer, %(key)s::text, %(path)s::text)));

-- name: find_answer
-- What this request was answered before.
SELECT body FROM requests.answer
WHERE vo_id = %(vo_id)s::integer AND user_id = %(user_id)s::integer AND key = %(key)s::text AND path = %(path)s::text;

-- name: keep_answer
-- Keep the answer of a request.
INSERT INTO requests.answer (vo_id, user_id, key, path, body)
VALUES (%(vo_id)s::integer, %(user_id)s::integer, %(key)s::text, %(path)s::text, %(body)s::bytea);

-- name: forget_answers
-- every VO: answers that nobody asks for any more.
DELETE FROM requests.answer WHERE answered_at < now() - %(kept_s)s::integer * interval '1 second';
