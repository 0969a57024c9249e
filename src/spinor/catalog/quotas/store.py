"""Rows of quotas."""

from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.catalog.quotas.models import Quota, QuotaSetting
from spinor.db import Queries, Tx, execute, fetch

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
