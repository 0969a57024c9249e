-- Spinor's tables: the readable truth. `migrations/` builds exactly this, and a test proves it.
-- One PostgreSQL schema per system. Every row that a VO owns carries its vo_id. Times are timestamptz, sizes are bytes.

CREATE SCHEMA identity;
CREATE SCHEMA resources;
CREATE SCHEMA configuration;
CREATE SCHEMA catalog;
CREATE SCHEMA jobs;
CREATE SCHEMA pilots;
CREATE SCHEMA requests;

---------------------------------------------------------------------------------------------------- identity
-- VOs, groups and clients mirror the newest configuration.revision; users and memberships come from there and from the
-- providers at which people sign in. They give the rows of other systems something to refer to. Nothing is deleted from
-- them: what leaves is retired.

CREATE TABLE identity.vo (
    vo_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL CONSTRAINT vo_name_unique UNIQUE,
    retired_at  timestamptz
);

CREATE TABLE identity.vo_group (
    group_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    name        text COLLATE "C" NOT NULL,
    properties  text[] NOT NULL DEFAULT '{}',   -- Each property stands for scopes: spinor/access.py.
    retired_at  timestamptz,
    CONSTRAINT vo_group_name_unique UNIQUE (vo_id, name)
);

CREATE TYPE identity.origin AS ENUM (
    'configuration',    -- the operations data name them: retired when these no longer do
    'registration'      -- signed in at a provider, and was let in by a rule or by an administrator
);

CREATE TABLE identity.user_account (
    user_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL CONSTRAINT user_account_name_unique UNIQUE,
    subject     uuid NOT NULL DEFAULT gen_random_uuid() CONSTRAINT user_account_subject_unique UNIQUE,  -- `sub` of tokens.
    full_name   text NOT NULL DEFAULT '',
    email       text NOT NULL DEFAULT '',
    origin      identity.origin NOT NULL DEFAULT 'configuration',
    retired_at  timestamptz
);

CREATE TABLE identity.membership (
    user_id     integer NOT NULL REFERENCES identity.user_account,
    group_id    integer NOT NULL REFERENCES identity.vo_group,
    -- Who says so: 'configuration', 'approval', or 'provider:<name>'. The row goes when nobody says so any more.
    sources     text[] NOT NULL DEFAULT '{configuration}' CHECK (cardinality(sources) > 0),
    PRIMARY KEY (user_id, group_id)
);

-- Who a person is elsewhere: the issuer and subject of an OpenID provider's tokens, or the names of a certificate and of
-- its authority as grid tools write them (/DC=org/…). Never an e-mail address.
CREATE TABLE identity.linked_identity (
    issuer      text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    origin      identity.origin NOT NULL,
    linked_at   timestamptz NOT NULL DEFAULT now(),
    used_at     timestamptz,
    CONSTRAINT linked_identity_pk PRIMARY KEY (issuer, subject)
);
CREATE INDEX linked_identity_user ON identity.linked_identity (user_id);

-- While a row stands here that is not lifted and not over, its user cannot sign in, and no token of theirs is taken.
CREATE TABLE identity.suspension (
    suspension_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    vo_id       integer REFERENCES identity.vo,                 -- NULL: in every VO (a ban).
    reason      text NOT NULL,
    suspended_by text NOT NULL,
    suspended_at timestamptz NOT NULL DEFAULT now(),
    ends_at     timestamptz,                                    -- NULL: until it is lifted.
    lifted_by   text,
    lifted_at   timestamptz
);
CREATE INDEX suspension_user ON identity.suspension (user_id) WHERE lifted_at IS NULL;

CREATE FUNCTION identity.is_suspended(of_user integer, in_vo integer) RETURNS boolean LANGUAGE sql STABLE RETURN EXISTS (
    SELECT FROM identity.suspension s
     WHERE s.user_id = of_user AND (s.vo_id IS NULL OR s.vo_id = in_vo)
       AND s.lifted_at IS NULL AND (s.ends_at IS NULL OR s.ends_at > clock_timestamp()));

CREATE TYPE identity.session_kind AS ENUM (
    'person',   -- a sign-in, with refresh tokens
    'service'   -- a client that acts as a robot user
);

-- One sign-in. Every token of it names it (`sid`), and none is taken any more once it has ended.
CREATE TABLE identity.session (
    session_id  uuid PRIMARY KEY,
    kind        identity.session_kind NOT NULL,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    group_id    integer NOT NULL REFERENCES identity.vo_group,
    client_id   text NOT NULL,
    signed_in_by text NOT NULL,                 -- 'development', 'provider:<name>', 'certificate', 'exchange:<issuer>' …
    scopes      text[],                         -- The most that its tokens may say; NULL: what the group gives.
    address     text NOT NULL DEFAULT '',       -- Where it was opened from.
    user_agent  text NOT NULL DEFAULT '',
    opened_at   timestamptz NOT NULL DEFAULT now(),
    used_at     timestamptz NOT NULL DEFAULT now(),   -- The last time that it gave a token.
    expires_at  timestamptz NOT NULL,
    ends_by     timestamptz,                    -- When what proved the user ends: no refresh goes beyond it.
    ended_at    timestamptz,
    ended_by    text                            -- 'user', 'administrator', 'reuse', 'suspension' …
);
CREATE INDEX session_of_user ON identity.session (user_id, opened_at);
CREATE INDEX session_expiry ON identity.session (expires_at);

-- Rotation: each use marks the row and makes a successor in the same session. A second use of a used token, outside a
-- short grace in which the same successor is given again, ends the session.
CREATE TABLE identity.refresh_token (
    token_hash  bytea PRIMARY KEY,              -- SHA-256; the token itself is never stored.
    session_id  uuid NOT NULL REFERENCES identity.session ON DELETE CASCADE,
    issued_at   timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz
);
CREATE INDEX refresh_token_session ON identity.refresh_token (session_id);

-- A person in a browser, known by a cookie.
CREATE TABLE identity.browser_session (
    cookie_hash bytea PRIMARY KEY,              -- SHA-256; the cookie itself is never stored.
    user_id     integer NOT NULL REFERENCES identity.user_account,
    signed_in_by text NOT NULL,
    signed_in_at timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE INDEX browser_session_user ON identity.browser_session (user_id);

-- What may be shown once: assertions and the like. A second one with the same hash is a replay.
CREATE TABLE identity.spent (
    hash        bytea PRIMARY KEY,
    expires_at  timestamptz NOT NULL
);

-- The audit log: every token, proxy and certificate that was issued, and every use of a delegated proxy.
CREATE TABLE identity.issued (
    issued_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issued_at   timestamptz NOT NULL DEFAULT now(),
    kind        text NOT NULL,                  -- identity.models.IssuedKind
    vo_id       integer REFERENCES identity.vo,
    user_id     integer REFERENCES identity.user_account,
    session_id  uuid,
    client_id   text NOT NULL DEFAULT '',
    name        text NOT NULL DEFAULT '',       -- `jti` of a token, serial number of a certificate.
    audience    text[] NOT NULL DEFAULT '{}',
    scopes      text[] NOT NULL DEFAULT '{}',
    expires_at  timestamptz,
    address     text NOT NULL DEFAULT '',
    facts       jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX issued_vo ON identity.issued (vo_id, issued_id);
CREATE INDEX issued_user ON identity.issued (user_id, issued_id);

-- oauth: codes, device grants, clients

-- A code that a browser carries from the consent page to the program that asked. Its row outlives its minute and its
-- use, so that a second use is seen.
CREATE TABLE identity.authorization_code (
    code_hash   bytea PRIMARY KEY,              -- SHA-256; the code itself is never stored.
    client_id   text NOT NULL,
    redirect_uri text NOT NULL,
    challenge   text NOT NULL,                  -- RFC 7636, S256.
    scope       text NOT NULL,                  -- As the program asked; empty: all that the group gives.
    nonce       text NOT NULL,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    group_id    integer NOT NULL REFERENCES identity.vo_group,
    browser_hash bytea NOT NULL,                -- The browser that got it; signed out there, the code is void.
    signed_in_by text NOT NULL,
    signed_in_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    session_id  uuid                            -- What it was exchanged for.
);

CREATE TYPE identity.device_state AS ENUM (
    'waiting',  -- for a person to decide
    'allowed',  -- waiting -> allowed
    'denied',   -- waiting -> denied
    'redeemed'  -- allowed -> redeemed, once
);

-- A program without a browser of its own (RFC 8628), which waits until its person has decided in a browser elsewhere.
CREATE TABLE identity.device_grant (
    device_hash bytea PRIMARY KEY,              -- SHA-256 of the device code.
    user_code_hash bytea NOT NULL CONSTRAINT device_grant_user_code_unique UNIQUE,
    client_id   text NOT NULL,
    challenge   text NOT NULL,                  -- Empty: the program sent none, and can send no verifier.
    scope       text NOT NULL,
    wanted_vo   text NOT NULL,
    wanted_group text NOT NULL,
    address     text NOT NULL,                  -- Where it was asked from, for the person who decides.
    user_agent  text NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,           -- Fixed when it is asked for; no poll moves it.
    interval_s  integer NOT NULL,               -- Grows by 5 each time that it is not kept to.
    polled_at   timestamptz,
    state       identity.device_state NOT NULL DEFAULT 'waiting',
    user_id     integer REFERENCES identity.user_account,
    vo_id       integer REFERENCES identity.vo,
    group_id    integer REFERENCES identity.vo_group,
    signed_in_by text,
    signed_in_at timestamptz,
    session_id  uuid,                           -- What it was exchanged for.
    CONSTRAINT device_grant_allowed CHECK (state IN ('waiting', 'denied') OR group_id IS NOT NULL),
    CONSTRAINT device_grant_redeemed CHECK ((state = 'redeemed') = (session_id IS NOT NULL))
);
CREATE INDEX device_grant_waiting ON identity.device_grant (expires_at) WHERE state = 'waiting';

-- User codes that were no code of a waiting program; too many of them, and no more are looked up for a while.
CREATE TABLE identity.device_guess (
    guessed_at  timestamptz NOT NULL DEFAULT now(),
    user_id     integer NOT NULL REFERENCES identity.user_account,
    address     text NOT NULL
);
CREATE INDEX device_guess_time ON identity.device_guess (guessed_at);

-- clients
-- Programs that the operations data register, beside those that are built in. A secret is never here.
CREATE TABLE identity.client (
    client_id   text COLLATE "C" PRIMARY KEY,
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('public', 'confidential', 'service')),
    grants      text[] NOT NULL,                -- As the token endpoint knows them.
    redirect_uris text[] NOT NULL DEFAULT '{}',
    secret_file text NOT NULL DEFAULT '',       -- A name below <data>/secrets/clients.
    jwks        jsonb NOT NULL DEFAULT '[]',    -- Public keys, for who signs instead of telling a secret.
    acts_as     jsonb,                          -- The user, VO and group of a service, by name.
    scopes      text[] NOT NULL DEFAULT '{}',   -- The most that a service gets; none: what the group gives.
    exchange_from text[] NOT NULL DEFAULT '{}', -- Issuers whose tokens the client may exchange.
    introspect  boolean NOT NULL DEFAULT false,
    retired_at  timestamptz
);

-- Which tokens for storages and computing elements the members of a VO may have.
CREATE TABLE identity.capability (
    vo_id       integer PRIMARY KEY REFERENCES identity.vo,
    audiences   text[] NOT NULL,                -- Services, as the `aud` of a token names them.
    rules       jsonb NOT NULL                  -- identity.oauth.registry.models.CapabilityRule
);

-- federation: sign-ins under way, registrations

-- The OpenID providers of the newest configuration.revision.
CREATE TABLE identity.provider (
    name        text COLLATE "C" PRIMARY KEY,
    issuer      text COLLATE "C" NOT NULL CONSTRAINT provider_issuer_unique UNIQUE,
    settings    jsonb NOT NULL                  -- identity.federation.models.Provider; no secret is in it.
);

-- What a provider said last about a person; memberships by its rules follow from that.
CREATE TABLE identity.provider_account (
    issuer      text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,
    provider    text COLLATE "C" NOT NULL,
    sub         text COLLATE "C" NOT NULL,      -- `sub` of its tokens, where the subject is another claim.
    facts       jsonb NOT NULL,                 -- identity.federation.models.Facts
    checked_at  timestamptz NOT NULL DEFAULT now(),
    asking_at   timestamptz,                    -- Somebody is asking the provider again since then.
    refresh_sealed bytea,                       -- The provider's refresh token, sealed with a key outside the database.
    PRIMARY KEY (issuer, subject),
    FOREIGN KEY (issuer, subject) REFERENCES identity.linked_identity ON DELETE CASCADE
);
CREATE INDEX provider_account_provider ON identity.provider_account (provider);

-- A person whom a provider has proven, who has no account, and who may ask for one in this browser.
CREATE TABLE identity.newcomer (
    cookie_hash bytea PRIMARY KEY,              -- SHA-256; the cookie itself is never stored.
    visitor     jsonb NOT NULL,                 -- identity.federation.models.Visitor, without a refresh token.
    expires_at  timestamptz NOT NULL
);

CREATE TYPE identity.registration_state AS ENUM (
    'waiting',      -- -> approved, refused
    'approved',
    'refused'       -- The same person may ask again.
);

-- Somebody whom a provider has proven asks to be let into a VO.
CREATE TABLE identity.registration (
    registration_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    provider    text COLLATE "C" NOT NULL,
    issuer      text COLLATE "C" NOT NULL,
    subject     text COLLATE "C" NOT NULL,
    visitor     jsonb NOT NULL,                 -- identity.federation.models.Visitor, without a refresh token.
    message     text NOT NULL DEFAULT '',
    address     text NOT NULL DEFAULT '',
    state       identity.registration_state NOT NULL DEFAULT 'waiting',
    asked_at    timestamptz NOT NULL DEFAULT now(),
    user_id     integer REFERENCES identity.user_account,
    group_id    integer REFERENCES identity.vo_group,
    decided_by  text,
    decided_at  timestamptz,
    reason      text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX registration_waiting_unique ON identity.registration (vo_id, issuer, subject) WHERE state = 'waiting';
CREATE INDEX registration_of_vo ON identity.registration (vo_id, registration_id);
CREATE INDEX registration_of_person ON identity.registration (issuer, subject);
CREATE INDEX registration_address ON identity.registration (address, asked_at);

-- What happened to people and their logins, for ever: accounts made, logins linked, people let in.
CREATE TABLE identity.happening (
    happening_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    happened_at timestamptz NOT NULL DEFAULT now(),
    event       text NOT NULL,                  -- identity.federation.models.Event
    user_id     integer REFERENCES identity.user_account,
    vo_id       integer REFERENCES identity.vo,
    actor       text NOT NULL,                  -- A user, or 'provider:<name>'.
    address     text NOT NULL DEFAULT '',
    facts       jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX happening_user ON identity.happening (user_id, happening_id);
CREATE INDEX happening_vo ON identity.happening (vo_id, happening_id);

-- delegation: proxies, certificates of the online CA

-- Where the attributes of a VO come from, and which of its groups they stand for. Mirrors the operations data.
CREATE TABLE identity.voms (
    vo_id       integer PRIMARY KEY REFERENCES identity.vo,
    name        text NOT NULL,                  -- What the VO is called in VOMS.
    servers     jsonb NOT NULL,                 -- [{host, port, subject}]
    signs_itself boolean NOT NULL,              -- Whether our own attribute authority signs, for want of a server.
    groups      jsonb NOT NULL                  -- {FQAN: group}
);

-- Groups that a user was shown to be in by a VOMS server, in force for some days after that.
CREATE TABLE identity.voms_membership (
    user_id     integer NOT NULL REFERENCES identity.user_account,
    group_id    integer NOT NULL REFERENCES identity.vo_group,
    ends_at     timestamptz NOT NULL,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX voms_membership_end ON identity.voms_membership (ends_at);

-- A delegation under way: the key was made here, and its owner has yet to sign for it.
CREATE TABLE identity.proxy_request (
    key_id      uuid PRIMARY KEY,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    sealed_key  bytea NOT NULL,                 -- PKCS#8, sealed for this key_id and user_id.
    expires_at  timestamptz NOT NULL
);
CREATE INDEX proxy_request_user ON identity.proxy_request (user_id);

-- A proxy that somebody has delegated to us. Its key never was anywhere else.
CREATE TABLE identity.proxy (
    proxy_id    uuid PRIMARY KEY,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    vo_id       integer REFERENCES identity.vo, -- The only VO in which it may be used; NULL: in each of its owner's.
    subject_dn  text COLLATE "C" NOT NULL,      -- Of the end-entity certificate and of its authority.
    issuer_dn   text COLLATE "C" NOT NULL,
    chain       text NOT NULL,                  -- PEM, leaf first, without the trusted authority.
    key_id      uuid NOT NULL,                  -- proxy_request.key_id of the last delegation.
    sealed_key  bytea NOT NULL,
    is_limited  boolean NOT NULL,
    stored_at   timestamptz NOT NULL DEFAULT now(),
    renewed_at  timestamptz,
    expires_at  timestamptz NOT NULL,
    reminded_at timestamptz,                    -- When its owner was told that it ends soon.
    CONSTRAINT proxy_unique UNIQUE NULLS NOT DISTINCT (user_id, issuer_dn, subject_dn, vo_id)
);
CREATE INDEX proxy_expiry ON identity.proxy (expires_at);

-- The online CA of this service: whether it issues, which one it is, and its present revocation list. Its key is a file.
CREATE TABLE identity.online_ca (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    is_enabled  boolean NOT NULL DEFAULT false, -- These two mirror the operations data.
    longest_s   integer NOT NULL DEFAULT 43200,
    fingerprint bytea,                          -- SHA-256 of its certificate, once there is one.
    crl         bytea,
    crl_number  bigint NOT NULL DEFAULT 0,
    crl_signed_at timestamptz
);

-- What the online CA calls a person: made once, never given to anybody else, kept when the person leaves.
CREATE TABLE identity.online_ca_name (
    user_id     integer PRIMARY KEY REFERENCES identity.user_account,
    common_name text NOT NULL CONSTRAINT online_ca_name_unique UNIQUE
);

CREATE TABLE identity.certificate (
    serial      text PRIMARY KEY,               -- Hexadecimal.
    vo_id       integer NOT NULL REFERENCES identity.vo,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    issued_at   timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
CREATE INDEX certificate_expiry ON identity.certificate (expires_at);

---------------------------------------------------------------------------------------------------- resources

CREATE TABLE resources.site (
    site_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL CONSTRAINT site_name_unique UNIQUE,
    retired_at  timestamptz,
    max_pilots  integer CHECK (max_pilots >= 0),                -- Of all its elements and VOs together; NULL: no limit.
    administrators text[] NOT NULL DEFAULT '{}'                 -- Users who may change its status.
);

CREATE TABLE resources.computing_element (
    ce_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id     integer NOT NULL REFERENCES resources.site,
    name        text COLLATE "C" NOT NULL CONSTRAINT computing_element_name_unique UNIQUE,
    plugin      text NOT NULL,
    cores       integer NOT NULL CHECK (cores > 0),             -- What one pilot gets.
    memory_bytes bigint NOT NULL CHECK (memory_bytes > 0),
    wall_s      integer NOT NULL CHECK (wall_s > 0),
    max_pilots  integer NOT NULL CHECK (max_pilots >= 0),       -- Waiting and running together, all VOs.
    options     jsonb NOT NULL DEFAULT '{}',
    retired_at  timestamptz,
    max_waiting integer CHECK (max_waiting >= 0),               -- Not yet enrolled, all VOs; NULL: no limit.
    max_pilots_of_vos jsonb NOT NULL DEFAULT '{}',              -- VO -> the limit of all its pilots there.
    max_submissions_per_minute integer CHECK (max_submissions_per_minute > 0),
    added_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE resources.computing_access (
    ce_id       integer NOT NULL REFERENCES resources.computing_element,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    PRIMARY KEY (ce_id, vo_id)
);

CREATE TABLE resources.storage_element (
    se_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id     integer REFERENCES resources.site,
    name        text COLLATE "C" NOT NULL CONSTRAINT storage_element_name_unique UNIQUE,
    plugin      text NOT NULL,
    root        text NOT NULL,                  -- What PFNs are relative to: a directory, or a URL.
    read_only   boolean NOT NULL DEFAULT false,
    options     jsonb NOT NULL DEFAULT '{}',
    retired_at  timestamptz
);

CREATE TABLE resources.storage_access (
    se_id       integer NOT NULL REFERENCES resources.storage_element,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    PRIMARY KEY (se_id, vo_id)
);

-- An element without a row is active. Names, and not ids: what comes back into the operations data keeps its status.
CREATE TYPE resources.element_kind AS ENUM ('site', 'ce', 'se');
CREATE TYPE resources.status AS ENUM (          -- From the best to the worst: the order is used.
    'active',       -- degraded|draining -> active; probing -> active: by a successful probe
    'degraded',     -- active|draining -> degraded: in use, but after the others
    'probing',      -- any other -> probing: nothing but a probe goes there
    'draining',     -- active|degraded -> draining: no new pilots, and those that are there leave
    'banned'        -- active|degraded|probing|draining -> banned: the same, and back by a successful probe only
);                                              -- A storage element drains never, and people bring it back without a probe.

CREATE TABLE resources.element_status (
    kind        resources.element_kind NOT NULL,
    name        text COLLATE "C" NOT NULL,
    access      text NOT NULL DEFAULT '',                       -- To a storage element; empty for the others.
    status      resources.status NOT NULL DEFAULT 'active',
    reason      text NOT NULL DEFAULT '',
    actor       text NOT NULL DEFAULT '',
    since       timestamptz,
    until       timestamptz,                                    -- Then it ends by itself.
    failed_probes integer NOT NULL DEFAULT 0,                   -- In a row.
    probe_at    timestamptz,                                    -- When the next probe is due.
    PRIMARY KEY (kind, name, access),
    CHECK (CASE WHEN kind = 'se' THEN access IN ('read', 'write', 'check', 'remove') ELSE access = '' END)
);
CREATE INDEX element_status_until ON resources.element_status (until) WHERE until IS NOT NULL;

CREATE TABLE resources.fitness_policy (         -- One row: when nodes and elements are taken out of use by themselves.
    is_only     boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    policy      jsonb NOT NULL
);

CREATE TABLE resources.status_change (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT now(),
    kind        resources.element_kind NOT NULL,
    name        text COLLATE "C" NOT NULL,
    access      text NOT NULL DEFAULT '',
    old         resources.status NOT NULL,
    status      resources.status NOT NULL,
    reason      text NOT NULL,
    actor       text NOT NULL,
    until       timestamptz
);
CREATE INDEX status_change_of ON resources.status_change (kind, name, change_id);

-- What can have a status: sites, computing elements, and each kind of access to a storage element.
CREATE VIEW resources.place AS
SELECT 'site'::resources.element_kind AS kind, s.name, '' AS access, s.name AS site, s.administrators
  FROM resources.site s WHERE s.retired_at IS NULL
UNION ALL
SELECT 'ce', c.name, '', s.name, s.administrators
  FROM resources.computing_element c JOIN resources.site s USING (site_id) WHERE c.retired_at IS NULL
UNION ALL
SELECT 'se', e.name, a.access, coalesce(s.name, ''), coalesce(s.administrators, '{}')
  FROM resources.storage_element e LEFT JOIN resources.site s USING (site_id)
 CROSS JOIN unnest(ARRAY['read', 'write', 'check', 'remove']) AS a (access) WHERE e.retired_at IS NULL;

-- Storage elements with what holds for each kind of access that is not active.
CREATE VIEW resources.storage AS
SELECT e.se_id, e.name, s.name AS site, e.plugin, e.root, e.read_only, e.options, e.retired_at,
       coalesce((SELECT jsonb_object_agg(st.access, jsonb_build_object('status', st.status, 'reason', st.reason,
                                                                       'actor', st.actor, 'until', st.until))
                   FROM resources.element_status st
                  WHERE st.kind = 'se' AND st.name = e.name AND st.status <> 'active'), '{}') AS held
  FROM resources.storage_element e LEFT JOIN resources.site s USING (site_id);

---------------------------------------------------------------------------------------------------- configuration

CREATE TABLE configuration.revision (
    revision    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document    text NOT NULL,                  -- The YAML as it was applied.
    author      text NOT NULL,
    comment     text NOT NULL DEFAULT '',
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- Shares and limits of the newest revision, as the matcher reads them.
CREATE TABLE configuration.work_rules (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    rules       jsonb NOT NULL                  -- configuration.work.WorkRules
);

-- What the newest revision says of sandboxes. NULL: no quota.
CREATE TABLE configuration.sandbox_limits (
    vo_id       integer PRIMARY KEY REFERENCES identity.vo,
    limit_bytes bigint NOT NULL,
    quota_bytes bigint,
    user_quota_bytes bigint
);

---------------------------------------------------------------------------------------------------- catalog
-- Every writer of a directory's names first locks that directory's row (FOR NO KEY UPDATE, in directory_id order), so
-- that bulk COPY need not probe, counters stay exact, and no two writers deadlock. The rows of files carry no foreign
-- keys: that one locked path is what holds them together, and `spinor file fsck` proves it (ADR 6).

CREATE SEQUENCE catalog.file_id_blocks INCREMENT 1000;          -- One nextval reserves 1000 identifiers from its value up.

CREATE TYPE catalog.replica_status AS ENUM (
    'available',    -- registered|suspect|unavailable -> available
    'suspect',      -- available|unavailable -> suspect: doubtful, being looked at; read only when asked for
    'unavailable',  -- available|suspect -> unavailable: the storage element or an operator says it cannot be read now
    'removing'      -- any -> removing: the deletion from the storage is on its way
);

CREATE TYPE catalog.file_status AS ENUM (
    'available',    -- registered|suspect|unavailable -> available
    'suspect',      -- available|unavailable -> suspect
    'unavailable'   -- available|suspect -> unavailable: no job is given it
);

-- Who may do what. Rows are never changed and never deleted, and each combination stands here once, so that a million
-- files of one owner share one row, and a process may remember what it has read.
CREATE TABLE catalog.access (
    access_id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    owner_id    integer REFERENCES identity.user_account,       -- NULL: belongs to the VO (directories only).
    group_id    integer REFERENCES identity.vo_group,           -- NULL: every group of the VO.
    mode        smallint NOT NULL CHECK (mode BETWEEN 0 AND 4095),  -- POSIX bits; 493 = 0755.
    acl         text COLLATE "C" NOT NULL DEFAULT '',           -- With it the mode's group bits are its mask: catalog/rules.py.
    default_acl text COLLATE "C" NOT NULL DEFAULT '',           -- Of a directory: what new entries get.
    CONSTRAINT access_unique UNIQUE NULLS NOT DISTINCT (vo_id, owner_id, group_id, mode, acl, default_acl)
);

-- The different accesses on the way from the VO's top down to a directory. Who may pass all of them may pass the gate.
CREATE TABLE catalog.gate (
    gate_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    access_ids  integer[] NOT NULL,                             -- Ascending, each once.
    CONSTRAINT gate_unique UNIQUE (vo_id, access_ids)
);

CREATE TABLE catalog.directory (
    directory_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent_id   bigint REFERENCES catalog.directory,            -- NULL for the root of a VO.
    vo_id       integer NOT NULL REFERENCES identity.vo,
    access_id   integer NOT NULL REFERENCES catalog.access,
    gate_id     integer NOT NULL REFERENCES catalog.gate,       -- Of this directory and all above it.
    created_at  timestamptz NOT NULL DEFAULT now(),
    file_count  bigint NOT NULL DEFAULT 0 CONSTRAINT directory_files_positive CHECK (file_count >= 0),  -- Directly inside.
    size_bytes  bigint NOT NULL DEFAULT 0 CONSTRAINT directory_bytes_positive CHECK (size_bytes >= 0),
    annotated_files bigint NOT NULL DEFAULT 0                   -- Those of the files that have metadata of their own.
                CONSTRAINT directory_annotated_within CHECK (annotated_files BETWEEN 0 AND file_count),
    name        text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255 AND strpos(name, '/') = 0),
    path        text COLLATE "C" NOT NULL
                CHECK (octet_length(path) <= 4096 AND path LIKE '/%' AND path NOT LIKE '%/'),
    metadata    jsonb CHECK (metadata <> '{}'),                 -- Its own values.
    effective   jsonb CHECK (effective <> '{}'),                -- Its own over those of the directories above it.
    CONSTRAINT directory_name_unique UNIQUE NULLS NOT DISTINCT (parent_id, name),
    CHECK (parent_id IS NULL OR parent_id <> directory_id)
) WITH (fillfactor = 60);  -- Counters change often, and names no index: such a change stays on its page.
-- A path may be longer than a B-tree takes, so equality has a hash index, and order the beginning of the path.
CREATE INDEX directory_path ON catalog.directory USING hash (path);
CREATE INDEX directory_tree ON catalog.directory ("left"(path, 512));
CREATE INDEX directory_effective ON catalog.directory USING gin (effective jsonb_path_ops) WHERE effective IS NOT NULL;
CREATE INDEX directory_annotated ON catalog.directory ("left"(path, 512)) WHERE annotated_files > 0;

-- Whether a directory of this path lies below `top`; `top` itself does not. Inlined, and answered by directory_tree.
CREATE FUNCTION catalog.is_below(path text, top text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT "left"(path, 512) >= "left"(top || '/', 512) AND "left"(path, 512) <= "left"(top || '0', 512)
           AND starts_with(path, top || '/') $$;

CREATE FUNCTION catalog.is_within(path text, top text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT path = top OR catalog.is_below(path, top) $$;

-- Where a directory's files lie on a storage element. A replica without a PFN of its own is <location path>/<file name>,
-- so that a renamed directory keeps its bytes where they are.
CREATE TABLE catalog.directory_location (
    directory_id bigint NOT NULL,
    se_id       integer NOT NULL,
    path        text COLLATE "C" NOT NULL,                      -- Relative to the storage element's root.
    PRIMARY KEY (directory_id, se_id)
);
CREATE INDEX directory_location_path ON catalog.directory_location USING hash (path);

-- The elements of an array, without the one at a place.
CREATE FUNCTION catalog.without(a anyarray, place integer) RETURNS anyarray LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT a[:place - 1] || a[place + 1:] $$;

CREATE FUNCTION catalog.are_distinct(a integer[]) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT count(*) = count(DISTINCT e) FROM unnest(a) AS e);

-- One number per PFN, for an index: a PFN may be longer than an index takes.
CREATE FUNCTION catalog.pfn_keys(pfns text[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT array_agg(hashtextextended(pfn, 0)) FROM unnest(pfns) AS pfn WHERE pfn IS NOT NULL);

-- A file with all its replicas: one row, so that neither can be there without the other.
CREATE TABLE catalog.file (
    file_id     bigint NOT NULL CONSTRAINT file_id_unique UNIQUE,
    directory_id bigint NOT NULL,
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    guid        uuid NOT NULL,                                  -- UUID version 7 unless the writer gives one.
    created_at  timestamptz NOT NULL DEFAULT now(),
    adler32     integer,                                        -- Its 32 bits, as a signed number.
    access_id   integer NOT NULL,
    vo_id       integer NOT NULL,                               -- The directory's.
    name        text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 255 AND strpos(name, '/') = 0),
    se_ids      integer[] NOT NULL DEFAULT '{}',                -- The storage elements of its replicas.
    pfns        text[] COLLATE "C",                             -- By place in se_ids; NULL: by the directory's location.
    statuses    catalog.replica_status[],                       -- By place in se_ids; NULL: all are available.
    status      catalog.file_status,                            -- NULL: available.
    sha256      bytea CHECK (octet_length(sha256) = 32),
    metadata    jsonb CHECK (metadata <> '{}'),                 -- Its own values, over those of its directory.
    modified_at timestamptz,                                    -- The last change of anything but its replicas.
    replicas_at timestamptz,                                    -- The last change of its replicas.
    CONSTRAINT file_name_unique PRIMARY KEY (directory_id, name),
    CONSTRAINT file_guid_unique UNIQUE (guid, vo_id),
    CONSTRAINT file_replicas_distinct CHECK (cardinality(se_ids) < 2 OR catalog.are_distinct(se_ids)),
    CONSTRAINT file_pfns_aligned CHECK (pfns IS NULL OR cardinality(pfns) = cardinality(se_ids)),
    CONSTRAINT file_statuses_aligned CHECK (statuses IS NULL OR cardinality(statuses) = cardinality(se_ids))
);
CREATE INDEX file_metadata ON catalog.file USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;
CREATE INDEX file_pfns ON catalog.file USING gin (catalog.pfn_keys(pfns)) WHERE pfns IS NOT NULL;

-- Bytes and replicas of the files directly in a directory, per storage element and owner. Exact at every commit.
CREATE TABLE catalog.directory_usage (
    directory_id bigint NOT NULL,
    se_id       integer NOT NULL,
    owner_id    integer NOT NULL,
    vo_id       integer NOT NULL,
    files       bigint NOT NULL CONSTRAINT directory_usage_files_positive CHECK (files >= 0),
    size_bytes  bigint NOT NULL CONSTRAINT directory_usage_bytes_positive CHECK (size_bytes >= 0),
    PRIMARY KEY (directory_id, se_id, owner_id)
) WITH (fillfactor = 60);
CREATE INDEX directory_usage_of_se ON catalog.directory_usage (vo_id, se_id, directory_id);
CREATE INDEX directory_usage_of_owner ON catalog.directory_usage (vo_id, owner_id);

-- What may be used at most: by an owner, below a directory, on a storage element, or by a combination of these.
CREATE TABLE catalog.quota (
    quota_id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    owner_id    integer REFERENCES identity.user_account,
    directory_id bigint REFERENCES catalog.directory ON DELETE CASCADE,
    se_id       integer REFERENCES resources.storage_element,
    max_files   bigint CHECK (max_files >= 0),
    max_bytes   bigint CHECK (max_bytes >= 0),
    CONSTRAINT quota_unique UNIQUE NULLS NOT DISTINCT (vo_id, owner_id, directory_id, se_id),
    CHECK (owner_id IS NOT NULL OR directory_id IS NOT NULL OR se_id IS NOT NULL),
    CHECK (max_files IS NOT NULL OR max_bytes IS NOT NULL)
);

-- From which files a file was made.
CREATE TABLE catalog.file_ancestor (
    file_id     bigint NOT NULL,
    ancestor_id bigint NOT NULL,
    vo_id       integer NOT NULL,
    CONSTRAINT file_ancestor_unique PRIMARY KEY (file_id, ancestor_id),
    CONSTRAINT file_ancestor_other CHECK (file_id <> ancestor_id)
);
CREATE INDEX file_ancestor_descendants ON catalog.file_ancestor (ancestor_id);

-- Bytes to delete from a storage, recorded in the transaction that removed their replica; a chore does the deed. One row
-- holds up to a thousand names of one place.
CREATE TABLE catalog.removal (
    removal_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    se_id       integer NOT NULL REFERENCES resources.storage_element,
    path        text COLLATE "C" NOT NULL,                      -- The PFNs' directory, relative to the root.
    names       text[] COLLATE "C" NOT NULL CHECK (cardinality(names) BETWEEN 1 AND 1000),
    attempts    integer NOT NULL DEFAULT 0,
    not_before  timestamptz NOT NULL DEFAULT now(),
    error       text
);
CREATE INDEX removal_due ON catalog.removal (se_id, not_before);
CREATE INDEX removal_path ON catalog.removal USING hash (path);

CREATE TYPE catalog.metadata_type AS ENUM ('integer', 'float', 'text', 'boolean', 'timestamp');

CREATE TABLE catalog.metadata_key (
    vo_id       integer NOT NULL REFERENCES identity.vo,
    name        text COLLATE "C" NOT NULL,
    type        catalog.metadata_type NOT NULL,
    PRIMARY KEY (vo_id, name)
);

CREATE TYPE catalog.change_kind AS ENUM (
    'files-registered',     -- first_file_id to last_file_id, in this directory
    'replicas-added',       -- names; detail: se
    'replicas-removed',     -- names; detail: se
    'replicas-changed',     -- names; detail: status or place
    'files-removed',        -- names
    'files-moved',          -- names, out of this directory; detail: to
    'files-changed',        -- names; detail: what of status, access, checksums
    'metadata-changed',     -- names, or of the directory itself when there are none; detail: set, unset
    'directory-made',
    'directory-moved',      -- with all below it; detail: to
    'directory-removed',
    'directory-changed'     -- its access; detail: access
);

-- The change feed. A row speaks of one directory and many files. A reader's position is a snapshot: what follows are the
-- rows of transactions that it did not see. Rows are numbered while their directory is locked, so that the numbers of
-- one directory's rows have the order in which things happened, which those of the transactions need not have.
CREATE TABLE catalog.change (
    vo_id       integer NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    change_id   bigint GENERATED ALWAYS AS IDENTITY,
    at          timestamptz NOT NULL DEFAULT now(),
    directory_id bigint NOT NULL,
    gate_id     integer NOT NULL,                               -- The directory's then: who may pass it may see the row.
    access_id   integer NOT NULL,
    kind        catalog.change_kind NOT NULL,
    path        text COLLATE "C" NOT NULL,                      -- The directory's then.
    files       bigint NOT NULL DEFAULT 0,
    first_file_id bigint,
    last_file_id bigint,
    names       text[] COLLATE "C",
    detail      jsonb,
    PRIMARY KEY (vo_id, transaction, change_id)
);
CREATE INDEX change_at ON catalog.change USING brin (at);

CREATE TYPE catalog.dataset_state AS ENUM (
    'dynamic',      -- its files are those that its query finds now
    'frozen'        -- dynamic -> frozen: its files are those of its newest version, whatever happens; and back by release
);

CREATE TABLE catalog.dataset (
    dataset_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    access_id   integer NOT NULL REFERENCES catalog.access,
    name        text COLLATE "C" NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 1024),
    path        text COLLATE "C" NOT NULL,                      -- Where the query looks.
    query       text NOT NULL,
    state       catalog.dataset_state NOT NULL DEFAULT 'dynamic',
    version     integer NOT NULL DEFAULT 0,                     -- The newest snapshot's number; 0: there is none.
    annotation  text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    checked_at  timestamptz NOT NULL DEFAULT now(),
    files       bigint NOT NULL,                                -- As counted at checked_at.
    size_bytes  numeric NOT NULL,
    digest      bytea NOT NULL,                                 -- Of its LFNs, sizes and checksums then.
    CONSTRAINT dataset_name_unique UNIQUE (vo_id, name)
);

CREATE TABLE catalog.dataset_version (
    dataset_id  bigint NOT NULL REFERENCES catalog.dataset ON DELETE CASCADE,
    version     integer NOT NULL CHECK (version > 0),
    vo_id       integer NOT NULL,
    query       text NOT NULL,
    frozen_at   timestamptz NOT NULL DEFAULT now(),
    frozen_by   integer NOT NULL REFERENCES identity.user_account,
    annotation  text NOT NULL DEFAULT '',
    files       bigint NOT NULL,
    size_bytes  numeric NOT NULL,
    digest      bytea NOT NULL,
    PRIMARY KEY (dataset_id, version)
);

-- The files of a snapshot, as they were: one that is removed later stays named.
CREATE TABLE catalog.dataset_file (
    dataset_id  bigint NOT NULL,
    version     integer NOT NULL,
    file_id     bigint NOT NULL,
    vo_id       integer NOT NULL,
    size_bytes  bigint NOT NULL,
    adler32     integer,
    lfn         text COLLATE "C" NOT NULL,
    PRIMARY KEY (dataset_id, version, file_id),
    FOREIGN KEY (dataset_id, version) REFERENCES catalog.dataset_version ON DELETE CASCADE
);

CREATE TYPE catalog.operation_state AS ENUM (
    'waiting',      -- new|paused -> waiting: a worker will take it
    'running',      -- waiting -> running
    'paused',       -- waiting|running -> paused, by a person
    'cancelled',    -- waiting|running|paused -> cancelled, by a person: what was done stays done
    'done',         -- running -> done; refusals are told one by one
    'failed'        -- running -> failed: it cannot go on; the error says why
);

-- Massive work that a worker does in slices, each of them one transaction that also moves the cursor.
CREATE TABLE catalog.operation (
    operation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    user_id     integer NOT NULL REFERENCES identity.user_account,
    group_id    integer NOT NULL REFERENCES identity.vo_group,
    scopes      text[] NOT NULL,                                -- What the person might do when asking.
    kind        text NOT NULL,
    arguments   jsonb NOT NULL,
    state       catalog.operation_state NOT NULL DEFAULT 'waiting',
    cursor      jsonb NOT NULL DEFAULT '{}',
    total_files bigint NOT NULL DEFAULT 0,                      -- As the counters said when it was asked for.
    total_bytes numeric NOT NULL DEFAULT 0,
    total_directories bigint NOT NULL DEFAULT 0,
    done_files  bigint NOT NULL DEFAULT 0,
    done_bytes  numeric NOT NULL DEFAULT 0,
    done_directories bigint NOT NULL DEFAULT 0,
    refused     bigint NOT NULL DEFAULT 0,
    slices      bigint NOT NULL DEFAULT 0,
    error       text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    idempotency_key text,                                       -- The client's: asked twice, it is one operation.
    CONSTRAINT operation_idempotency UNIQUE (user_id, vo_id, idempotency_key)
);
CREATE INDEX operation_of_vo ON catalog.operation (vo_id, operation_id);
CREATE INDEX operation_open ON catalog.operation (operation_id) WHERE ended_at IS NULL;

-- What an operation could not do, up to ten thousand of each.
CREATE TABLE catalog.operation_refusal (
    operation_id bigint NOT NULL REFERENCES catalog.operation ON DELETE CASCADE,
    number      bigint NOT NULL,
    vo_id       integer NOT NULL,
    lfn         text COLLATE "C" NOT NULL,
    code        text NOT NULL,
    reason      text NOT NULL,
    PRIMARY KEY (operation_id, number)
);

---------------------------------------------------------------------------------------------------- jobs
-- The state of DIRAC's machine, in snake_case. jobs/rules.py holds the whole table of transitions; a change is a
-- compare-and-set that writes its history row in the same statement.

CREATE TYPE jobs.job_status AS ENUM (
    'submitting',   -- being put together by its client
    'received',     -- submitting -> received
    'checking',     -- received|scouting|staging|waiting|rescheduled -> checking: held, delayed, or after other jobs
    'scouting',     -- received|checking -> scouting
    'staging',      -- received|checking -> staging: input data on tape
    'waiting',      -- received|checking|staging|rescheduled -> waiting: in a task queue
    'matched',      -- waiting -> matched: given to a pilot
    'running',      -- matched|stalled -> running: the payload was started
    'stalled',      -- matched|running|completing -> stalled: the lease ran out
    'completing',   -- running -> completing: the payload ended well, outputs are on their way
    'completed',    -- completing -> completed: outputs wait for a request
    'done',         -- running|completing|completed -> done: outputs are registered
    'failed',       -- any state that is not final -> failed
    'killed',       -- any state that is not final -> killed
    'rescheduled',  -- failed|killed|done|stalled|matched|running|completing -> rescheduled, and on to waiting or checking
                    -- in the same transaction
    'deleted'       -- done|failed|killed -> deleted
);

-- Ids of jobs, given as ranges without a gap: an array's jobs are a range of the primary key, which is all that finds
-- them. The lock is held for the moment of counting only, not until the transaction ends.
CREATE SEQUENCE jobs.job_id;

CREATE FUNCTION jobs.take_ids(count bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
BEGIN
    PERFORM pg_advisory_lock(7351971);
    BEGIN
        first := nextval('jobs.job_id');
        PERFORM setval('jobs.job_id', first + count - 1);
    EXCEPTION WHEN OTHERS OR query_canceled THEN
        PERFORM pg_advisory_unlock(7351971);
        RAISE;
    END;
    PERFORM pg_advisory_unlock(7351971);
    RETURN first;
END $$;

-- One submission: one description for all its jobs. A single job is an array of one. The two tables that every
-- submission writes have no foreign keys, which would cost more than the rows: users, groups and VOs are retired and
-- never deleted, and `bench/chaos` counts what would dangle.
CREATE TABLE jobs.job_array (
    array_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL,
    owner_id    integer NOT NULL,
    group_id    integer NOT NULL,
    first_job_id bigint NOT NULL,                               -- Its jobs are first_job_id … first_job_id + size - 1.
    size        integer NOT NULL CHECK (size > 0),
    name        text NOT NULL,
    job_group   text NOT NULL DEFAULT '',                       -- The set that it belongs to.
    job_type    text NOT NULL DEFAULT 'user',
    spec        text NOT NULL,                                  -- jobs.models.JobSpec as JSON, without parameter values.
    submitted_at timestamptz NOT NULL DEFAULT now(),
    deadline_at timestamptz,
    retries     smallint[] NOT NULL,                            -- Allowed, by class: site, data, payload, memory, time.
    idempotency_key text
);
CREATE UNIQUE INDEX job_array_idempotency ON jobs.job_array (owner_id, vo_id, idempotency_key)
 WHERE idempotency_key IS NOT NULL;
CREATE INDEX job_array_of_group ON jobs.job_array (vo_id, job_group) WHERE job_group <> '';
CREATE INDEX job_array_by_deadline ON jobs.job_array (deadline_at) WHERE deadline_at IS NOT NULL;

-- The table of an array's parameters, stored once: 100 elements in a row, as a list of objects.
CREATE TABLE jobs.array_parameters (
    array_id    bigint NOT NULL,
    block       integer NOT NULL,                               -- Elements 100 * block … 100 * block + 99.
    vo_id       integer NOT NULL,
    elements    jsonb NOT NULL,
    PRIMARY KEY (array_id, block)
);

-- Jobs with equal requirements wait together. Rows are few; `digest` is over the requirements.
CREATE TABLE jobs.task_queue (
    task_queue_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    owner_id    integer NOT NULL REFERENCES identity.user_account,
    group_id    integer NOT NULL REFERENCES identity.vo_group,
    wants       jsonb NOT NULL,                                 -- jobs.models.Requirements
    digest      bytea NOT NULL CONSTRAINT task_queue_digest_unique UNIQUE
);
CREATE INDEX task_queue_of_vo ON jobs.task_queue (vo_id);

CREATE TABLE jobs.job (
    job_id      bigint PRIMARY KEY,
    array_id    bigint NOT NULL,
    vo_id       integer NOT NULL,
    owner_id    integer NOT NULL,
    group_id    integer NOT NULL,
    array_index integer NOT NULL,                               -- From 0.
    task_queue_id integer NOT NULL,
    status      jobs.job_status NOT NULL,
    priority    smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),   -- 9 goes first.
    attempt     integer NOT NULL DEFAULT 0,                     -- The fencing number: rises with each match.
    reschedules integer NOT NULL DEFAULT 0,
    ce_id       integer,                                        -- Of the attempt that is held or was the last; a job that
    site_id     integer,                                        -- waits again has none.
    pilot_id    bigint,                                         -- Of the newest attempt.
    exit_code   integer,
    submitted_at timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,                                    -- Of the newest attempt.
    ended_at    timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    cpu_s       double precision,
    wall_s      double precision,
    max_rss_bytes bigint,
    retried     smallint[],                                     -- Automatic retries by class: site, data, payload, memory, time.
    minor_status text NOT NULL DEFAULT '',
    application_status text NOT NULL DEFAULT ''
) WITH (fillfactor = 85);
-- No index names a column that changes while the job lives: every change of state stays a HOT update.
CREATE INDEX job_of_vo ON jobs.job (vo_id, job_id);
CREATE INDEX job_of_owner ON jobs.job (owner_id, job_id);

-- A job with the names around it, as lists and counts show it.
CREATE VIEW jobs.shown_job AS
SELECT j.*, a.size AS array_size, a.name, a.job_group, a.job_type, a.spec, u.name AS owner, g.name AS "group",
       s.name AS site, c.name AS computing_element
  FROM jobs.job j
  JOIN jobs.job_array a USING (array_id)
  JOIN identity.user_account u ON u.user_id = j.owner_id
  JOIN identity.vo_group g ON g.group_id = j.group_id
  LEFT JOIN resources.site s ON s.site_id = j.site_id
  LEFT JOIN resources.computing_element c ON c.ce_id = j.ce_id;

-- Queues are never deleted, and a foreign key would make every submission lock its queue's row.
CREATE TABLE jobs.waiting (
    task_queue_id integer NOT NULL,
    priority    smallint NOT NULL,                              -- 9 minus the job's, so that ascending order goes first.
    job_id      bigint NOT NULL,
    PRIMARY KEY (task_queue_id, priority, job_id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

-- The lease of a pilot on a job. No row: the pilot's report is stale and its payload must stop.
CREATE TABLE jobs.running (
    job_id      bigint PRIMARY KEY,
    vo_id       integer NOT NULL,
    attempt     integer NOT NULL,
    pilot_id    bigint NOT NULL,
    ce_id       integer NOT NULL,
    cores       smallint NOT NULL,                              -- Granted.
    matched_at  timestamptz NOT NULL DEFAULT now(),
    lease_expires_at timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX running_of_pilot ON jobs.running (pilot_id);

CREATE TABLE jobs.job_history (
    job_id      bigint NOT NULL,
    vo_id       integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt     integer NOT NULL,
    status      jobs.job_status NOT NULL,
    minor_status text NOT NULL DEFAULT '',
    source      text NOT NULL,                                  -- Who made the change: a user's name, pilot, lease, …
    reason      text NOT NULL DEFAULT ''
);                                                              -- The first line, of the submission, is the array's row.
CREATE INDEX job_history_of_job ON jobs.job_history (job_id, at);
CREATE INDEX job_history_time ON jobs.job_history USING brin (at) WITH (pages_per_range = 32, autosummarize = on);

-- How many jobs are in which state, exactly: what was folded, and the journal of changes since. Every statement that
-- changes a state writes its change here; one chore folds. Read all in one snapshot: jobs.tally_now.
-- Somebody's old snapshot keeps every row that was changed or deleted since. So the journal is read from where the last
-- fold left it, and the counters are written anew, as another edition, before too many old versions lie among them.
CREATE TABLE jobs.tally (
    edition     integer NOT NULL,
    task_queue_id integer NOT NULL,
    ce_id       integer NOT NULL,                               -- 0: none.
    status      jobs.job_status NOT NULL,
    jobs        bigint NOT NULL,
    cores       bigint NOT NULL,                                -- Granted.
    PRIMARY KEY (edition, status, task_queue_id, ce_id)
) WITH (fillfactor = 70);

-- Those of jobs that wait or are with a pilot. They are read several times a second, and most of them are soon nothing:
-- so they are written anew every few seconds.
CREATE TABLE jobs.tally_live (LIKE jobs.tally INCLUDING ALL) WITH (fillfactor = 70);

CREATE TABLE jobs.tally_change (
    task_queue_id integer NOT NULL,
    ce_id       integer NOT NULL,
    status      jobs.job_status NOT NULL,
    jobs        bigint NOT NULL,
    cores       bigint NOT NULL,
    xid         xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX tally_change_xid ON jobs.tally_change (xid);

CREATE TABLE jobs.tally_mark (
    only_one    boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    edition     integer NOT NULL,
    renewed_at  timestamptz NOT NULL,                           -- When this edition began.
    live_edition integer NOT NULL,
    live_renewed_at timestamptz NOT NULL,
    below       xid8 NOT NULL,                                  -- What transactions before this one changed is folded.
    rest_until  timestamptz NOT NULL                            -- Folding takes a tenth of the time at most.
);
INSERT INTO jobs.tally_mark (edition, renewed_at, live_edition, live_renewed_at, below, rest_until)
VALUES (1, now(), 1, now(), '0', '-infinity');

-- A database that was restored elsewhere counts its transactions anew: then all of the journal is read.
CREATE VIEW jobs.tally_bound AS
SELECT edition, live_edition, CASE WHEN below <= pg_snapshot_xmin(pg_current_snapshot()) THEN below ELSE '0' END AS below
  FROM jobs.tally_mark;

-- The addends of the counts, for those who add them up in another way. (Of a range the planner expects few rows, and so
-- takes the index.)
CREATE VIEW jobs.tally_part AS
SELECT task_queue_id, ce_id, status, jobs, cores FROM jobs.tally
 WHERE edition = (SELECT edition FROM jobs.tally_bound)
UNION ALL
SELECT task_queue_id, ce_id, status, jobs, cores FROM jobs.tally_live
 WHERE edition >= (SELECT live_edition FROM jobs.tally_bound) AND edition <= 2147483647
UNION ALL
SELECT task_queue_id, ce_id, status, jobs, cores FROM jobs.tally_change
 WHERE xid >= (SELECT below FROM jobs.tally_bound) AND xid <= '18446744073709551615';

CREATE VIEW jobs.tally_now AS
SELECT task_queue_id, ce_id, status, sum(jobs)::bigint AS jobs, sum(cores)::bigint AS cores
  FROM jobs.tally_part
 GROUP BY task_queue_id, ce_id, status
HAVING sum(jobs) <> 0;

-- The accounting record of each attempt, written once, when it ends.
CREATE TYPE jobs.error_class AS ENUM ('site', 'data', 'payload', 'memory', 'time');

CREATE TABLE jobs.ended_attempt (
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    vo_id       integer NOT NULL,
    owner_id    integer NOT NULL,
    group_id    integer NOT NULL,
    ce_id       integer,
    pilot_id    bigint,
    status      jobs.job_status NOT NULL,                       -- What the attempt ended as: done, failed, killed, stalled, rescheduled.
    error_class jobs.error_class,
    exit_code   integer,
    cores       smallint NOT NULL,
    matched_at  timestamptz NOT NULL,
    started_at  timestamptz,
    ended_at    timestamptz NOT NULL DEFAULT now(),
    cpu_s       double precision NOT NULL,
    wall_s      double precision NOT NULL,                      -- As the pilot measured it, else since the start.
    max_rss_bytes bigint,
    reported    boolean NOT NULL DEFAULT false,                 -- By its pilot.
    PRIMARY KEY (job_id, attempt)
);
CREATE INDEX ended_attempt_of_vo ON jobs.ended_attempt (vo_id, ended_at);
CREATE INDEX ended_attempt_of_site ON jobs.ended_attempt (ended_at) WHERE error_class = 'site';

-- What keeps jobs from waiting in a queue: a pause before a retry, and jobs that must have ended first.
CREATE TABLE jobs.delayed (
    job_id      bigint PRIMARY KEY,
    until       timestamptz NOT NULL
);
CREATE INDEX delayed_by_time ON jobs.delayed (until);

CREATE TYPE jobs.condition AS ENUM ('done', 'failed', 'ended');

CREATE TABLE jobs.dependency (
    array_id    bigint NOT NULL,                                -- This array waits …
    first_job_id bigint NOT NULL,                               -- … for these jobs,
    last_job_id bigint NOT NULL,
    condition   jobs.condition NOT NULL,
    each        boolean NOT NULL,                               -- element by element.
    vo_id       integer NOT NULL,
    open_from   bigint NOT NULL,                                -- Every job before this one has fulfilled it.
    fulfilled   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (array_id, first_job_id)
);
CREATE INDEX dependency_open ON jobs.dependency (array_id) WHERE NOT fulfilled;

-- Mails and webhooks, each sent at least once: a killed worker sends it again.
CREATE TABLE jobs.notification (
    notification_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL,
    array_id    bigint NOT NULL,
    condition   jobs.condition NOT NULL,
    email       text NOT NULL DEFAULT '',
    webhook     text NOT NULL DEFAULT '',
    due_at      timestamptz,                                    -- NULL: its condition has not come true yet.
    tries       integer NOT NULL DEFAULT 0,
    sent_at     timestamptz,
    error       text NOT NULL DEFAULT ''
);
CREATE INDEX notification_open ON jobs.notification (due_at) WHERE sent_at IS NULL;
CREATE INDEX notification_of_array ON jobs.notification (array_id);

-- When a server last answered pilots: no lease ends while nobody can renew it.
CREATE TABLE jobs.service_mark (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    marked_at   timestamptz NOT NULL,
    rest_until  timestamptz NOT NULL DEFAULT '-infinity'        -- From looking for leases that are over.
);

-- jobs: matching
-- What users have used in their groups, in core-seconds that are forgotten with their VO's half-life.
CREATE TABLE jobs.share_usage (
    vo_id       integer NOT NULL,
    group_id    integer NOT NULL,
    user_id     integer NOT NULL,
    core_s      double precision NOT NULL,                      -- As of counted_at.
    total_core_s double precision NOT NULL,                     -- Nothing forgotten.
    counted_at  timestamptz NOT NULL,
    PRIMARY KEY (vo_id, group_id, user_id)
) WITH (fillfactor = 50);

-- Until when what runs has been charged.
CREATE TABLE jobs.share_clock (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    charged_at  timestamptz NOT NULL
);

-- How many jobs have ever been started under a limit, by what it counts (user=ada,site=LYON). Whoever starts some locks
-- the row first.
CREATE TABLE jobs.limit_state (
    limit_name  text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    started     bigint NOT NULL DEFAULT 0,
    tokens      double precision,                               -- Of a burst; NULL: as many as it has.
    refilled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (limit_name, key)
) WITH (fillfactor = 50);

-- jobs: logs, sandboxes and usage

CREATE TYPE jobs.log_stream AS ENUM ('stdout', 'stderr');

-- Appended at its end only; `position` is the byte offset of `data`, which makes a repeated report harmless.
CREATE TABLE jobs.job_log (
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    stream      jobs.log_stream NOT NULL,
    position    bigint NOT NULL CHECK (position >= 0),
    vo_id       integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    data        bytea NOT NULL,
    PRIMARY KEY (job_id, attempt, stream, position)
);

-- Content-addressed: one row and one blob per owner and content.
CREATE TABLE jobs.sandbox (
    sandbox_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    owner_id    integer NOT NULL REFERENCES identity.user_account,
    sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT sandbox_unique UNIQUE (owner_id, vo_id, sha256)
);

CREATE TABLE jobs.array_sandbox (
    array_id    bigint NOT NULL,
    sandbox_id  bigint NOT NULL REFERENCES jobs.sandbox,
    PRIMARY KEY (array_id, sandbox_id)
);

CREATE TABLE jobs.output_sandbox (
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    vo_id       integer NOT NULL,
    sandbox_id  bigint NOT NULL REFERENCES jobs.sandbox,
    missing     text[] NOT NULL DEFAULT '{}',                   -- Asked for, and not found after the payload ended.
    PRIMARY KEY (job_id, attempt)
);

CREATE TABLE jobs.output_file (
    job_id      bigint NOT NULL,
    vo_id       integer NOT NULL,
    lfn         text COLLATE "C" NOT NULL,
    PRIMARY KEY (job_id, lfn)
);

-- Sandboxes on their way: each is counted against the quotas from its beginning. Its parts are blobs below uploads/<id>/.
CREATE TABLE jobs.upload (
    upload_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    vo_id       integer NOT NULL REFERENCES identity.vo,
    owner_id    integer NOT NULL REFERENCES identity.user_account,
    sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
    size_bytes  bigint NOT NULL CHECK (size_bytes > 0),
    ends        bigint[] NOT NULL DEFAULT '{}',                 -- Where the parts that came end.
    touched_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT upload_unique UNIQUE (owner_id, vo_id, sha256)
);
CREATE INDEX upload_of_vo ON jobs.upload (vo_id);

-- What the rows of jobs.sandbox take; changed by the statements that insert and delete them.
CREATE TABLE jobs.sandbox_use (
    vo_id       integer NOT NULL,
    owner_id    integer NOT NULL,
    used_bytes  bigint NOT NULL,
    PRIMARY KEY (vo_id, owner_id)
);

-- An output sandbox that was not taken: the attempt has none, and goes on.
CREATE TABLE jobs.refused_output (
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    vo_id       integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    code        text NOT NULL,
    detail      text NOT NULL,
    PRIMARY KEY (job_id, attempt)
);

-- The log of an attempt that has ended, moved here from jobs.job_log: compressed, in frames of 1 MiB each. Small ones lie
-- here, others in a blob.
CREATE TABLE jobs.kept_log (
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    stream      jobs.log_stream NOT NULL,
    vo_id       integer NOT NULL,
    kept_at     timestamptz NOT NULL DEFAULT now(),
    head_bytes  bigint NOT NULL,                                -- Kept of the beginning.
    tail_position bigint NOT NULL,                              -- Where the rest of what is kept begins in the stream.
    end_position bigint NOT NULL,
    frames      bigint[] NOT NULL,                              -- Where each compressed frame ends.
    last        bytea NOT NULL,                                 -- Its last 4 kB, for who explains.
    data        bytea,
    blob        text,
    PRIMARY KEY (job_id, attempt, stream),
    CONSTRAINT kept_log_place CHECK ((data IS NULL) <> (blob IS NULL))
);

-- What an attempt used, at most some 200 points however long it runs.
CREATE TABLE jobs.heartbeat (
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    slot_s      integer NOT NULL,                               -- The start of the span of wall time that the point is for.
    vo_id       integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    wall_s      real NOT NULL,
    cpu_s       real NOT NULL,
    rss_bytes   bigint NOT NULL,
    disk_bytes  bigint NOT NULL,
    read_bytes  bigint NOT NULL,
    written_bytes bigint NOT NULL,
    PRIMARY KEY (job_id, attempt, slot_s)
);
CREATE INDEX heartbeat_time ON jobs.heartbeat USING brin (at);

-- Somebody waits to see a file of a running job. A crash of the database may forget it.
CREATE UNLOGGED TABLE jobs.peek (
    peek_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL,
    job_id      bigint NOT NULL,
    attempt     integer NOT NULL,
    pilot_id    bigint NOT NULL,
    path        text NOT NULL,
    position    bigint,                                         -- NULL: the end of the file.
    size_bytes  integer NOT NULL,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    told_at     timestamptz,                                    -- When its pilot was asked last.
    answer      jsonb                                           -- jobs.models.PeekAnswer
);
CREATE INDEX peek_waiting ON jobs.peek (pilot_id) WHERE answer IS NULL;

---------------------------------------------------------------------------------------------------- pilots

CREATE TYPE pilots.pilot_status AS ENUM (
    'new',          -- the intent to submit it is recorded
    'submitted',    -- new -> submitted: the computing element has it
    'waiting',      -- submitted -> waiting: in the computing element's queue
    'running',      -- new|submitted|waiting -> running: it enrolled
    'done',         -- running -> done: it said good-bye, or its computing element says it ended well
    'failed',       -- running -> failed
    'aborted',      -- new|submitted|waiting|running -> aborted: it vanished, or was never accepted
    'deleted'       -- any state that is not final -> deleted: cancelled by an operator
);

CREATE TABLE pilots.pilot (
    pilot_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    ce_id       integer NOT NULL REFERENCES resources.computing_element,
    status      pilots.pilot_status NOT NULL DEFAULT 'new',
    external_id text,                                           -- What the computing element calls it.
    secret_hash bytea NOT NULL,                                 -- SHA-256 of the single-use enrolment secret.
    created_at  timestamptz NOT NULL DEFAULT now(),
    submitted_at timestamptz,
    enrolled_at timestamptz,                                    -- Set once: the secret is spent.
    last_seen_at timestamptz,
    ended_at    timestamptz,
    jobs_taken  integer NOT NULL DEFAULT 0,
    offer       jsonb,                                          -- What its slot has left, as it said last.
    offered_at  timestamptz,                                    -- When it last asked for jobs.
    hostname    text NOT NULL DEFAULT '',
    reason      text NOT NULL DEFAULT '',
    purpose     text NOT NULL DEFAULT 'work' CHECK (purpose IN ('work', 'probe')),
    node        jsonb,                                          -- What it found there: processor, limits, runtimes …
    hs23_per_core double precision,                             -- NULL: not measured.
    diagnosis   jsonb,                                          -- Why it found its node unfit.
    drain_reason text NOT NULL DEFAULT '',                      -- Why it is to take no more jobs, and leave.
    is_settled  boolean NOT NULL DEFAULT false                  -- It has ended, and its computing element says so too.
);
CREATE INDEX pilot_of_vo ON pilots.pilot (vo_id, pilot_id);
CREATE INDEX pilot_alive ON pilots.pilot (ce_id) WHERE ended_at IS NULL;
CREATE INDEX pilot_recent ON pilots.pilot (created_at);
CREATE INDEX pilot_unsettled ON pilots.pilot (ended_at) WHERE ended_at IS NOT NULL AND NOT is_settled;
CREATE INDEX pilot_of_host ON pilots.pilot (ce_id, hostname) WHERE ended_at IS NULL;

CREATE INDEX pilot_probes ON pilots.pilot (ce_id) WHERE purpose = 'probe' AND ended_at IS NULL;
CREATE INDEX pilot_unfit ON pilots.pilot (ce_id, ended_at) WHERE diagnosis IS NOT NULL;

-- How many pilots are in each state, exactly: `tally` and the changes that are not yet folded into it, read together
-- (`tally_now`). A trigger writes the changes, so that no statement can forget one.
CREATE TABLE pilots.tally (
    ce_id       integer NOT NULL,
    vo_id       integer NOT NULL,
    status      pilots.pilot_status NOT NULL,
    pilots      bigint NOT NULL,
    PRIMARY KEY (ce_id, vo_id, status)
);

CREATE TABLE pilots.tally_change (
    change_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ce_id       integer NOT NULL,
    vo_id       integer NOT NULL,
    status      pilots.pilot_status NOT NULL,
    pilots      integer NOT NULL
);

CREATE VIEW pilots.tally_now AS
SELECT ce_id, vo_id, status, sum(pilots)::bigint AS pilots
  FROM (SELECT ce_id, vo_id, status, pilots FROM pilots.tally
        UNION ALL
        SELECT ce_id, vo_id, status, pilots FROM pilots.tally_change) AS counted
 GROUP BY ce_id, vo_id, status;

CREATE FUNCTION pilots.count_change() RETURNS TRIGGER AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO pilots.tally_change (ce_id, vo_id, status, pilots) VALUES (OLD.ce_id, OLD.vo_id, OLD.status, -1);
    END IF;
    INSERT INTO pilots.tally_change (ce_id, vo_id, status, pilots) VALUES (NEW.ce_id, NEW.vo_id, NEW.status, 1);
    RETURN NULL;
END
$$ LANGUAGE plpgsql;
CREATE TRIGGER count_new AFTER INSERT ON pilots.pilot FOR EACH ROW EXECUTE FUNCTION pilots.count_change();
CREATE TRIGGER count_changed AFTER UPDATE OF status ON pilots.pilot
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION pilots.count_change();

CREATE TABLE pilots.trouble (                   -- Why the factory waits before it submits there again.
    ce_id       integer NOT NULL REFERENCES resources.computing_element,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    failures    integer NOT NULL,                               -- In a row, with no pilot that enrolled in between.
    reason      text NOT NULL,
    last_at     timestamptz NOT NULL DEFAULT now(),
    next_try_at timestamptz NOT NULL,
    PRIMARY KEY (ce_id, vo_id)
);

CREATE TABLE pilots.seen_offer (                -- What the last pilot that enrolled there had to offer.
    ce_id       integer PRIMARY KEY REFERENCES resources.computing_element,
    offer       jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE pilots.probe (                     -- One pilot and one job that show whether an element works.
    probe_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    vo_id       integer NOT NULL REFERENCES identity.vo,
    ce_id       integer NOT NULL REFERENCES resources.computing_element,
    actor       text NOT NULL,
    owner_id    integer,                                        -- Whose job it runs; NULL: it runs none.
    group_id    integer,
    decides_kind text,                                          -- What comes back into use when it succeeds.
    decides_name text,
    se          text NOT NULL,                                  -- Where its job leaves a file; empty: nowhere.
    timeout_s   integer NOT NULL,
    phase       text NOT NULL DEFAULT 'new' CHECK (phase IN ('new', 'submitting', 'following', 'ended')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz,
    succeeded   boolean,
    pilot_id    bigint,
    job_id      bigint,
    said        text,                                           -- What the element said of the pilot, last.
    running_at  timestamptz,                                    -- When it first said that the pilot runs.
    prelude     jsonb NOT NULL DEFAULT '[]',                    -- The steps before there was a pilot.
    steps       jsonb NOT NULL DEFAULT '[]',
    version     integer NOT NULL DEFAULT 0
);
CREATE INDEX probe_open ON pilots.probe (probe_id) WHERE ended_at IS NULL;
-- The service itself probes an element only once at a time.
CREATE UNIQUE INDEX probe_automatic ON pilots.probe (ce_id) WHERE ended_at IS NULL AND decides_kind IS NOT NULL;
CREATE INDEX probe_of_element ON pilots.probe (ce_id, created_at);
CREATE INDEX probe_of_pilot ON pilots.probe (pilot_id) WHERE pilot_id IS NOT NULL;

CREATE TABLE pilots.node_mask (                 -- Nodes whose pilots get no jobs, while their element is in use.
    ce_id       integer NOT NULL REFERENCES resources.computing_element,
    hostname    text COLLATE "C" NOT NULL,
    reason      text NOT NULL,
    actor       text NOT NULL,
    since       timestamptz NOT NULL DEFAULT now(),
    until       timestamptz NOT NULL,
    PRIMARY KEY (ce_id, hostname)
);

CREATE TABLE pilots.pilot_log (
    pilot_id    bigint NOT NULL REFERENCES pilots.pilot,
    position    bigint NOT NULL CHECK (position >= 0),
    vo_id       integer NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    data        bytea NOT NULL,
    PRIMARY KEY (pilot_id, position)
);

---------------------------------------------------------------------------------------------------- requests
-- What requests were answered that a client may send again, because its answer was lost; kept for a day.

CREATE TABLE requests.answer (
    vo_id       integer NOT NULL,
    user_id     integer NOT NULL,
    key         text NOT NULL,                                  -- The client's.
    path        text NOT NULL,
    body        bytea,                                          -- NULL: too large to be kept.
    answered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vo_id, user_id, key, path)
);
CREATE INDEX answer_age ON requests.answer (answered_at);

---------------------------------------------------------------------------------------------------- chores
-- Chores: Spinor's own background work. All but the tables ticks and failing belong to the task-queue library (PgQueuer
-- 1.6, ADR 0004) and are exactly what it would create under these names; a test compares. `statistics` and `schedules`
-- stay empty: the library wants to see them, but Spinor counts from `queue` and keeps its periods itself.
CREATE SCHEMA chores;


CREATE TYPE chores.queue_status AS ENUM ('queued', 'picked', 'successful', 'exception', 'canceled', 'deleted', 'failed');

CREATE TABLE chores.log (
    id bigint GENERATED BY DEFAULT AS IDENTITY NOT NULL PRIMARY KEY,
    created timestamp with time zone NOT NULL DEFAULT now(),
    job_id bigint NOT NULL,
    status chores.queue_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
);

CREATE TABLE chores.queue (
    id bigserial NOT NULL PRIMARY KEY,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone NOT NULL DEFAULT now(),
    updated timestamp with time zone NOT NULL DEFAULT now(),
    heartbeat timestamp with time zone NOT NULL DEFAULT now(),
    execute_after timestamp with time zone NOT NULL DEFAULT now(),
    status chores.queue_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer NOT NULL DEFAULT 0,
    slot bigint
);

CREATE TABLE chores.schedules (
    id bigserial NOT NULL PRIMARY KEY,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone NOT NULL DEFAULT now(),
    created timestamp with time zone NOT NULL DEFAULT now(),
    updated timestamp with time zone NOT NULL DEFAULT now(),
    next_run timestamp with time zone NOT NULL DEFAULT now(),
    last_run timestamp with time zone,
    status chores.queue_status DEFAULT 'queued'::chores.queue_status,
    UNIQUE (expression, entrypoint)
);

CREATE TABLE chores.statistics (
    id bigserial NOT NULL PRIMARY KEY,
    created timestamp with time zone NOT NULL DEFAULT date_trunc('sec'::text, now()),
    count bigint NOT NULL,
    priority integer NOT NULL,
    status chores.queue_status NOT NULL,
    entrypoint text NOT NULL
);

CREATE INDEX log_created ON chores.log USING btree (created);

CREATE INDEX log_job_id_status ON chores.log USING btree (job_id, created DESC);

CREATE INDEX log_not_aggregated ON chores.log USING btree ((1)) WHERE (NOT aggregated);

CREATE INDEX log_status ON chores.log USING btree (status);

CREATE INDEX queue_ep_ea_idx ON chores.queue USING btree (entrypoint, execute_after) WHERE (status = 'queued'::chores.queue_status);

CREATE INDEX queue_ep_prio_id_idx ON chores.queue USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::chores.queue_status);

CREATE INDEX queue_picked_heartbeat_idx ON chores.queue USING btree (heartbeat) WHERE (status = 'picked'::chores.queue_status);

CREATE UNIQUE INDEX queue_picked_slot_idx ON chores.queue USING btree (entrypoint, slot) WHERE ((status = 'picked'::chores.queue_status) AND (slot IS NOT NULL));

CREATE INDEX queue_priority_id_id1_idx ON chores.queue USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::chores.queue_status);

CREATE INDEX queue_queue_manager_id_idx ON chores.queue USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);

CREATE UNIQUE INDEX queue_unique_dedupe_key ON chores.queue USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::chores.queue_status, 'picked'::chores.queue_status])) AND (dedupe_key IS NOT NULL));

CREATE INDEX queue_updated_id_id1_idx ON chores.queue USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::chores.queue_status);

CREATE UNIQUE INDEX statistics_unique_count ON chores.statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);

CREATE FUNCTION chores.announce() RETURNS TRIGGER AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;

    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'spinor_chores',
            json_build_object(
                'channel', 'spinor_chores',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;

    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER announce
AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON chores.queue
EXECUTE FUNCTION chores.announce();

-- When each chore of a long period is due next, over all workers.
CREATE TABLE chores.ticks (
    name     text COLLATE "C" PRIMARY KEY,
    every_s  double precision NOT NULL,
    due_at   timestamptz NOT NULL
);

-- The chores of a short period whose last turn failed.
CREATE TABLE chores.failing (
    name       text COLLATE "C" PRIMARY KEY,
    since      timestamptz NOT NULL DEFAULT now(),
    failed_at  timestamptz NOT NULL DEFAULT now(),
    failures   integer NOT NULL DEFAULT 1,
    error      text NOT NULL
);
