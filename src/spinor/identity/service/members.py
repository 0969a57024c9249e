"""Users in their VOs and groups."""

from collections.abc import Sequence

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import NotFound
from spinor.identity import rules, store
from spinor.identity.models import Member, Membership, Proven, WantedGroup, WantedUser, WhoAmI


class UnknownMember(NotFound):
    """There is no such user in that group of that VO."""

    code = "unknown-member"


async def caller_for(tx: Tx, user_name: str, vo: str, group: str) -> Caller:
    """The caller that this user is in this group; UnknownMember when it is not."""
    member = await store.find_member_by_names(tx, user_name, vo, group)
    if member is None:
        raise UnknownMember(f"There is no user {user_name!r} in group {group!r} of VO {vo!r}.")
    return rules.caller_from(member)


async def caller_of_member(tx: Tx, vo_id: int, user_id: int, group_id: int) -> Caller:
    """The caller on whose behalf something is done later, for example registering a job's outputs."""
    return rules.caller_from(await member_of(tx, vo_id, user_id, group_id))


async def member_of(tx: Tx, vo_id: int, user_id: int, group_id: int) -> Member:
    """The user in its group; UnknownMember when it is not there any more. A suspended one is found too."""
    member = await store.find_member_by_ids(tx, vo_id, user_id, group_id)
    if member is None:
        raise UnknownMember(vo_id=vo_id, user_id=user_id, group_id=group_id)
    return member


async def probe_member(tx: Tx, vo_id: int) -> tuple[int, int]:
    """(user_id, group_id) of the account in whose name the service sends jobs of its own to a VO's elements. It has no
    scopes, and nobody can sign in as it."""
    return await store.insert_probe_member(tx, vo_id)


async def proven_by_identity(tx: Tx, issuer: str, subject: str, signed_in_by: str) -> Proven | None:
    """The user who is known elsewhere by this name, when one is; that this was used is noted."""
    user = await store.find_user_by_identity(tx, issuer, subject)
    return Proven(user=user, signed_in_by=signed_in_by) if user else None


async def who_am_i(tx: Tx, caller: Caller) -> WhoAmI:
    """The user behind the caller, and the other roles it could take."""
    members = await store.list_members_of_user(tx, caller.user)
    return WhoAmI(
        user=caller.user,
        full_name=members[0].full_name if members else "",
        vo=caller.vo,
        group=caller.group,
        scopes=sorted(caller.scopes),
        memberships=[Membership(vo=m.vo, group=m.group, properties=m.properties) for m in members],
    )


async def sync_members(tx: Tx, vos: Sequence[str], users: Sequence[WantedUser], groups: Sequence[WantedGroup]) -> None:
    """Bring VOs, users and groups in line with the operations data. What is no longer there is retired, not deleted."""
    await store.sync_vos(tx, vos)
    await store.sync_users(tx, users)
    await store.sync_groups(tx, groups)
