"""The rows of sandboxes."""

from collections.abc import Sequence
from datetime import datetime

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs.attempts.store import held_by
from spinor.jobs.models import OutputSandbox, Sandbox
from spinor.jobs.rows import SandboxOfArray

Q = Queries("spinor.jobs.sandboxes")


async def lock_blob(tx: Tx, name: str) -> None:
    await execute(tx, Q.lock_blob, {"name": name})


async def insert_sandbox(tx: Tx, vo_id: int, owner_id: int, sha256: str, size_bytes: int) -> int:
    parameters = {"vo_id": vo_id, "owner_id": owner_id, "sha256": sha256, "size_bytes": size_bytes}
    return int(await fetch_value(tx, Q.insert_sandbox, parameters))


async def find_sandboxes(tx: Tx, vo_id: int, sandbox_ids: Sequence[int]) -> list[Sandbox]:
    return await fetch(tx, Sandbox, Q.find_sandboxes, {"vo_id": vo_id, "sandbox_ids": list(sandbox_ids)})


async def list_sandboxes_of_arrays(tx: Tx, vo_id: int, array_ids: Sequence[int]) -> list[SandboxOfArray]:
    parameters = {"vo_id": vo_id, "array_ids": list(array_ids)}
    return await fetch(tx, SandboxOfArray, Q.list_sandboxes_of_arrays, parameters)


async def find_sandbox_of_attempt(tx: Tx, pilot: Caller, job: tuple[int, int], sandbox_id: int) -> Sandbox | None:
    parameters = {**held_by(pilot, *job), "sandbox_id": sandbox_id}
    return await fetch_one(tx, Sandbox, Q.find_sandbox_of_attempt, parameters)


async def find_output_sandbox(tx: Tx, vo_id: int, job_id: int) -> OutputSandbox | None:
    return await fetch_one(tx, OutputSandbox, Q.find_output_sandbox, {"vo_id": vo_id, "job_id": job_id})


async def delete_unused_sandboxes(tx: Tx, before: datetime) -> int:
    return await execute(tx, Q.delete_unused_sandboxes, {"before": before})


async def list_known_blobs(tx: Tx, blobs: Sequence[tuple[str, int, int, str]]) -> set[str]:
    """Which of these blobs, (name, VO, owner, SHA-256), have a row."""
    names, vo_ids, owner_ids, sha256s = (list(column) for column in zip(*blobs, strict=True))
    parameters = {"names": names, "vo_ids": vo_ids, "owner_ids": owner_ids, "sha256s": sha256s}
    return {row[0] for row in await fetch_rows(tx, Q.list_known_blobs, parameters)}
