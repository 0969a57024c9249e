"""The revisions of the operations data."""

from collections.abc import Mapping

import msgspec

from spinor.configuration.models import FullRevision, Revision, SandboxLimits
from spinor.configuration.work import WorkRules
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_value
from spinor.errors import SpinorError

Q = Queries("spinor.configuration")

ERRORS: dict[str, type[SpinorError]] = {}


async def lock_revisions(tx: Tx) -> None:
    """Let those who apply take turns until the transaction ends; readers do not wait."""
    await fetch_value(tx, Q.lock_revisions)


async def newest_revision(tx: Tx) -> FullRevision | None:
    return await fetch_one(tx, FullRevision, Q.newest_revision)


async def find_revision(tx: Tx, revision: int) -> FullRevision | None:
    return await fetch_one(tx, FullRevision, Q.find_revision, {"revision": revision})


async def list_revisions(tx: Tx, *, before: int | None, limit: int) -> list[Revision]:
    return await fetch(tx, Revision, Q.list_revisions, {"before": before, "limit": limit})


async def insert_revision(tx: Tx, document: str, author: str, comment: str) -> int:
    parameters = {"document": document, "author": author, "comment": comment}
    revision: int = await fetch_value(tx, Q.insert_revision, parameters)
    return revision


async def store_work_rules(tx: Tx, rules: WorkRules) -> None:
    await execute(tx, Q.store_work_rules, {"rules": msgspec.json.encode(rules).decode()})


async def find_work_rules(tx: Tx) -> WorkRules:
    found = await fetch_value(tx, Q.find_work_rules)
    return WorkRules() if found is None else msgspec.convert(found, WorkRules)


async def find_revision_of_work_rules(tx: Tx) -> int:
    return int(await fetch_value(tx, Q.find_revision_of_work_rules) or 0)


async def sync_sandbox_limits(tx: Tx, limits: Mapping[str, SandboxLimits]) -> None:
    await execute(
        tx,
        Q.sync_sandbox_limits,
        {
            "vos": list(limits),
            "limits": [each.limit_bytes for each in limits.values()],
            "quotas": [each.quota_bytes for each in limits.values()],
            "user_quotas": [each.user_quota_bytes for each in limits.values()],
        },
    )


async def find_sandbox_limits(tx: Tx, vo_id: int) -> SandboxLimits | None:
    return await fetch_one(tx, SandboxLimits, Q.find_sandbox_limits, {"vo_id": vo_id})
