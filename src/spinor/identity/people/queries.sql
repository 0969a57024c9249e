-- name: list_sessions_of_ids
-- every VO: the caller's rights on each of them are looked at afterwards.
SELECT session_id, vo_id, user_id, ended_at IS NOT NULL OR expires_at <= now() AS over
  FROM identity.session WHERE session_id = ANY (%(session_ids)s::uuid[]);

-- name: list_other_sessions
-- every VO: a user may see all sessions that are their own.
SELECT session_id FROM identity.session
 WHERE user_id = %(user_id)s::integer AND ended_at IS NULL AND expires_at > now()
   AND session_id IS DISTINCT FROM %(session_id)s::uuid;

-- name: end_sessions
-- every VO: the caller's rights on each of them were looked at before.
UPDATE identity.session SET ended_at = now(), ended_by = %(ended_by)s::text
 WHERE session_id = ANY (%(session_ids)s::uuid[]) AND ended_at IS NULL
RETURNING session_id;

-- name: find_users
-- Users by name, and whether they are members of the VO.
SELECT u.user_id, u.name AS "user",
       EXISTS (SELECT FROM identity.membership m JOIN identity.vo_group g USING (group_id)
                WHERE m.user_id = u.user_id AND g.vo_id = %(vo_id)s::integer) AS member
  FROM identity.user_account u WHERE u.name = ANY (%(users)s::text[]);

-- name: insert_suspensions
-- every VO: without a VO it holds in all of them; the caller's right to that was looked at before.
INSERT INTO identity.suspension (user_id, vo_id, reason, suspended_by, ends_at)
SELECT w.user_id, %(vo_id)s::integer, %(reason)s::text, %(by)s::text, %(ends_at)s::timestamptz
  FROM unnest(%(user_ids)s::integer[]) AS w (user_id);

-- name: end_sessions_of_users
-- every VO: without a VO those of all of them.
UPDATE identity.session SET ended_at = now(), ended_by = 'suspension'
 WHERE user_id = ANY (%(user_ids)s::integer[]) AND ended_at IS NULL
   AND (%(vo_id)s::integer IS NULL OR vo_id = %(vo_id)s::integer);

-- name: delete_browser_sessions_of_users
-- every VO: a browser has not chosen a VO.
DELETE FROM identity.browser_session WHERE user_id = ANY (%(user_ids)s::integer[]);

-- name: lift_suspensions
-- every VO: without a VO the bans, which hold in all of them.
UPDATE identity.suspension SET lifted_at = now(), lifted_by = %(by)s::text
 WHERE user_id = ANY (%(user_ids)s::integer[]) AND vo_id IS NOT DISTINCT FROM %(vo_id)s::integer
   AND lifted_at IS NULL AND (ends_at IS NULL OR ends_at > now())
RETURNING user_id;
