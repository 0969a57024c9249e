"""Shares and limits of the operations data: their checks, and the form in which the matcher reads them."""

from collections.abc import Sequence

import msgspec

from spinor.configuration import rules
from spinor.configuration.models import Document, LimitSection
from spinor.configuration.reading import Source

EACH = "*"
HALF_LIFE_S = 7 * 86_400.0


class VOShares(msgspec.Struct, frozen=True, kw_only=True):
    """How a VO divides its computing time: shares by name, 1 for whoever is not named."""

    half_life_s: float = HALF_LIFE_S
    groups: dict[str, float] = {}
    users: dict[str, float] = {}


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """At most so many starts at once; they are allowed again evenly over so long."""

    starts: int
    per_s: float


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `limits`. `per` names what it is about: a name, or `*` for each on its own."""

    name: str
    per: dict[str, str] = {}
    running: int | None = None
    burst: Burst | None = None


class WorkRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operations data say of shares and limits. Revision 0: nothing was applied yet."""

    revision: int = 0
    vo_shares: dict[str, float] = {}
    shares: dict[str, VOShares] = {}  # By VO.
    limits: list[Limit] = []


def check_limits(source: Source, limits: Sequence[LimitSection]) -> None:
    """What each limit names is there, and each has a name of its own."""
    vos, sites = sorted(source.keys(("vos",))), sorted(source.keys(("sites",)))
    known = {
        "user": source.keys(("users",)),
        "group": {group for vo in vos for group in source.keys(("vos", vo, "groups"))},
        "vo": set(vos),
        "site": set(sites),
        "ce": {ce for site in sites for ce in source.keys(("sites", site, "computing_elements"))},
    }
    seen: set[str] = set()
    for limit in limits:
        # Faults in one entry leave it out, and so its number here is not that in the document; its name is.
        path = ("limits",)
        for dimension, value in limit.per.items():
            if dimension in known and value != EACH and value not in known[dimension]:
                source.fault(path, f"{limit.name}: there is no {dimension} {value!r}")
            elif not value:
                source.fault(path, f"{limit.name}: {dimension} is empty; write a name, or {EACH!r} for each of them")
        if limit.running is None and limit.burst is None:
            source.fault(path, f"{limit.name}: limits nothing; give it `running`, `burst` or both")
        if limit.name in seen:
            source.fault(path, f"{limit.name}: is there twice")
        seen.add(limit.name)


def work_rules(document: Document, revision: int) -> WorkRules:
    return WorkRules(
        revision=revision,
        vo_shares=dict(document.shares),
        shares={
            vo: VOShares(
                half_life_s=float(rules.duration_s(section.shares.half_life)),
                groups=dict(section.shares.groups),
                users=dict(section.shares.users),
            )
            for vo, section in document.vos.items()
        },
        limits=[
            Limit(
                name=limit.name,
                per={str(dimension): value for dimension, value in limit.per.items()},
                running=limit.running,
                burst=Burst(starts=limit.burst.starts, per_s=limit.burst.per_s) if limit.burst else None,
            )
            for limit in document.limits
        ],
    )
