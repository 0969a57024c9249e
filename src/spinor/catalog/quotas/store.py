"""Rows of quotas."""

from collections.abc import Iterable, Sequence

import msgspec

from spinor.access import Caller
from spinor.catalog.models import ExceededQuota
from spinor.catalog.quotas.models import Quota, QuotaSetting
from spinor.db import Queries, Tx, execute, fetch, fetch_rows, fetch_value

Q = Queries("spinor.catalog.quotas")


class Subject(msgspec.Struct, frozen=True):
    """What a QuotaSubject names, by id."""

    owner_id: int | None
    directory_id: int | None
    se_id: int | None


class FoundQuota(Quota, frozen=True, kw_only=True):
    gate_id: int | None  # Of its directory.


def _columns(subjects: Sequence[Subject]) -> dict[str, list[int | None]]:
    return {
        "owner_ids": [subject.owner_id for subject in subjects],
        "directory_ids": [subject.directory_id for subject in subjects],
        "se_ids": [subject.se_id for subject in subjects],
    }


async def set_quotas(tx: Tx, caller: Caller, subjects: Sequence[Subject], settings: Sequence[QuotaSetting]) -> None:
    limits = {
        "max_files": [setting.max_files for setting in settings],
        "max_bytes": [setting.max_bytes for setting in settings],
    }
    await execute(tx, Q.set_quotas, {"vo_id": caller.vo_id, **_columns(subjects), **limits})


async def remove_quotas(tx: Tx, caller: Caller, subjects: Sequence[Subject]) -> int:
    return await execute(tx, Q.remove_quotas, {"vo_id": caller.vo_id, **_columns(subjects)})


async def find_quotas(tx: Tx, caller: Caller, subject: Subject, only_user_id: int | None) -> list[FoundQuota]:
    """Those of the subject; what it leaves open may be anything. `only_user_id` hides those of other users."""
    values = {name: getattr(subject, name) for name in Subject.__struct_fields__}
    return await fetch(tx, FoundQuota, Q.find_quotas, {"vo_id": caller.vo_id, "only_user_id": only_user_id, **values})


async def any_quotas(tx: Tx, caller: Caller) -> bool:
    return bool(await fetch_value(tx, Q.any_quotas, {"vo_id": caller.vo_id}))


async def owners_within(tx: Tx, caller: Caller, path: str) -> list[int]:
    """Who owns files at and below a path."""
    return [row[0] for row in await fetch_rows(tx, Q.owners_within, {"vo_id": caller.vo_id, "path": path})]


async def hold_quotas(tx: Tx, caller: Caller, owner_ids: Iterable[int], paths: Iterable[str], grown: str) -> list[int]:
    """`grown` is `both`, or `owner` or `tree` for only those quotas that name one."""
    values = {"vo_id": caller.vo_id, "owner_ids": list(owner_ids), "paths": list(paths), "grown": grown}
    return [row[0] for row in await fetch_rows(tx, Q.hold_quotas, values)]


async def exceeded_quotas(tx: Tx, caller: Caller, quota_ids: Sequence[int]) -> list[ExceededQuota]:
    return await fetch(tx, ExceededQuota, Q.exceeded_quotas, {"vo_id": caller.vo_id, "quota_ids": list(quota_ids)})
