"""Quotas: checked in the transaction that uses more, against sums that are exact."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog.errors import QuotaExceeded
from spinor.catalog.models import ExceededQuota
from spinor.catalog.quotas import store as quota_store
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.search.expression import shown


class Grown(StrEnum):
    """What has grown, and so which quotas are looked at: one that was exceeded before hinders nothing else."""

    BOTH = "both"  # New names or replicas: what owners have, and what trees hold.
    OWNER = "owner"  # Only what owners have.
    TREE = "tree"  # Only what trees hold.


async def check_quotas(tx: Tx, caller: Caller, directories: Sequence[Directory], owner_ids: Iterable[int]) -> None:
    """Raises QuotaExceeded when what the owners, or the trees above the directories, use is now more than they may."""
    paths = rules.with_ancestors(directory.path for directory in directories)
    await check_grown(tx, caller, paths, owner_ids, Grown.BOTH)


async def check_grown(tx: Tx, caller: Caller, paths: Iterable[str], owner_ids: Iterable[int], grown: Grown) -> None:
    """The same for the tops of trees, and for what has grown only. The owners are those of all that came there."""
    quota_ids = await quota_store.hold_quotas(tx, caller, owner_ids, paths, grown)
    for quota in await quota_store.exceeded_quotas(tx, caller, quota_ids) if quota_ids else []:
        raise QuotaExceeded(
            f"The quota of {_subject(quota)} would be exceeded: {_sums(quota)}; nothing was changed. "
            "Remove files, or ask for more (`spinor file quota`).",
            owner=quota.owner, path=quota.path, se=quota.se,
        )  # fmt: skip


async def check_moved(tx: Tx, caller: Caller, moves: Iterable[tuple[str, str]], owner_ids: Iterable[int]) -> None:
    """For what these owners have in files that moved from one directory to another: a tree that held them before has
    not grown."""
    paths: set[str] = set()
    for source, target in moves:
        paths |= rules.with_ancestors([target]) - rules.with_ancestors([source])
    if paths:
        await check_grown(tx, caller, paths, owner_ids, Grown.TREE)


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
