"""Limits of the operations data: how many jobs may run at once, and how many may start in a time.

A limit counts per *key*: for `per: {user: "*"}` each user has one of its own, for `per: {user: ada, site: "*"}` each
site has one for Ada's jobs. A job may fall under several limits, and with labels under several keys of one; each of
them must have room.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec

from spinor.configuration.work import EACH, Burst, Limit
from spinor.jobs.models import Requirements

DIMENSIONS = ("user", "group", "vo", "site", "ce", "label")


class Owner(msgspec.Struct, frozen=True):
    """Whose jobs a task queue holds, by name."""

    vo: str
    group: str
    user: str


class Key(msgspec.Struct, frozen=True, order=True):
    """What one count of a limit is about; `values` are those of its dimensions, in the order of DIMENSIONS."""

    limit: str
    values: str


def keys_of_queue(limit: Limit, owner: Owner, wants: Requirements) -> list[dict[str, str]]:
    """What a task queue contributes to the keys of a limit: one for each label that counts; none where it does not
    apply."""
    known = {"user": owner.user, "group": owner.group, "vo": owner.vo}
    found: dict[str, str] = {}
    for dimension, value in known.items():
        wanted = limit.per.get(dimension)
        if wanted is not None:
            if wanted not in (EACH, value):
                return []
            found[dimension] = value
    wanted = limit.per.get("label")
    if wanted is None:
        return [found]
    return [{**found, "label": label} for label in wants.labels if wanted in (EACH, label)]


def key_at(limit: Limit, of_queue: dict[str, str], site: str, ce: str) -> Key | None:
    """The key of a queue's jobs on this element; None where the limit does not apply there."""
    values = dict(of_queue)
    for dimension, value in (("site", site), ("ce", ce)):
        wanted = limit.per.get(dimension)
        if wanted is not None:
            if wanted not in (EACH, value):
                return None
            values[dimension] = value
    return Key(limit.name, ",".join(f"{each}={values[each]}" for each in DIMENSIONS if each in values))


def keys_of(
    limits: Sequence[Limit], owner: Owner, wants: Requirements, site: str, ce: str
) -> Iterator[tuple[Limit, Key]]:
    """Each limit and key under which jobs of this queue fall on this element."""
    for limit in limits:
        for of_queue in keys_of_queue(limit, owner, wants):
            key = key_at(limit, of_queue, site, ce)
            if key is not None:
                yield limit, key


class Bucket(msgspec.Struct, frozen=True):
    """The tokens of a burst, as they were at a moment (seconds of any clock that goes on)."""

    tokens: float
    at: float


def refilled(burst: Burst, bucket: Bucket | None, now: float) -> Bucket:
    """The tokens at a later moment; a new bucket is full."""
    if bucket is None:
        return Bucket(float(burst.starts), now)
    gained = max(0.0, now - bucket.at) * burst.starts / burst.per_s
    return Bucket(min(float(burst.starts), bucket.tokens + gained), now)


def next_token_s(burst: Burst, bucket: Bucket) -> float:
    """How long until a whole token is there."""
    return max(0.0, (1.0 - bucket.tokens) * burst.per_s / burst.starts)


def room(limit: Limit, running: int, bucket: Bucket | None) -> int:
    """How many jobs may start under this key now. `bucket` is that of a limit with bursts, filled up to now."""
    places = limit.running - running if limit.running is not None else 1 << 30
    if limit.burst is not None and bucket is not None:
        places = min(places, math.floor(bucket.tokens + 1e-9))
    return max(0, places)
