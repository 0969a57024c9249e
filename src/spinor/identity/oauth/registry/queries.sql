-- name: find_client
-- every VO: a client says who it is before anything else is known.
SELECT client_id, name, kind, grants, redirect_uris, secret_file, jwks, acts_as, scopes, exchange_from, introspect
  FROM identity.client
 WHERE client_id = %(client_id)s::text AND retired_at IS NULL;

-- name: merge_clients
-- every VO: the operations data describe all of them.
INSERT INTO identity.client AS c (client_id, name, kind, grants, redirect_uris, secret_file, jwks, acts_as, scopes,
                                  exchange_from, introspect)
SELECT w.client_id, w.name, w.kind, w.grants, w.redirect_uris, w.secret_file, w.jwks, w.acts_as, w.scopes,
       w.exchange_from, w.introspect
  FROM jsonb_to_recordset(%(clients)s::jsonb)
       AS w (client_id text, name text, kind text, grants text[], redirect_uris text[], secret_file text, jwks jsonb,
             acts_as jsonb, scopes text[], exchange_from text[], introspect boolean)
    ON CONFLICT (client_id) DO UPDATE
   SET name = EXCLUDED.name, kind = EXCLUDED.kind, grants = EXCLUDED.grants, redirect_uris = EXCLUDED.redirect_uris,
       secret_file = EXCLUDED.secret_file, jwks = EXCLUDED.jwks, acts_as = EXCLUDED.acts_as, scopes = EXCLUDED.scopes,
       exchange_from = EXCLUDED.exchange_from, introspect = EXCLUDED.introspect, retired_at = NULL;

-- name: retire_clients
-- every VO: the operations data describe all of them. What a client got ends with it.
WITH retired AS (
    UPDATE identity.client SET retired_at = now()
     WHERE retired_at IS NULL AND client_id <> ALL (%(client_ids)s::text[])
    RETURNING client_id)
UPDATE identity.session s SET ended_at = now(), ended_by = 'client'
  FROM retired r WHERE s.client_id = r.client_id AND s.ended_at IS NULL AND s.expires_at > now();

-- name: merge_capabilities
-- every VO: the operations data describe all of them.
INSERT INTO identity.capability AS c (vo_id, audiences, rules)
SELECT v.vo_id, w.audiences, w.rules
  FROM jsonb_to_recordset(%(capabilities)s::jsonb) AS w (vo text, audiences text[], rules jsonb)
  JOIN identity.vo v ON v.name = w.vo
    ON CONFLICT (vo_id) DO UPDATE SET audiences = EXCLUDED.audiences, rules = EXCLUDED.rules;

-- name: find_capabilities
SELECT v.name AS vo, c.audiences, c.rules
  FROM identity.capability c JOIN identity.vo v USING (vo_id)
 WHERE c.vo_id = %(vo_id)s::integer AND v.retired_at IS NULL;
