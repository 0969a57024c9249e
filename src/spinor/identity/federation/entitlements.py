"""Entitlements and groups as providers write them, by their grammars.

Groups are AARC-G069 (and G002, which it replaces), capabilities AARC-G027; EGI's older `member@vo` form reads as the
group it means. The names are percent-decoded after the text was taken apart, so that no encoded colon can shift a role
to another group. The authority behind `#` says who vouches and is no part of equality, as the guidelines demand.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from spinor.errors import BadInput

LONGEST = 1024
_NID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,30}[A-Za-z0-9]")
# What a part of a URN's own string may hold unencoded (RFC 8141), without the colon that parts are split at.
_PART = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=@/]|%[0-9A-Fa-f]{2})+")
_UNENCODED = "-._~!$&'()*+;@"
_WLCG_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LEGACY = ("urn", "mace", "egi.eu", "aai.egi.eu")
_ROLE = "role="


class NotAnEntitlement(BadInput):
    """This is no entitlement: `urn:…:group:<group>:role=<role>#<authority>` (AARC-G069), or `urn:…:res:…` (G027)."""

    code = "not-an-entitlement"


@dataclass(frozen=True)
class GroupEntitlement:
    """Somebody has this role (None: belongs) in the last of these groups, each inside the one before."""

    namespace: tuple[str, ...]
    groups: tuple[str, ...]
    role: str | None = None
    authority: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        role = [f"{_ROLE}{_written(self.role)}"] if self.role is not None else []
        groups = [_written(name) for name in self.groups]
        return _joined([*map(_written, self.namespace), "group", *groups, *role], self.authority)


@dataclass(frozen=True)
class Capability:
    """Somebody may do these things (none: what is usual) with the last of these resources."""

    namespace: tuple[str, ...]
    resources: tuple[str, ...]
    actions: frozenset[str] = frozenset()
    authority: str | None = field(default=None, compare=False)

    def __str__(self) -> str:
        actions = ["act", ",".join(_written(action) for action in sorted(self.actions))] if self.actions else []
        resources = [_written(name) for name in self.resources]
        return _joined([*map(_written, self.namespace), "res", *resources, *actions], self.authority)


def parse(text: str) -> GroupEntitlement | Capability:
    """What an entitlement says; NotAnEntitlement for everything else."""
    if len(text) > LONGEST:
        raise NotAnEntitlement(f"An entitlement has at most {LONGEST} characters.")
    urn, hash_, authority = text.partition("#")
    parts = urn.split(":")
    if hash_ and not _PART.fullmatch(authority.replace(":", "")):
        raise NotAnEntitlement
    if len(parts) < 5 or parts[0].lower() != "urn" or not _NID.fullmatch(parts[1]):
        raise NotAnEntitlement
    if not all(_PART.fullmatch(part) for part in parts):
        raise NotAnEntitlement
    namespace = ("urn", parts[1].lower())
    vouching = _named(authority) if hash_ else None
    if tuple(parts[2:4]) == _LEGACY[2:] and namespace == _LEGACY[:2] and "@" in parts[-1]:
        return _legacy(parts)
    for at in range(3, len(parts)):
        full = (*namespace, *map(_named, parts[2:at]))
        if parts[at] == "group":
            return _group(full, parts[at + 1 :], vouching)
        if parts[at] == "res":
            return _capability(full, parts[at + 1 :], vouching)
    raise NotAnEntitlement


def _group(namespace: tuple[str, ...], rest: list[str], authority: str | None) -> GroupEntitlement:
    role = None
    if rest and rest[-1].startswith(_ROLE):
        role = _named(rest.pop()[len(_ROLE) :])
    if not rest or any(part.startswith(_ROLE) for part in rest):
        raise NotAnEntitlement("A role stands behind the group that it is in, and there is one at most.")
    return GroupEntitlement(namespace, tuple(map(_named, rest)), role, authority)


def _capability(namespace: tuple[str, ...], rest: list[str], authority: str | None) -> Capability:
    actions: frozenset[str] = frozenset()
    if len(rest) > 2 and rest[-2] == "act":
        actions = frozenset(map(_named, rest.pop().split(",")))
        rest.pop()
    if not rest:
        raise NotAnEntitlement
    return Capability(namespace, tuple(map(_named, rest)), actions, authority)


def _legacy(parts: list[str]) -> GroupEntitlement:
    """`urn:mace:egi.eu:aai.egi.eu:[<subgroup>:…]<role>@<vo>`."""
    role, _, vo = parts[-1].rpartition("@")
    groups = tuple(map(_named, (vo, *parts[4:-1])))
    return GroupEntitlement(("urn", "mace", "egi.eu"), groups, _named(role), "aai.egi.eu")


def _named(part: str) -> str:
    """The name that a part of a URN means."""
    try:
        name = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise NotAnEntitlement("A name in an entitlement is not UTF-8.") from None
    if not name or _CONTROL.search(name):
        raise NotAnEntitlement("A name in an entitlement is empty, or has control characters.")
    return name


def _written(name: str) -> str:
    return quote(name, safe=_UNENCODED)


def _joined(parts: list[str], authority: str | None) -> str:
    return ":".join(parts) + ("" if authority is None else f"#{_written(authority)}")


class NotAGroup(BadInput):
    """This is no WLCG group: such a one is written `/vo` or `/vo/group`."""

    code = "not-a-group"


def parse_wlcg_group(text: str) -> tuple[str, ...]:
    """The parts of a group of the WLCG profile. Who is in `/vo/sub` need not be in `/vo`: each is said by itself."""
    parts = text.split("/")
    if len(text) > LONGEST or parts[0] != "" or len(parts) < 2 or not all(map(_WLCG_PART.fullmatch, parts[1:])):
        raise NotAGroup
    return tuple(parts[1:])


def covers(has: GroupEntitlement | Capability, needed: GroupEntitlement | Capability) -> bool:
    """Whether who has the one fulfils the other: the same group and role, or at least the same actions."""
    if isinstance(has, Capability) and isinstance(needed, Capability):
        same = (has.namespace, has.resources) == (needed.namespace, needed.resources)
        return same and has.actions >= needed.actions
    return has == needed
