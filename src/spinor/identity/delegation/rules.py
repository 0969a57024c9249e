"""Pure decisions: who gets a full proxy, which attributes a group may have, which groups attributes stand for."""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from spinor.access import Scope
from spinor.errors import BadInput, Denied
from spinor.identity.delegation.models import FULL_PROXY, AskedAttributes, Voms

# A limited proxy may read and write data and start nothing, here as at a computing element. What would lead further
# (new proxies, tokens for others, one's own account, other people's jobs) is not in it either.
SCOPES_OF_LIMITED = frozenset(
    scope.value
    for scope in (
        Scope.SELF_READ, Scope.CONFIG_READ, Scope.RESOURCES_READ, Scope.FILES_READ, Scope.FILES_WRITE,
        Scope.FILES_MANAGE, Scope.JOBS_READ, Scope.PILOTS_READ,
    )
)  # fmt: skip


class FullProxyDenied(Denied):
    """This group gets limited proxies only."""

    code = "full-proxy-denied"


class AttributesDenied(Denied):
    """This group does not give these VOMS attributes."""

    code = "attributes-denied"


class NoAttributes(BadInput):
    """The operations data name no VOMS server for this VO."""

    code = "no-voms"


def sealed_about(key_id: UUID, user_id: int) -> str:
    """What a proxy's key is sealed for: in another row, or for another user, it does not open."""
    return f"identity.proxy {key_id} of user {user_id}"


def is_limited(properties: Collection[str], group: str, *, asked: bool, stored: bool) -> bool:
    """Whether a proxy has to be limited: when that is asked, or the one above it is; a full one needs the property.

    FullProxyDenied when a full one is asked for, and the group may not have it.
    """
    if asked or stored:
        return True
    if FULL_PROXY not in properties:
        raise FullProxyDenied(
            f"Group {group!r} does not have the property {FULL_PROXY}, so it gets limited proxies only; ask for one.",
            group=group,
        )
    return False


def is_of_vo(name: str, vo: str, voms: Voms | None) -> bool:
    """Whether this names the VO, as it is called here or in VOMS."""
    return name in ("", vo, *([voms.name] if voms else []))


def wanted_fqans(asked: AskedAttributes, vo: str, group: str, voms: Voms | None) -> list[str]:
    """The FQANs to ask for, in order; empty: what the VOMS server gives by itself.

    An FQAN that stands for a group is given to that group alone. Our own authority knows nothing but these.
    """
    if not is_of_vo(asked.vo, vo, voms):
        raise AttributesDenied(f"Your token is for VO {vo!r}; for attributes of {asked.vo!r} sign in with that VO.")
    if voms is None or not (voms.servers or voms.signs_itself):
        raise NoAttributes(f"The operations data name no VOMS server for VO {vo!r}; ask its administrators.")
    fqans = [plain_fqan(fqan) for fqan in asked.fqans]
    for fqan in fqans:
        if fqan.split("/")[1] != voms.name:
            raise AttributesDenied(f"{fqan} is not an attribute of {voms.name}; it would begin with /{voms.name}.")
        for_group = voms.groups.get(fqan)
        if for_group is not None and for_group != group:
            raise AttributesDenied(f"{fqan} is for group {for_group!r}, and you act in {group!r}; sign in with it.")
        if for_group is None and not voms.servers and fqan != f"/{voms.name}":
            raise AttributesDenied(f"The operations data give {fqan} to no group of VO {vo!r}.")
    if not fqans and not voms.servers:
        fqans = [fqan for fqan, for_group in voms.groups.items() if for_group == group]
        return list(dict.fromkeys([*fqans, f"/{voms.name}"]))
    return list(dict.fromkeys(fqans))


def plain_fqan(fqan: str) -> str:
    """/vo/Role=NULL/Capability=NULL is /vo."""
    return fqan.replace("/Capability=NULL", "").replace("/Role=NULL", "").rstrip("/")


def groups_of(fqans: Iterable[str], voms: Voms) -> list[str]:
    """The groups that these attributes stand for, in the order of the attributes."""
    found = (voms.groups.get(plain_fqan(fqan)) for fqan in fqans)
    return list(dict.fromkeys(group for group in found if group is not None))


def first_group(found: Sequence[tuple[str, list[str]]], vo: str) -> tuple[str, str]:
    """The VO and group that the attributes choose: those of the primary one, in the VO that is asked for if any."""
    for named, groups in found:
        if groups and vo in ("", named):
            return named, groups[0]
    return vo, ""
