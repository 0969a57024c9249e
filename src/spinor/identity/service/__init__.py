"""The verbs of identity."""

from spinor.identity.service.members import (
    UnknownMember,
    caller_for,
    caller_of_member,
    proven_by_identity,
    sync_members,
    who_am_i,
)
from spinor.identity.service.sessions import (
    GrantRefused,
    ScopeRefused,
    access_token_for,
    delete_expired,
    end_session,
    holds,
    mint_access_token,
    mint_pilot_token,
    open_session,
    refresh,
    revoke,
    sign_in,
    spend,
    tokens_for,
)

__all__ = [
    "GrantRefused",
    "ScopeRefused",
    "UnknownMember",
    "access_token_for",
    "caller_for",
    "caller_of_member",
    "delete_expired",
    "end_session",
    "holds",
    "mint_access_token",
    "mint_pilot_token",
    "open_session",
    "proven_by_identity",
    "refresh",
    "revoke",
    "sign_in",
    "spend",
    "sync_members",
    "tokens_for",
    "who_am_i",
]
