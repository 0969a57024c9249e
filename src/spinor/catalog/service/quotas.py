"""Quotas: checked in the transaction that uses more, against sums that are exact."""

from collections.abc import Iterable, Sequence

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import QuotaExceeded
from spinor.catalog.models import ExceededQuota
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.search.expression import shown


async def check_quotas(tx: Tx, caller: Caller, directories: Sequence[Directory], owner_ids: Iterable[int]) -> None:
    """Raises QuotaExceeded when what the owners, or the trees above the directories, use is now more than they may."""
    paths = rules.with_ancestors(directory.path for directory in directories)
    quota_ids = await store.hold_quotas(tx, caller, owner_ids, paths)
    for quota in await store.exceeded_quotas(tx, caller, quota_ids) if quota_ids else []:
        raise QuotaExceeded(
            f"The quota of {_subject(quota)} would be exceeded: {_sums(quota)}; nothing was changed. "
            "Remove files, or ask for more (`spinor file quota`).",
            owner=quota.owner, path=quota.path, se=quota.se,
        )  # fmt: skip


def _subject(quota: ExceededQuota) -> str:
    parts = [f"the user {quota.owner!r}"] if quota.owner else []
    parts += [f"the tree {shown(quota.path)}"] if quota.path else []
    parts += [f"the storage element {quota.se!r}"] if quota.se else []
    return " on ".join(parts)


def _sums(quota: ExceededQuota) -> str:
    parts = []
    if quota.max_files is not None and quota.files > quota.max_files:
        parts.append(f"{quota.files:,} files, {quota.max_files:,} are allowed")
    if quota.max_bytes is not None and quota.size_bytes > quota.max_bytes:
        parts.append(f"{quota.size_bytes:,} bytes, {quota.max_bytes:,} are allowed")
    return "; ".join(parts)
