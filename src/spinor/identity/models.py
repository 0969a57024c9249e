"""Users, groups and tokens, as the server, the client and the command line see them."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import msgspec

ACCESS_TOKEN_LIFETIME_S = 20 * 60
REFRESH_TOKEN_LIFETIME_S = 30 * 24 * 3600
REFRESH_GRACE_S = 30
DEVELOPMENT_GRANT = "urn:spinor:params:oauth:grant-type:development"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One user in one group of one VO; none of the three is retired."""

    vo_id: int
    vo: str
    user_id: int
    user: str
    subject: UUID
    full_name: str
    email: str
    group_id: int
    group: str
    properties: list[str]
    suspended: bool = False
    session_open: bool = True  # Whether the session of the token by which it was found is still open.


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request came from, for the list of sessions and the audit log."""

    address: str = ""
    user_agent: str = ""


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """A user whose identity is proven, and how: `development`, `provider:<name>`, `certificate`, `exchange:<iss>`."""

    user: str
    signed_in_by: str
    ends_by: datetime | None = None  # When the proof ends, as that of a proxy does; so does the session then.
    at_most: frozenset[str] | None = None  # The most scopes that this way of signing in gives.


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a sign-in asks for; empty means the usual."""

    vo: str = ""
    group: str = ""
    scope: str = ""  # Space-separated; less than the group gives, never more.


class SessionKind(StrEnum):
    PERSON = "person"
    SERVICE = "service"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in in one role: through which client, how, from where, and how far it goes."""

    member: Member
    client_id: str
    session_id: UUID = msgspec.field(default_factory=uuid4)
    kind: SessionKind = SessionKind.PERSON
    signed_in_by: str = ""
    origin: Origin = Origin()
    scopes: frozenset[str] | None = None  # The most that it will ever give, when it was narrowed.
    auth_time: float = 0  # When the person proved who they are, in seconds since 1970; 0 for a service.
    ends_by: datetime | None = None


class IssuedKind(StrEnum):
    """What the audit log knows."""

    ACCESS_TOKEN = "access_token"  # noqa: S105  A kind, not a secret.
    STORAGE_TOKEN = "storage_token"  # noqa: S105
    PILOT_TOKEN = "pilot_token"  # noqa: S105
    PAYLOAD_TOKEN = "payload_token"  # noqa: S105
    PROXY_STORED = "proxy_stored"
    PROXY = "proxy"
    CERTIFICATE = "certificate"


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A line for the audit log: what was issued to whom. Never the thing itself."""

    kind: IssuedKind
    vo_id: int | None = None
    user_id: int | None = None
    session_id: UUID | None = None
    client_id: str = ""
    name: str = ""
    audience: list[str] = []
    scopes: list[str] = []
    expires_at: datetime | None = None
    address: str = ""
    facts: dict[str, Any] = {}


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    vo: str
    group: str
    properties: list[str]


class WhoAmI(msgspec.Struct, frozen=True, kw_only=True):
    """The user behind a token, the role the token gives, and the roles the user could take instead."""

    user: str
    full_name: str
    vo: str
    group: str
    scopes: list[str]
    memberships: list[Membership]


class Tokens(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of the token endpoint (RFC 6749 section 5.1); `expires_in` in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    refresh_token: str = ""
    id_token: str = ""
    issued_token_type: str = ""


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """A stored refresh token, without the token: only its hash is known."""

    session_id: UUID
    vo_id: int
    user_id: int
    group_id: int
    client_id: str
    scopes: list[str] | None
    opened_at: float  # Seconds since 1970: when its person signed in.
    state: "RefreshState"


class TokenSession(msgspec.Struct, frozen=True, kw_only=True):
    """The session that a refresh token belongs to."""

    session_id: UUID
    client_id: str


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Who sits at a browser."""

    user: str
    full_name: str
    signed_in_by: str
    signed_in_at: datetime

    @property
    def proven(self) -> Proven:
        return Proven(user=self.user, signed_in_by=self.signed_in_by)


class RefreshState(StrEnum):
    """Decided by the database's clock, which all servers share."""

    FRESH = "fresh"  # -> in_grace, by its first use
    IN_GRACE = "in_grace"  # -> spent, when the grace ends or its successor is used
    SPENT = "spent"  # Using it again revokes the family.
    EXPIRED = "expired"
    REVOKED = "revoked"


class LinkedName(msgspec.Struct, frozen=True, kw_only=True):
    """Who a user is elsewhere: an OpenID provider's issuer and `sub`, or the names of a CA and of a certificate."""

    issuer: str
    subject: str


class WantedUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the operations data want it. Without a subject one is made, and kept for ever."""

    name: str
    full_name: str = ""
    email: str = ""
    subject: UUID | None = None
    identities: list[LinkedName] = []


class WantedGroup(msgspec.Struct, frozen=True, kw_only=True):
    vo: str
    name: str
    properties: list[str]
    members: list[str]
