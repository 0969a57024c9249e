"""The rows of submission."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_rows, fetch_value
from spinor.jobs import rules
from spinor.jobs.models import Notify, Requirements
from spinor.jobs.rows import Ids, NewArray, StoredArray, Upstream, UpstreamOf

Q = Queries("spinor.jobs.submission")


async def insert_arrays(tx: Tx, caller: Caller, arrays: Sequence[NewArray]) -> list[Ids]:
    """Store everything, or nothing: an empty answer says that a task queue is missing or the key is taken."""
    return await insert_arrays_of(tx, [caller] * len(arrays), arrays, together=True)


async def insert_arrays_of(
    tx: Tx, callers: Sequence[Caller], arrays: Sequence[NewArray], *, together: bool
) -> list[Ids]:
    """Store arrays of several callers; those that could not be stored are not in the answer."""
    kinds: dict[tuple[Any, ...], int] = {}
    kind_of = [kinds.setdefault(_kind(*each), len(kinds) + 1) for each in zip(callers, arrays, strict=True)]
    rows = await fetch_rows(
        tx,
        Q.insert_arrays,
        {
            "together": together,
            "jobs": sum(array.size for array in arrays),
            "distinct_digests": array_text({array.digest for array in arrays}),
            **_columns(kinds),
            "kinds": _numbers(kind_of),
            "names": array_text(array.name for array in arrays),
            "sizes": _numbers(array.size for array in arrays),
            "specs": array_text(array.spec.decode() for array in arrays),
            "keys": array_text(array.key for array in arrays),
            "block_ordinals": _numbers(n for n, array in enumerate(arrays, 1) for _ in array.elements),
            "blocks": _numbers(block for array in arrays for block in range(len(array.elements))),
            "elements": array_text(block.decode() for array in arrays for block in array.elements),
            "sandbox_ordinals": _numbers(n for n, array in enumerate(arrays, 1) for _ in array.sandbox_ids),
            "sandbox_ids": _numbers(sandbox_id for array in arrays for sandbox_id in array.sandbox_ids),
        },
    )
    return [Ids(*row) for row in rows]


# What arrays may have in common, in the order of `_kind`.
_KIND = (
    "vo_ids", "owner_ids", "group_ids", "job_groups", "job_types", "digests", "priorities", "statuses",
    "minor_statuses", "deadlines", "retries",
)  # fmt: skip


def _kind(caller: Caller, array: NewArray) -> tuple[Any, ...]:
    return (
        caller.vo_id,
        caller.user_id,
        caller.group_id,
        array.job_group,
        array.job_type,
        array.digest,
        array.priority,
        array.status,
        array.minor_status,
        array.deadline,
        array.retries,
    )


def _columns(kinds: Iterable[tuple[Any, ...]]) -> dict[str, str]:
    return {name: array_text(map(_plain, values)) for name, values in zip(_KIND, zip(*kinds, strict=True), strict=True)}


def _plain(value: Any) -> str | int | bytes | None:
    if isinstance(value, datetime):
        return value.isoformat()
    return f"{{{','.join(map(str, value))}}}" if isinstance(value, tuple) else value


def _numbers(values: Iterable[int]) -> str:
    return f"{{{','.join(map(str, values))}}}"


async def insert_task_queues(tx: Tx, vo_id: int, queues: Sequence[Requirements]) -> None:
    distinct = {rules.digest(queue): queue for queue in queues}
    await execute(
        tx,
        Q.insert_task_queues,
        {
            "vo_id": vo_id,
            "queues": [msgspec.json.encode(queue).decode() for queue in distinct.values()],
            "digests": list(distinct),
        },
    )


async def task_queue_of(tx: Tx, wants: Requirements) -> int:
    """The queue of these requirements, made when it is not there yet."""
    parameters = {"vo_id": wants.vo_id, "digest": rules.digest(wants)}
    found = await fetch_value(tx, Q.find_task_queue, parameters)
    if found is None:
        await insert_task_queues(tx, wants.vo_id, [wants])
        found = await fetch_value(tx, Q.find_task_queue, parameters)
    return int(found)


async def find_arrays_by_key(tx: Tx, caller: Caller, keys: Sequence[str]) -> list[StoredArray]:
    parameters = {"vo_id": caller.vo_id, "owner_id": caller.user_id, "keys": list(keys)}
    return await fetch(tx, StoredArray, Q.find_arrays_by_key, parameters)


async def find_upstream(tx: Tx, vo_id: int, job_ids: Sequence[int], array_ids: Sequence[int]) -> list[Upstream]:
    parameters = {"vo_id": vo_id, "job_ids": list(job_ids), "array_ids": list(array_ids)}
    return await fetch(tx, Upstream, Q.find_upstream, parameters)


async def insert_dependencies(tx: Tx, vo_id: int, dependencies: Sequence[UpstreamOf]) -> None:
    parameters: dict[str, Any] = {
        "vo_id": vo_id,
        "array_ids": [each.array_id for each in dependencies],
        "firsts": [each.first for each in dependencies],
        "lasts": [each.last for each in dependencies],
        "conditions": [each.condition.value for each in dependencies],
        "eaches": [each.each for each in dependencies],
    }
    await execute(tx, Q.insert_dependencies, parameters)


async def insert_notifications(tx: Tx, vo_id: int, wanted: Sequence[tuple[int, Notify]]) -> None:
    """`wanted` are arrays and whom to tell; each condition is a notification of its own."""
    rows = [(array_id, each, condition) for array_id, each in wanted for condition in dict.fromkeys(each.on)]
    parameters: dict[str, Any] = {
        "vo_id": vo_id,
        "array_ids": [array_id for array_id, _, _ in rows],
        "conditions": [condition.value for _, _, condition in rows],
        "emails": [each.email for _, each, _ in rows],
        "webhooks": [each.webhook for _, each, _ in rows],
    }
    await execute(tx, Q.insert_notifications, parameters)


async def requirements_of(tx: Tx, vo_id: int, task_queue_id: int) -> Requirements:
    """What the jobs of a queue ask for."""
    wants = await fetch_value(tx, Q.find_requirements, {"vo_id": vo_id, "task_queue_id": task_queue_id})
    return msgspec.convert(wants, Requirements)
