"""The rows of identity."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg.types.json import Jsonb

from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.errors import Conflict, SpinorError
from spinor.identity.models import (
    Issued,
    Member,
    Person,
    RefreshToken,
    Session,
    TokenSession,
    WantedGroup,
    WantedUser,
)

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
    "online_ca_name_unique": NameTaken,
}


async def find_member_by_names(tx: Tx, user: str, vo: str, group: str) -> Member | None:
    return await fetch_one(tx, Member, Q.find_member_by_names, {"user": user, "vo": vo, "group": group})


async def find_member_by_subject(tx: Tx, subject: UUID, vo: str, group: str, session_id: UUID) -> Member | None:
    parameters = {"subject": subject, "vo": vo, "group": group, "session_id": session_id}
    return await fetch_one(tx, Member, Q.find_member_by_subject, parameters)


async def find_member_by_ids(tx: Tx, vo_id: int, user_id: int, group_id: int) -> Member | None:
    parameters = {"vo_id": vo_id, "user_id": user_id, "group_id": group_id}
    return await fetch_one(tx, Member, Q.find_member_by_ids, parameters)


async def insert_probe_member(tx: Tx, vo_id: int) -> tuple[int, int]:
    """(user_id, group_id); made when it is not there yet."""
    ((user_id, group_id),) = await fetch_rows(tx, Q.insert_probe_member, {"vo_id": vo_id})
    return user_id, group_id


async def list_members_of_user(tx: Tx, user: str) -> list[Member]:
    return await fetch(tx, Member, Q.list_members_of_user, {"user": user})


async def find_vo_id(tx: Tx, vo: str) -> int | None:
    found: int | None = await fetch_value(tx, Q.find_vo_id, {"vo": vo})
    return found


async def find_user_by_identity(tx: Tx, issuer: str, subject: str) -> str | None:
    """The name of the user; that this identity was used is noted."""
    found: str | None = await fetch_value(tx, Q.find_user_by_identity, {"issuer": issuer, "subject": subject})
    return found


async def insert_session(tx: Tx, session: Session, lifetime_s: float) -> None:
    member = session.member
    await execute(
        tx,
        Q.insert_session,
        {
            "session_id": session.session_id,
            "kind": session.kind.value,
            "vo_id": member.vo_id,
            "user_id": member.user_id,
            "group_id": member.group_id,
            "client_id": session.client_id,
            "signed_in_by": session.signed_in_by,
            "scopes": None if session.scopes is None else sorted(session.scopes),
            "address": session.origin.address,
            "user_agent": session.origin.user_agent,
            "lifetime_s": lifetime_s,
            "ends_by": session.ends_by,
        },
    )


async def insert_refresh_token(tx: Tx, token_hash: bytes, session_id: UUID, lifetime_s: float) -> None:
    parameters = {"token_hash": token_hash, "session_id": session_id, "lifetime_s": lifetime_s}
    await execute(tx, Q.insert_refresh_token, parameters)


async def lock_session_of_token(tx: Tx, token_hash: bytes) -> None:
    """Let those who use or revoke tokens of one session take turns until the transaction ends."""
    await execute(tx, Q.lock_session_of_token, {"token_hash": token_hash})


async def find_refresh_token(tx: Tx, token_hash: bytes, successor_hash: bytes, grace_s: float) -> RefreshToken | None:
    parameters = {"token_hash": token_hash, "successor_hash": successor_hash, "grace_s": grace_s}
    return await fetch_one(tx, RefreshToken, Q.find_refresh_token, parameters)


async def mark_refresh_token_used(tx: Tx, token_hash: bytes) -> None:
    await execute(tx, Q.mark_refresh_token_used, {"token_hash": token_hash})


async def session_of_token(tx: Tx, token_hash: bytes) -> TokenSession | None:
    return await fetch_one(tx, TokenSession, Q.session_of_token, {"token_hash": token_hash})


async def end_session(tx: Tx, session_id: UUID, ended_by: str) -> bool:
    return await execute(tx, Q.end_session, {"session_id": session_id, "ended_by": ended_by}) > 0


async def spend(tx: Tx, digest: bytes, expires_at: datetime) -> bool:
    """False when it was spent before."""
    return await execute(tx, Q.spend, {"hash": digest, "expires_at": expires_at}) > 0


async def insert_issued(tx: Tx, *issued: Issued) -> None:
    """Lines of the audit log."""
    await execute(tx, Q.insert_issued, {"issued": Jsonb(list(issued))})


async def insert_browser_session(tx: Tx, cookie_hash: bytes, user: str, signed_in_by: str, lifetime_s: float) -> None:
    parameters = {"cookie_hash": cookie_hash, "user": user, "signed_in_by": signed_in_by, "lifetime_s": lifetime_s}
    await execute(tx, Q.insert_browser_session, parameters)


async def find_browser_session(tx: Tx, cookie_hash: bytes) -> Person | None:
    return await fetch_one(tx, Person, Q.find_browser_session, {"cookie_hash": cookie_hash})


async def delete_browser_session(tx: Tx, cookie_hash: bytes) -> None:
    await execute(tx, Q.delete_browser_session, {"cookie_hash": cookie_hash})


async def delete_expired(tx: Tx) -> int:
    deleted: int = await fetch_value(tx, Q.delete_expired)
    return deleted


async def sync_vos(tx: Tx, names: Sequence[str]) -> None:
    await execute(tx, Q.merge_vos, {"names": list(names)})
    await execute(tx, Q.retire_vos, {"names": list(names)})


async def sync_users(tx: Tx, users: Sequence[WantedUser]) -> None:
    await execute(tx, Q.merge_users, {"users": Jsonb(list(users))})
    await execute(tx, Q.retire_users, {"names": [user.name for user in users]})
    await execute(tx, Q.delete_configured_identities, {"users": Jsonb(list(users))})
    await execute(tx, Q.insert_configured_identities, {"users": Jsonb(list(users))})


async def sync_groups(tx: Tx, groups: Sequence[WantedGroup]) -> None:
    """Groups and their members. A membership is a fact without a history of its own, so it is deleted."""
    wanted = {"groups": Jsonb(list(groups))}
    await execute(tx, Q.merge_groups, wanted)
    await execute(tx, Q.retire_groups, wanted)
    await execute(tx, Q.delete_memberships, wanted)
    await execute(tx, Q.insert_memberships, wanted)
