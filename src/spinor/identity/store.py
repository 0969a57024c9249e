"""The rows of identity."""

from collections.abc import Sequence
from uuid import UUID

from psycopg.types.json import Jsonb

from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_value
from spinor.errors import Conflict, SpinorError
from spinor.identity.models import Member, RefreshToken, WantedGroup, WantedUser

Q = Queries("spinor.identity")


class SubjectTaken(Conflict):
    """Two users cannot have the same subject; each person has their own."""

    code = "subject-taken"


class NameTaken(Conflict):
    """That name was given by somebody else at the same moment; look again and repeat."""

    code, retry = "name-taken", True


ERRORS: dict[str, type[SpinorError]] = {
    "user_account_subject_unique": SubjectTaken,
    "user_account_name_unique": NameTaken,
    "vo_name_unique": NameTaken,
    "vo_group_name_unique": NameTaken,
}


async def find_member_by_names(tx: Tx, user: str, vo: str, group: str) -> Member | None:
    return await fetch_one(tx, Member, Q.find_member_by_names, {"user": user, "vo": vo, "group": group})


async def find_member_by_subject(tx: Tx, subject: UUID, vo: str, group: str) -> Member | None:
    return await fetch_one(tx, Member, Q.find_member_by_subject, {"subject": subject, "vo": vo, "group": group})


async def find_member_by_ids(tx: Tx, vo_id: int, user_id: int, group_id: int) -> Member | None:
    parameters = {"vo_id": vo_id, "user_id": user_id, "group_id": group_id}
    return await fetch_one(tx, Member, Q.find_member_by_ids, parameters)


async def list_members_of_user(tx: Tx, user: str) -> list[Member]:
    return await fetch(tx, Member, Q.list_members_of_user, {"user": user})


async def find_vo_id(tx: Tx, vo: str) -> int | None:
    found: int | None = await fetch_value(tx, Q.find_vo_id, {"vo": vo})
    return found


async def insert_refresh_token(tx: Tx, token_hash: bytes, family_id: UUID, member: Member, lifetime_s: float) -> None:
    await execute(
        tx,
        Q.insert_refresh_token,
        {
            "token_hash": token_hash,
            "family_id": family_id,
            "vo_id": member.vo_id,
            "user_id": member.user_id,
            "group_id": member.group_id,
            "lifetime_s": lifetime_s,
        },
    )


async def lock_refresh_family(tx: Tx, token_hash: bytes) -> None:
    """Let those who use or revoke tokens of one family take turns until the transaction ends."""
    await execute(tx, Q.lock_refresh_family, {"token_hash": token_hash})


async def find_refresh_token(tx: Tx, token_hash: bytes, successor_hash: bytes, grace_s: float) -> RefreshToken | None:
    parameters = {"token_hash": token_hash, "successor_hash": successor_hash, "grace_s": grace_s}
    return await fetch_one(tx, RefreshToken, Q.find_refresh_token, parameters)


async def mark_refresh_token_used(tx: Tx, token_hash: bytes) -> None:
    await execute(tx, Q.mark_refresh_token_used, {"token_hash": token_hash})


async def revoke_refresh_family(tx: Tx, family_id: UUID) -> int:
    return await execute(tx, Q.revoke_refresh_family, {"family_id": family_id})


async def revoke_refresh_family_of_token(tx: Tx, token_hash: bytes) -> int:
    return await execute(tx, Q.revoke_refresh_family_of_token, {"token_hash": token_hash})


async def delete_expired_refresh_tokens(tx: Tx) -> int:
    return await execute(tx, Q.delete_expired_refresh_tokens)


async def sync_vos(tx: Tx, names: Sequence[str]) -> None:
    await execute(tx, Q.merge_vos, {"names": list(names)})
    await execute(tx, Q.retire_vos, {"names": list(names)})


async def sync_users(tx: Tx, users: Sequence[WantedUser]) -> None:
    await execute(tx, Q.merge_users, {"users": Jsonb(list(users))})
    await execute(tx, Q.retire_users, {"names": [user.name for user in users]})


async def sync_groups(tx: Tx, groups: Sequence[WantedGroup]) -> None:
    """Groups and their members. A membership is a fact without a history of its own, so it is deleted."""
    wanted = {"groups": Jsonb(list(groups))}
    await execute(tx, Q.merge_groups, wanted)
    await execute(tx, Q.retire_groups, wanted)
    await execute(tx, Q.delete_memberships, wanted)
    await execute(tx, Q.insert_memberships, wanted)
