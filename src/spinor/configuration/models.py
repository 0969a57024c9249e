"""The operations data as a tree of sections, and what the verbs about it answer.

The tree is also the published JSON Schema. A section's docstring is its description there.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from spinor.identity.federation.models import (
    DEFAULT_ENTITLEMENTS,
    DEFAULT_LAPSE_S,
    DEFAULT_NAME_CLAIMS,
    DEFAULT_RECHECK_S,
    DEFAULT_SCOPES,
    Admission,
)

NAME_PATTERN = "^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,62}$"
PROVIDER_PATTERN = "^[a-z0-9][a-z0-9-]{0,31}$"
VO_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"

Name: TypeAlias = Annotated[str, Meta(pattern=NAME_PATTERN)]
ProviderName: TypeAlias = Annotated[str, Meta(pattern=PROVIDER_PATTERN)]  # It is part of an address: /login/<name>.
VOName: TypeAlias = Annotated[str, Meta(pattern=VO_PATTERN)]  # It is a directory of the catalog too: /<vo>/...
Line: TypeAlias = Annotated[str, Meta(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
GrantName: TypeAlias = Literal[
    "authorization_code", "refresh_token", "device_code", "client_credentials", "token_exchange"
]
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Natural: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Share: TypeAlias = Annotated[float, Meta(gt=0, le=1_000_000_000)]
SizeText: TypeAlias = Annotated[str, Meta(description="Bytes, with a unit: 500MB, 4GB (10⁹), 4GiB (2³⁰).")]
DurationText: TypeAlias = Annotated[str, Meta(description="Time, with units: 90m, 12h, 1h30m, 2d.")]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the operations data."""


class GroupSection(Section, frozen=True):
    """A group of a VO: its members act with the scopes that its properties stand for."""

    properties: list[str]
    members: list[str] = []


class CapabilityRuleSection(Section, frozen=True):
    """Members of these groups, or of groups with these properties, may take these scopes to a storage or a computing
    element: storage.read:/path, storage.create:, storage.modify:, storage.stage:, storage.poll:, compute.read and so
    on. {user} in a path is the name of the user."""

    scopes: Annotated[list[str], Meta(min_length=1)]
    groups: list[str] = []
    properties: list[str] = []


class CapabilitiesSection(Section, frozen=True):
    """What tokens for storages and computing elements may say. Without rules, whoever has the property normal_user may
    read, and pilot_administrator may use computing elements. The audiences are beside those of the VO's own elements.
    """

    audiences: list[str] = []
    rules: list[CapabilityRuleSection] = []


class VOMSServerSection(Section, frozen=True):
    """A VOMS server; the subject is that of its certificate (/DC=org/…)."""

    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]{1,255}$")]
    port: Annotated[int, Meta(ge=1, le=65535)]
    subject: Annotated[str, Meta(pattern="^/.{1,1000}$")]


class VOMSSection(Section, frozen=True):
    """VOMS attributes of a VO. The name is that in VOMS, when it is another one. Each FQAN of `groups` stands for a
    group here: whoever shows it is in that group, and that group gets it. With `sign_here` and no servers, this service
    signs the attributes itself."""

    name: VOName | None = None
    servers: list[VOMSServerSection] = []
    sign_here: bool = False
    groups: dict[str, str] = {}


class SharesSection(Section, frozen=True):
    """How the computing time of a VO is divided among its groups, and that of a group among its users: by numbers, of
    which only the ratios count. Whoever is not named has 1. Use is forgotten with the half-life."""

    half_life: DurationText | Positive = "7d"
    groups: dict[Name, Share] = {}
    users: dict[Name, Share] = {}


class SandboxesSection(Section, frozen=True):
    """How large one sandbox may be, and what all sandboxes of the VO and of one user may take. Without a quota there is
    no bound."""

    limit: SizeText | Annotated[int, Meta(ge=1)] = "100MiB"
    quota: SizeText | Annotated[int, Meta(ge=1)] | None = None
    user_quota: SizeText | Annotated[int, Meta(ge=1)] | None = None


class VOSection(Section, frozen=True):
    """A virtual organisation: a tenant. What one VO owns, another can neither see nor touch."""

    groups: dict[Name, GroupSection] = {}
    capabilities: CapabilitiesSection = CapabilitiesSection()
    voms: VOMSSection = VOMSSection()
    shares: SharesSection = SharesSection()
    sandboxes: SandboxesSection = SandboxesSection()


class IdentitySection(Section, frozen=True):
    """Who a user is elsewhere: the issuer and `sub` of an OpenID provider, or the subjects of a CA and of a certificate
    as grid tools write them (/DC=org/…)."""

    issuer: Annotated[str, Meta(min_length=1, max_length=1024)]
    subject: Annotated[str, Meta(min_length=1, max_length=1024)]


class UserSection(Section, frozen=True):
    """A person. The subject is the `sub` of their tokens; without one it is made once and kept."""

    full_name: Line = ""
    email: Line = ""
    subject: UUID | None = None
    identities: list[IdentitySection] = []


class MembershipSection(Section, frozen=True):
    """What puts people of a provider into a group: one of an entitlement (AARC-G069, or a capability of G027), a group
    of the WLCG profile, a group as the provider names it, or that they signed in there at all."""

    vo: str
    group: str
    entitlement: str = ""
    wlcg_group: str = ""
    provider_group: str = ""
    anyone: bool = False


class IdentityProviderSection(Section, frozen=True):
    """An OpenID provider at which people sign in. Its issuer is an https address, as its discovery document has it."""

    title: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
    issuer: Annotated[str, Meta(min_length=1, max_length=1024)]
    client_id: Annotated[str, Meta(min_length=1, max_length=255)]
    client_secret_file: Annotated[
        str, Meta(description="A file of mode 0600 below <data>/secrets/providers; a public client has none.")
    ] = ""
    scopes: list[str] = msgspec.field(default_factory=lambda: list(DEFAULT_SCOPES))
    ca_file: str = ""
    hosts: list[str] = []
    subject_claim: str = "sub"
    name_claims: list[str] = msgspec.field(default_factory=lambda: list(DEFAULT_NAME_CLAIMS))
    entitlements: list[str] = msgspec.field(default_factory=lambda: list(DEFAULT_ENTITLEMENTS))
    assurance: list[str] = []
    registration: Admission = Admission.RULES
    registration_vos: list[str] = []
    exchange_clients: list[str] = []
    exchange_audiences: list[str] = []
    link_certificates: bool = False
    recheck: DurationText | Positive = DEFAULT_RECHECK_S
    lapse: DurationText | Positive = DEFAULT_LAPSE_S
    memberships: list[MembershipSection] = []


class ActsAsSection(Section, frozen=True):
    """The role of a service: a user, in a group of a VO."""

    user: str
    vo: str
    group: str


class ClientSection(Section, frozen=True):
    """A program that asks for tokens. The secret of one that has any is a file of mode 600 below secrets/clients of the
    service's data directory; or it has a key, and its public half stands here (jwks)."""

    name: Line
    kind: Literal["public", "confidential", "service"]
    grants: list[GrantName]
    redirect_uris: list[str] = []
    secret_file: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")] | None = None
    jwks: list[dict[str, Any]] = []
    acts_as: ActsAsSection | None = None
    scopes: list[str] = []
    exchange_from: list[str] = []
    introspect: bool = False


class ComputingElementSection(Section, frozen=True):
    """A way to machines. Cores, memory and wall time are what one pilot gets there. `max_pilots` counts the pilots of
    all VOs, `max_waiting` those of them that have not started yet, `max_pilots_of_vos` those of one VO."""

    plugin: str
    cores: Positive
    memory_bytes: SizeText | Annotated[int, Meta(ge=1)]
    wall_s: DurationText | Positive
    max_pilots: Natural
    vos: list[str] = []
    options: dict[str, Any] = {}
    max_waiting: Natural | None = None
    max_pilots_of_vos: dict[str, Natural] = {}
    max_submissions_per_minute: Positive | None = None


class StorageElementSection(Section, frozen=True):
    """A place for files. PFNs are relative to the root: a directory or a URL, as the plugin says."""

    plugin: str
    root: Annotated[str, Meta(min_length=1, max_length=4096)]
    read_only: bool = False
    vos: list[str] = []
    options: dict[str, Any] = {}


class SiteSection(Section, frozen=True):
    """A place that has machines, storage, or both. `max_pilots` is for all its computing elements together; its
    administrators may ban, drain and test it when their group has the property site_administrator."""

    computing_elements: dict[Name, ComputingElementSection] = {}
    storage_elements: dict[Name, StorageElementSection] = {}
    max_pilots: Natural | None = None
    administrators: list[str] = []


class BurstSection(Section, frozen=True):
    """At most so many starts at once; they are allowed again evenly over `per_s` seconds."""

    starts: Positive
    per_s: Annotated[float, Meta(gt=0, le=31_536_000)]


class LimitSection(Section, frozen=True):
    """How many jobs may run at once, or start in a time. `per` says of whom and where, each by name or `*`: a count of
    its own for each. Without it, all jobs are counted."""

    name: Name
    per: dict[Literal["user", "group", "vo", "site", "ce", "label"], Line] = {}
    running: Natural | None = None
    burst: BurstSection | None = None


class OnlineCASection(Section, frozen=True):
    """The authority of this service that gives short certificates to people who have none. The lifetime is the longest
    that one may have, up to 11 days."""

    enabled: bool = False
    lifetime: DurationText | Positive = "12h"


class FitnessSection(Section, frozen=True):
    """When nodes and computing elements are taken out of use by themselves. Within `window`, as many pilots as
    `pilots_of_node` that find their node unfit let it be masked for `mask`, and as many `nodes` as that, unfit or
    masked, let their element be probed. A node is masked as well when `black_hole_jobs` jobs failed there for reasons
    of the site, each within `black_hole_job`, all within `black_hole_window`. Where no job ended well for
    `probe_every` (0: never), a job of the service's own is sent; after so many of them as `probe_failures` that failed
    in a row, the element is degraded until one succeeds."""

    window: DurationText | Positive = "30m"
    pilots_of_node: Positive = 2
    nodes: Positive = 3
    mask: DurationText | Positive = "6h"
    black_hole_jobs: Positive = 5
    black_hole_job: DurationText | Positive = "30s"
    black_hole_window: DurationText | Positive = "5m"
    probe_every: DurationText | Annotated[int, Meta(ge=0, le=2**31 - 1)] = "6h"
    probe_failures: Positive = 2


class Document(Section, frozen=True):
    """The operations data of a Spinor service."""

    vos: dict[VOName, VOSection] = {}
    users: dict[Name, UserSection] = {}
    identity_providers: dict[ProviderName, IdentityProviderSection] = {}
    clients: dict[Name, ClientSection] = {}
    sites: dict[Name, SiteSection] = {}
    online_ca: OnlineCASection = OnlineCASection()
    shares: Annotated[
        dict[VOName, Share], Meta(description="How the VOs divide the pilots; who is not named has 1.")
    ] = {}
    limits: list[LimitSection] = []
    fitness: FitnessSection = FitnessSection()


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong in a document: where (`vos.astro.groups`), in which line from 1 up, and what."""

    path: str
    line: int
    message: str


class ChangeKind(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    kind: ChangeKind
    path: str
    old: Any = None
    new: Any = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document to be judged or applied. `base_revision` is the one that it was made from: when another has been
    applied since, it is refused."""

    document: str
    base_revision: int | None = None
    comment: Line = ""


class RollBack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    revision: int
    base_revision: int | None = None
    comment: Line = ""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What applying a document would do to the present revision (0: there is none yet)."""

    revision: int
    changes: list[Change]
    warnings: list[str]


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What applying did. When the document was in force already, the revision stays and `changes` is empty."""

    revision: int
    changes: list[Change]
    warnings: list[str]


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    valid: bool
    faults: list[Fault]


class SandboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one VO; None: no quota."""

    limit_bytes: int = 100 * 1024 * 1024
    quota_bytes: int | None = None
    user_quota_bytes: int | None = None


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    revision: int
    author: str
    comment: str
    applied_at: datetime


class FullRevision(msgspec.Struct, frozen=True, kw_only=True):
    revision: int
    author: str
    comment: str
    applied_at: datetime
    document: str
