"""Providers, what they say about a person, and what came of it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from spinor.identity.models import LinkedName

DEFAULT_SCOPES = ("openid", "profile", "email")
DEFAULT_NAME_CLAIMS = ("preferred_username", "eduperson_principal_name", "name")
DEFAULT_ENTITLEMENTS = ("eduperson_entitlement", "entitlements", "wlcg.groups", "groups")
DEFAULT_RECHECK_S = 24 * 3600
DEFAULT_LAPSE_S = 90 * 24 * 3600


class Admission(StrEnum):
    """Whom a provider's login may bring in who has no account here."""

    RULES = "rules"  # Whom a membership rule fits.
    APPROVAL = "approval"  # The same, and others may ask the administrators of a VO.
    CLOSED = "closed"  # Nobody.


class MembershipRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What puts a person into a group here: one of an entitlement, a WLCG group, a group of the provider, a login."""

    vo: str
    group: str
    entitlement: str = ""
    wlcg_group: str = ""
    provider_group: str = ""
    anyone: bool = False


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenID provider as the operations data describe it."""

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret_file: str = ""  # Below <data>/secrets/providers; without one the client is public.
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    ca_file: str = ""
    hosts: list[str] = []  # Where its endpoints may be beside the issuer's own host.
    subject_claim: str = "sub"
    name_claims: tuple[str, ...] = DEFAULT_NAME_CLAIMS
    entitlements: tuple[str, ...] = DEFAULT_ENTITLEMENTS  # The claims to read them from.
    assurance: list[str] = []  # One of these values of eduperson_assurance is needed; empty: none is.
    registration: Admission = Admission.RULES
    registration_vos: list[str] = []  # Which VOs may be asked for; empty: every VO.
    exchange_clients: list[str] = []  # Whose access tokens may be exchanged for ours (`azp`).
    exchange_audiences: list[str] = []  # What they may be meant for beside us, that client and the provider.
    link_certificates: bool = False  # Whether `cert_entitlement` links certificates.
    recheck_s: int = DEFAULT_RECHECK_S
    lapse_s: int = DEFAULT_LAPSE_S  # So long a membership by its rules lasts that it has not confirmed.
    memberships: list[MembershipRule] = []

    @property
    def source(self) -> str:
        """Who gives the memberships that its rules give, and the way of signing in by it."""
        return f"provider:{self.name}"


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a provider says about a person that decides something here, as it says it."""

    entitlements: list[str] = []
    wlcg_groups: list[str] = []
    groups: list[str] = []
    assurance: list[str] = []


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """A person as a provider has just proven them. Nothing but issuer and subject says who they are."""

    provider: str
    issuer: str
    subject: str
    sub: str  # `sub` of the provider's tokens, which need not be the subject by which we know the person.
    full_name: str = ""
    email: str = ""  # Only one that the provider says it has verified.
    wanted_name: str = ""  # What their account is called when it is free.
    facts: Facts = Facts()
    certificates: list[LinkedName] = []
    refresh_token: str = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of somebody's login at a provider."""

    issuer: str
    subject: str
    sub: str
    provider: str
    user_id: int
    user: str
    full_name: str
    email: str
    facts: Facts
    checked_at: datetime
    refresh_sealed: bytes | None = None


class GivenMembership(msgspec.Struct, frozen=True, kw_only=True):
    """That a provider's rules put a user into a group."""

    user_id: int
    vo: str
    group: str
    vo_id: int = 0  # Known of those that the tables tell of.


class RegistrationState(StrEnum):
    WAITING = "waiting"  # -> approved, refused
    APPROVED = "approved"
    REFUSED = "refused"


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who asks to be let into a VO, as its administrators see them."""

    registration_id: int
    state: RegistrationState
    vo: str
    provider: str
    issuer: str
    subject: str
    full_name: str
    email: str
    message: str
    facts: Facts
    asked_at: datetime
    user: str | None = None
    group: str | None = None
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let these in. Without a group it is the VO's only one for everyday work."""

    ids: Annotated[list[int], Meta(max_length=1000)]
    group: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Do not let these in. The reason is shown to them."""

    ids: Annotated[list[int], Meta(max_length=1000)]
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A login or a certificate that is the user's."""

    issuer: str
    subject: str
    origin: str
    provider: str | None = None
    linked_at: datetime
    used_at: datetime | None = None


class WaySignedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What a session rests on."""

    signed_in_by: str
    user_id: int
    opened_at: datetime


class Event(StrEnum):
    """What is noted for ever about people and their logins."""

    ACCOUNT_MADE = "account-made"
    IDENTITY_LINKED = "identity-linked"
    IDENTITY_UNLINKED = "identity-unlinked"
    MEMBERSHIPS_CHANGED = "memberships-changed"
    REGISTRATION_ASKED = "registration-asked"
    REGISTRATION_APPROVED = "registration-approved"
    REGISTRATION_REFUSED = "registration-refused"


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """A line of that log: who did what to whom. Never a secret."""

    event: Event
    user_id: int | None = None
    vo_id: int | None = None
    actor: str
    address: str = ""
    facts: dict[str, Any] = {}


class HappeningRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of that log, as it is read."""

    happening_id: int
    happened_at: datetime
    event: Event
    user: str | None
    vo: str | None
    actor: str
    address: str
    facts: dict[str, Any]
