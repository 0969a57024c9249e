"""Users, groups and tokens, as the server, the client and the command line see them."""

from enum import StrEnum
from uuid import UUID

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


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of the token endpoint (RFC 6749 section 5.1); `expires_in` in seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str
    scope: str


class RefreshToken(msgspec.Struct, frozen=True, kw_only=True):
    """A stored refresh token, without the token: only its hash is known."""

    family_id: UUID
    vo_id: int
    user_id: int
    group_id: int
    state: "RefreshState"


class RefreshState(StrEnum):
    """Decided by the database's clock, which all servers share."""

    FRESH = "fresh"  # -> in_grace, by its first use
    IN_GRACE = "in_grace"  # -> spent, when the grace ends or its successor is used
    SPENT = "spent"  # Using it again revokes the family.
    EXPIRED = "expired"
    REVOKED = "revoked"


class WantedUser(msgspec.Struct, frozen=True, kw_only=True):
    """A user as the operations data want it. Without a subject one is made, and kept for ever."""

    name: str
    full_name: str = ""
    email: str = ""
    subject: UUID | None = None


class WantedGroup(msgspec.Struct, frozen=True, kw_only=True):
    vo: str
    name: str
    properties: list[str]
    members: list[str]
