-- name: lock_revisions
-- every VO: the operations data describe all of them.
SELECT pg_advisory_xact_lock(hashtextextended('spinor.configuration', 0));

-- name: newest_revision
-- every VO: the operations data describe all of them.
SELECT revision, document, author, comment, applied_at FROM configuration.revision ORDER BY revision DESC LIMIT 1;

-- name: find_revision
-- every VO: the operations data describe all of them.
SELECT revision, document, author, comment, applied_at FROM configuration.revision WHERE revision = %(revision)s::bigint;

-- name: list_revisions
-- every VO: the operations data describe all of them.
SELECT revision, author, comment, applied_at
  FROM configuration.revision
 WHERE revision < coalesce(%(before)s::bigint, 9223372036854775807)
 ORDER BY revision DESC
 LIMIT %(limit)s::integer;

-- name: insert_revision
-- every VO: the operations data describe all of them.
INSERT INTO configuration.revision (document, author, comment)
VALUES (%(document)s::text, %(author)s::text, %(comment)s::text)
RETURNING revision;

-- name: store_work_rules
-- every VO: the operations data describe all of them.
INSERT INTO configuration.work_rules (rules) VALUES (%(rules)s::jsonb)
ON CONFLICT (only_row) DO UPDATE SET rules = excluded.rules;

-- name: find_work_rules
-- every VO: the operations data describe all of them.
SELECT rules FROM configuration.work_rules;

-- name: find_revision_of_work_rules
-- every VO: the operations data describe all of them.
SELECT (rules ->> 'revision')::bigint FROM configuration.work_rules;

-- name: sync_sandbox_limits
-- every VO: the operations data describe all of them. A VO that was retired keeps its limits.
INSERT INTO configuration.sandbox_limits (vo_id, limit_bytes, quota_bytes, user_quota_bytes)
SELECT v.vo_id, given.limit_bytes, given.quota_bytes, given.user_quota_bytes
  FROM unnest(%(vos)s::text[], %(limits)s::bigint[], %(quotas)s::bigint[], %(user_quotas)s::bigint[])
       AS given (vo, limit_bytes, quota_bytes, user_quota_bytes)
  JOIN identity.vo v ON v.name = given.vo
    ON CONFLICT (vo_id) DO UPDATE SET limit_bytes = excluded.limit_bytes, quota_bytes = excluded.quota_bytes,
       user_quota_bytes = excluded.user_quota_bytes;

-- name: find_sandbox_limits
SELECT limit_bytes, quota_bytes, user_quota_bytes
  FROM configuration.sandbox_limits WHERE vo_id = %(vo_id)s::integer;
