"""Tokens that open storages and computing elements (WLCG Common JWT Profile 1.3): what one may ask for, and the token.

Each VO is an issuer of its own, `<url>/vo/<name>`, with the keys of the service. A token is for one service, says no
more than was asked for, and nothing that the rules of the VO do not give.
"""

import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

import msgspec
from joserfc import jws

from spinor.access import Caller, Scope
from spinor.db import Tx
from spinor.errors import BadInput, Denied
from spinor.http import State
from spinor.identity import service, store
from spinor.identity.keys import KeyRing
from spinor.identity.models import Issued, IssuedKind, Member, Origin, Tokens
from spinor.identity.oauth.capability_scopes import GROUPS, Capability, capability, is_allowed
from spinor.identity.oauth.registry import store as registry
from spinor.identity.oauth.registry.models import CapabilityRule, VOCapabilities
from spinor.settings import Settings

USUAL_LIFETIME_S = 3600
LONGEST_LIFETIME_S = 6 * 3600
SHORTEST_LIFETIME_S = 60
WLCG_VERSION = "1.0"
_BACKDATED_S = 60  # For a storage whose clock is behind ours.
_USUAL_RULES = [
    CapabilityRule(scopes=["storage.read:/"], properties=["normal_user"]),
    CapabilityRule(
        scopes=["compute.read", "compute.create", "compute.modify", "compute.cancel"],
        properties=["pilot_administrator"],
    ),
]


class BadCapability(BadInput):
    """This is no scope of a token for a storage or a computing element."""

    code = "bad-capability"
    oauth_error = "invalid_scope"


class CapabilityDenied(Denied):
    """The rules of the VO do not give this."""

    code = "capability-denied"
    oauth_error = "invalid_scope"


class AudienceRefused(Denied):
    """This is no storage or computing element of the VO."""

    code = "audience-refused"
    oauth_error = "invalid_target"


class WantedToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token for one service: its address as the VO's operations data have it, what for, and for how long."""

    audience: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
    scope: Annotated[str, msgspec.Meta(max_length=8192)]  # Space-separated: storage.read:/data compute.create …
    lifetime_s: Annotated[int, msgspec.Meta(ge=SHORTEST_LIFETIME_S, le=LONGEST_LIFETIME_S)] = USUAL_LIFETIME_S


class Minted(NamedTuple):
    token: str
    jti: str
    expires_at: datetime


def issuer_of(url: str, vo: str) -> str:
    """The issuer of a VO's tokens."""
    return f"{url}/vo/{vo}"


def mint(
    keys: KeyRing,
    url: str,
    vo: str,
    sub: str,
    scopes: Sequence[str],
    audience: str,
    lifetime_s: float = USUAL_LIFETIME_S,
    *,
    groups: Sequence[str] = (),
) -> Minted:
    """Sign a token; who may have it is the caller's to decide, and so is its line in the audit log.

    ValueError for what is no scope: a path with `..` in it ends an XRootD server (seen with 5.5 and 5.8).
    """
    written = [capability(scope).text for scope in scopes]
    now, jti, key = int(time.time()), secrets.token_urlsafe(16), keys.signer
    claims: dict[str, Any] = {
        "iss": issuer_of(url, vo),
        "sub": sub,
        "aud": audience,
        "iat": now,
        "nbf": now - _BACKDATED_S,
        "exp": now + int(lifetime_s),
        "jti": jti,
        "wlcg.ver": WLCG_VERSION,
    }
    claims |= {"scope": " ".join(written)} if written else {}
    claims |= {"wlcg.groups": list(groups)} if groups else {}
    header = {"alg": key.algorithm, "typ": "at+jwt", "kid": key.kid}
    token = jws.serialize_compact(header, msgspec.json.encode(claims), key.key, algorithms=[key.algorithm])
    return Minted(token, jti, datetime.fromtimestamp(claims["exp"], UTC))


async def give(
    tx: Tx, state: State, caller: Caller, wanted: WantedToken, *, client_id: str = "", origin: Origin | None = None
) -> Tokens:
    """A token for a member of a VO, and its line in the audit log."""
    caller.require(Scope.TOKENS_CREATE)
    rules_of_vo = await registry.find_capabilities(tx, caller.vo_id)
    if rules_of_vo is None or wanted.audience not in rules_of_vo.audiences:
        known = ", ".join(rules_of_vo.audiences) if rules_of_vo else ""
        raise AudienceRefused(f"{wanted.audience!r} is no service of VO {caller.vo!r}; there are: {known or 'none'}.")
    member = await service.member_of(tx, caller.vo_id, caller.user_id, caller.group_id)
    scopes, groups = granted(member, rules_of_vo, wanted.scope)
    minted = mint(
        state[KeyRing], state[Settings].url, caller.vo, str(member.subject), scopes, wanted.audience,
        wanted.lifetime_s, groups=groups,
    )  # fmt: skip
    await store.insert_issued(
        tx,
        Issued(
            kind=IssuedKind.STORAGE_TOKEN,
            vo_id=caller.vo_id,
            user_id=caller.user_id,
            session_id=caller.session_id,
            client_id=client_id,
            name=minted.jti,
            audience=[wanted.audience],
            scopes=[*scopes, *(f"{GROUPS}:{group}" for group in groups)],
            expires_at=minted.expires_at,
            address=origin.address if origin else "",
        ),
    )
    return Tokens(
        access_token=minted.token,
        token_type="Bearer",  # noqa: S106  The name of a kind, not a secret.
        expires_in=wanted.lifetime_s,
        scope=" ".join(scopes),
    )


def granted(member: Member, rules_of_vo: VOCapabilities, asked: str) -> tuple[list[str], list[str]]:
    """The scopes of a token as they are written, and its groups; BadCapability or CapabilityDenied."""
    allowed = allowed_to(member, rules_of_vo)
    scopes: list[str] = []
    groups: list[str] = []
    for text in dict.fromkeys(asked.split()):
        if text.partition(":")[0] == GROUPS:
            groups += [group for group in _groups(member, text) if group not in groups]
            continue
        try:
            wanted = capability(text)
        except ValueError as error:
            raise BadCapability(f"{text[:200]!r} {error}.", field="scope") from None
        if not is_allowed(wanted, allowed):
            known = " ".join(each.text for each in allowed) or "nothing"
            role = f"{member.vo}/{member.group}"
            raise CapabilityDenied(f"{wanted.text!r} is not given to {role}; what is given: {known}.")
        if wanted.text not in scopes:
            scopes.append(wanted.text)
    if not scopes and not groups:
        raise BadCapability("The scope is empty; say what the token is for, for example storage.read:/", field="scope")
    return scopes, groups


def allowed_to(member: Member, rules_of_vo: VOCapabilities) -> list[Capability]:
    """All that a member may ask for."""
    found: dict[Capability, None] = {}
    for rule in rules_of_vo.rules or _USUAL_RULES:
        if member.group in rule.groups or not set(rule.properties).isdisjoint(member.properties):
            own = quote(member.user, safe="")
            found |= dict.fromkeys(capability(scope.replace("{user}", own)) for scope in rule.scopes)
    return list(found)


def _groups(member: Member, text: str) -> list[str]:
    """`wlcg.groups` stands for the VO; a group of it is an optional one, and given only to who acts in it."""
    _, colon, path = text.partition(":")
    usual, optional = f"/{member.vo}", f"/{member.vo}/{member.group}"
    if not colon or path == usual:
        return [usual]
    if path != optional:
        raise CapabilityDenied(f"You act in the group {optional} and in no other one; {path[:200]!r} is not given.")
    return [optional]
