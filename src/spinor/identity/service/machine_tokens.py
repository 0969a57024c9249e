"""Tokens of those that act for people: a pilot, and the payload of one attempt of a job."""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from spinor.access import Scope
from spinor.identity import tokens
from spinor.identity.keys import KeyRing
from spinor.identity.models import Issued, IssuedKind

PILOT_CLIENT = "spinor-pilot"


class PayloadGrant(msgspec.Struct, frozen=True):
    """What the payload of one attempt may do, for whom, and for how long at most: its token ends with the attempt."""

    job_id: int
    attempt: int
    vo: str
    owner: tuple[int, int]  # The ids of the VO and of the user.
    scopes: Sequence[str]
    lifetime_s: float


def mint_pilot_token(keys: KeyRing, issuer: str, vo: str, pilot_id: int, lifetime_s: float) -> str:
    """An access token that can do nothing but what a pilot does, as one pilot of one VO."""
    claims = {"sub": f"pilot:{pilot_id}", "client_id": PILOT_CLIENT, "vo": vo, "scope": Scope.PILOT_ACT.value}
    return tokens.mint(keys, issuer, claims, lifetime_s=lifetime_s)


def mint_payload_tokens(keys: KeyRing, issuer: str, grants: Sequence[PayloadGrant]) -> tuple[list[str], list[Issued]]:
    """A token for each payload, and the audit lines: one for all those of one owner with the same scopes.

    The line names what the tokens' `jti` begin with, and its facts the attempts that they end with.
    """
    answer, now = secrets.token_urlsafe(16), datetime.now(UTC)
    minted: list[str] = []
    by_owner: dict[tuple[tuple[int, int], str], list[PayloadGrant]] = defaultdict(list)
    for grant in grants:
        scope = " ".join(sorted({Scope.PAYLOAD_ACT.value, *grant.scopes}))
        attempt = f"{grant.job_id}.{grant.attempt}"
        claims = {
            "sub": f"{tokens.PAYLOAD}:{attempt}", "jti": f"{answer}.{attempt}", "client_id": PILOT_CLIENT,
            "vo": grant.vo, "scope": scope,
        }  # fmt: skip
        minted.append(tokens.mint(keys, issuer, claims, lifetime_s=grant.lifetime_s))
        by_owner[grant.owner, scope].append(grant)
    lines = [
        Issued(
            kind=IssuedKind.PAYLOAD_TOKEN,
            vo_id=vo_id,
            user_id=user_id,
            client_id=PILOT_CLIENT,
            name=answer,
            audience=[issuer],
            scopes=scope.split(),
            expires_at=now + timedelta(seconds=max(grant.lifetime_s for grant in of_owner)),
            facts={"attempts": [f"{grant.job_id}.{grant.attempt}" for grant in of_owner]},
        )
        for ((vo_id, user_id), scope), of_owner in by_owner.items()
    ]
    return minted, lines
