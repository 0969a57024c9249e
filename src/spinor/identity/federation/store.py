"""The rows of federation."""

from collections.abc import Sequence

import msgspec
from psycopg.types.json import Jsonb

from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.errors import Conflict, SpinorError
from spinor.identity.federation.models import (
    Account,
    GivenMembership,
    Happening,
    HappeningRow,
    Identity,
    Provider,
    Registration,
    RegistrationState,
    Visitor,
    WaySignedIn,
)
from spinor.identity.models import WantedUser

Q = Queries("spinor.identity.federation")


class IssuerTaken(Conflict):
    """Two providers cannot have the same issuer."""

    code = "issuer-taken"


ERRORS: dict[str, type[SpinorError]] = {"provider_issuer_unique": IssuerTaken}


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Whose an identity is. Retired people keep theirs; the banned are suspended in every VO."""

    user_id: int
    user: str
    retired: bool = False
    banned: bool = False


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A registration that is being decided."""

    registration_id: int
    vo_id: int
    vo: str
    visitor: Visitor


class Group(msgspec.Struct, frozen=True, kw_only=True):
    group_id: int
    name: str
    properties: list[str]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How many registrations there were in a day by a person, and in an hour from an address."""

    of_person: int
    of_address: int


class _Kept(msgspec.Struct):
    settings: Provider


class _Newcomer(msgspec.Struct):
    visitor: Visitor


async def replace_providers(tx: Tx, providers: Sequence[Provider]) -> None:
    await execute(tx, Q.delete_providers)
    await execute(tx, Q.insert_providers, {"providers": Jsonb(list(providers))})
    await execute(tx, Q.rename_providers)


async def list_providers(tx: Tx) -> list[Provider]:
    return [kept.settings for kept in await fetch(tx, _Kept, Q.list_providers)]


async def list_registered_names(tx: Tx, users: Sequence[WantedUser]) -> list[str]:
    return [name for (name,) in await fetch_rows(tx, Q.list_registered_names, {"users": Jsonb(list(users))})]


async def lock_person(tx: Tx, issuer: str, subject: str) -> None:
    await execute(tx, Q.lock_person, {"issuer": issuer, "subject": subject})


async def find_owner(tx: Tx, issuer: str, subject: str) -> Owner | None:
    return await fetch_one(tx, Owner, Q.find_owner, {"issuer": issuer, "subject": subject})


async def find_user_id(tx: Tx, user: str) -> int | None:
    found: int | None = await fetch_value(tx, Q.find_user_id, {"user": user})
    return found


async def list_names_like(tx: Tx, wanted: str) -> list[str]:
    """The names that begin so; until the transaction ends nobody else looks for a free one."""
    await execute(tx, Q.lock_names)
    return [name for (name,) in await fetch_rows(tx, Q.list_names_like, {"wanted": wanted})]


async def insert_user(tx: Tx, name: str, full_name: str, email: str) -> int:
    user_id: int = await fetch_value(tx, Q.insert_user, {"name": name, "full_name": full_name, "email": email})
    return user_id


async def update_user(tx: Tx, user_id: int, full_name: str, email: str) -> None:
    await execute(tx, Q.update_user, {"user_id": user_id, "full_name": full_name, "email": email})


async def insert_identity(tx: Tx, issuer: str, subject: str, user_id: int) -> bool:
    """Whether it was free, and is this user's now."""
    parameters = {"issuer": issuer, "subject": subject, "user_id": user_id}
    return await execute(tx, Q.insert_identity, parameters) == 1


async def note_use(tx: Tx, issuer: str, subject: str) -> None:
    await execute(tx, Q.note_use, {"issuer": issuer, "subject": subject})


async def keep_account(tx: Tx, visitor: Visitor, refresh_sealed: bytes | None) -> None:
    await execute(
        tx,
        Q.keep_account,
        {
            "issuer": visitor.issuer,
            "subject": visitor.subject,
            "provider": visitor.provider,
            "sub": visitor.sub,
            "facts": Jsonb(visitor.facts),
            "refresh_sealed": refresh_sealed,
        },
    )


async def list_accounts(tx: Tx, providers: Sequence[str], user_ids: Sequence[int] | None = None) -> list[Account]:
    """What is kept of logins at these providers; without users of everybody."""
    ids = None if user_ids is None else list(user_ids)
    return await fetch(tx, Account, Q.list_accounts, {"providers": list(providers), "user_ids": ids})


async def list_old_accounts(tx: Tx, provider: str, age_s: float, limit: int) -> list[Account]:
    """Logins that were checked longer ago than that, and that the provider can be asked about; the oldest first."""
    return await fetch(tx, Account, Q.list_old_accounts, {"provider": provider, "age_s": age_s, "limit": limit})


async def lapse_accounts(tx: Tx, provider: str, age_s: float) -> list[int]:
    """Forget what the provider said longer ago than that; the users whom it was about."""
    rows = await fetch_rows(tx, Q.lapse_accounts, {"provider": provider, "age_s": age_s})
    return [user_id for (user_id,) in rows]


async def begin_asking(tx: Tx, account: Account) -> bool:
    """Whether it is us who ask the provider now."""
    return await execute(tx, Q.begin_asking, {"issuer": account.issuer, "subject": account.subject}) == 1


async def end_asking(tx: Tx, account: Account) -> None:
    await execute(tx, Q.end_asking, {"issuer": account.issuer, "subject": account.subject})


async def forget_refresh_token(tx: Tx, account: Account) -> None:
    await execute(tx, Q.forget_refresh_token, {"issuer": account.issuer, "subject": account.subject})


async def take_memberships(
    tx: Tx, source: str, given: Sequence[GivenMembership], user_ids: Sequence[int] | None
) -> list[GivenMembership]:
    """End what this source gave these users (None: everybody) and is not among `given`; what ended."""
    ids = None if user_ids is None else list(user_ids)
    parameters = {"source": source, "given": Jsonb(list(given)), "user_ids": ids}
    return await fetch(tx, GivenMembership, Q.take_memberships, parameters)


async def give_memberships(tx: Tx, source: str, given: Sequence[GivenMembership]) -> list[GivenMembership]:
    """Add these; what is new. Groups that are not there are left out."""
    return await fetch(tx, GivenMembership, Q.give_memberships, {"source": source, "given": Jsonb(list(given))})


async def list_sources(tx: Tx) -> list[str]:
    """The providers that have given a membership, as sources."""
    return [source for (source,) in await fetch_rows(tx, Q.list_sources)]


async def list_identities(tx: Tx, user_id: int) -> list[Identity]:
    return await fetch(tx, Identity, Q.list_identities, {"user_id": user_id})


async def lock_user(tx: Tx, user_id: int) -> None:
    await execute(tx, Q.lock_user, {"user_id": user_id})


async def delete_identity(tx: Tx, user_id: int, issuer: str, subject: str) -> bool:
    parameters = {"issuer": issuer, "subject": subject, "user_id": user_id}
    return await execute(tx, Q.delete_identity, parameters) == 1


async def find_way_signed_in(tx: Tx, token_hash: bytes) -> WaySignedIn | None:
    return await fetch_one(tx, WaySignedIn, Q.find_way_signed_in, {"token_hash": token_hash})


async def insert_happening(tx: Tx, happening: Happening) -> None:
    parameters = {**msgspec.structs.asdict(happening), "facts": Jsonb(happening.facts)}
    await execute(tx, Q.insert_happening, parameters)


async def insert_newcomer(tx: Tx, cookie_hash: bytes, visitor: Visitor, lifetime_s: float) -> None:
    parameters = {"cookie_hash": cookie_hash, "visitor": Jsonb(visitor), "lifetime_s": lifetime_s}
    await execute(tx, Q.insert_newcomer, parameters)


async def find_newcomer(tx: Tx, cookie_hash: bytes) -> Visitor | None:
    found = await fetch_one(tx, _Newcomer, Q.find_newcomer, {"cookie_hash": cookie_hash})
    return found.visitor if found else None


async def list_happenings(
    tx: Tx, vo_id: int | None, *, user: str | None = None, before: int | None = None, limit: int = 100
) -> list[HappeningRow]:
    """Newest first. Without a VO everything."""
    return await fetch(
        tx, HappeningRow, Q.list_happenings, {"vo_id": vo_id, "user": user, "before": before, "limit": limit}
    )


async def list_vos(tx: Tx) -> list[str]:
    return [name for (name,) in await fetch_rows(tx, Q.list_vos)]


async def count_registrations(tx: Tx, visitor: Visitor, address: str) -> Asked:
    parameters = {"issuer": visitor.issuer, "subject": visitor.subject, "address": address}
    return await fetch_one(tx, Asked, Q.count_registrations, parameters) or Asked(of_person=0, of_address=0)


async def insert_registration(tx: Tx, visitor: Visitor, vo: str, message: str, address: str) -> tuple[int, int] | None:
    """The numbers of the registration and of its VO; None when there is no such VO."""
    parameters = {
        "provider": visitor.provider,
        "issuer": visitor.issuer,
        "subject": visitor.subject,
        "visitor": Jsonb(visitor),
        "vo": vo,
        "message": message,
        "address": address,
    }
    rows = await fetch_rows(tx, Q.insert_registration, parameters)
    return (rows[0][0], rows[0][1]) if rows else None


async def list_own_registrations(tx: Tx, visitor: Visitor) -> list[Registration]:
    parameters = {"issuer": visitor.issuer, "subject": visitor.subject}
    return await fetch(tx, Registration, Q.list_own_registrations, parameters)


async def list_registrations(
    tx: Tx,
    vo_id: int | None,
    *,
    state: RegistrationState | None = None,
    ids: Sequence[int] | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[Registration]:
    """Newest first. Without a VO those of every VO."""
    parameters = {
        "vo_id": vo_id,
        "state": state.value if state else None,
        "ids": None if ids is None else list(ids),
        "before": before,
        "limit": limit,
    }
    return await fetch(tx, Registration, Q.list_registrations, parameters)


async def lock_registrations(tx: Tx, vo_id: int | None, ids: Sequence[int]) -> list[Waiting]:
    return await fetch(tx, Waiting, Q.lock_registrations, {"vo_id": vo_id, "ids": list(ids)})


async def decide_registration(
    tx: Tx,
    registration_id: int,
    state: RegistrationState,
    *,
    decided_by: str,
    reason: str = "",
    given: tuple[int | None, int | None] = (None, None),
) -> None:
    """`given` are the user and the group into which they were let."""
    parameters = {
        "registration_id": registration_id,
        "state": state.value,
        "decided_by": decided_by,
        "reason": reason,
        "user_id": given[0],
        "group_id": given[1],
    }
    await execute(tx, Q.decide_registration, parameters)


async def list_groups(tx: Tx, vo_id: int) -> list[Group]:
    return await fetch(tx, Group, Q.list_groups, {"vo_id": vo_id})


async def delete_old_registrations(tx: Tx) -> int:
    return await execute(tx, Q.delete_old_registrations)
