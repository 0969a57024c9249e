"""The rows of sandboxes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from spinor.access import Caller
from spinor.db import Queries, Tx, execute, fetch, fetch_one, fetch_rows, fetch_value
from spinor.jobs.attempts.store import held_by
from spinor.jobs.models import OutputSandbox, Sandbox, SandboxRef
from spinor.jobs.rows import SandboxOfArray

Q = Queries("spinor.jobs.sandboxes")


class Owner(NamedTuple):
    vo_id: int
    owner_id: int


class Use(msgspec.Struct, frozen=True, kw_only=True):
    used_bytes: int
    user_used_bytes: int


class StoredUpload(msgspec.Struct, frozen=True, kw_only=True):
    upload_id: str
    sha256: str
    size_bytes: int
    ends: list[int]  # Of the parts that came, in order.

    @property
    def position(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def parts(self) -> list[str]:
        """The names of their blobs."""
        starts = [0, *self.ends[:-1]]
        return [part_name(self.upload_id, start, end) for start, end in zip(starts, self.ends, strict=True)]


def part_name(upload_id: str, start: int, end: int) -> str:
    return f"uploads/{upload_id}/{start:012}-{end:012}"


async def lock_blob(tx: Tx, name: str) -> None:
    await execute(tx, Q.lock_blob, {"name": name})


async def keep_sandbox(tx: Tx, owner: Owner, sha256: str, size_bytes: int) -> int:
    parameters = {**_of(owner), "sha256": sha256, "size_bytes": size_bytes}
    return int(await fetch_value(tx, Q.keep_sandbox, parameters))


def _of(owner: Owner) -> dict[str, Any]:
    return {"vo_id": owner.vo_id, "owner_id": owner.owner_id}


async def lock_quota(tx: Tx, vo_id: int) -> None:
    await execute(tx, Q.lock_quota, {"vo_id": vo_id})


async def find_use(tx: Tx, owner: Owner) -> Use:
    found = await fetch_one(tx, Use, Q.find_use, _of(owner))
    assert found is not None
    return found


async def touch_sandbox(tx: Tx, owner: Owner, sha256: str) -> SandboxRef | None:
    return await fetch_one(tx, SandboxRef, Q.touch_sandbox, {**_of(owner), "sha256": sha256})


async def touch_upload(tx: Tx, owner: Owner, sha256: str) -> StoredUpload | None:
    return await fetch_one(tx, StoredUpload, Q.touch_upload, {**_of(owner), "sha256": sha256})


async def insert_upload(tx: Tx, owner: Owner, sha256: str, size_bytes: int) -> StoredUpload:
    parameters = {**_of(owner), "sha256": sha256, "size_bytes": size_bytes}
    found = await fetch_one(tx, StoredUpload, Q.insert_upload, parameters)
    assert found is not None
    return found


async def find_upload(tx: Tx, owner: Owner, upload_id: UUID) -> StoredUpload | None:
    return await fetch_one(tx, StoredUpload, Q.find_upload, {**_of(owner), "upload_id": upload_id})


async def add_part(tx: Tx, owner: Owner, upload_id: UUID, span: tuple[int, int]) -> StoredUpload | None:
    """None: the upload does not stand at the part's beginning, or is gone."""
    parameters = {**_of(owner), "upload_id": upload_id, "begins_at": span[0], "ends_at": span[1]}
    return await fetch_one(tx, StoredUpload, Q.add_part, parameters)


async def delete_upload(tx: Tx, owner: Owner, upload_id: str) -> None:
    await execute(tx, Q.delete_upload, {**_of(owner), "upload_id": upload_id})


async def expire_uploads(tx: Tx, before: datetime) -> int:
    return await execute(tx, Q.expire_uploads, {"before": before})


async def list_known_uploads(tx: Tx, upload_ids: Sequence[str]) -> set[str]:
    return {row[0] for row in await fetch_rows(tx, Q.list_known_uploads, {"upload_ids": list(upload_ids)})}


async def refuse_output(tx: Tx, pilot: Caller, job: tuple[int, int], code: str, detail: str) -> None:
    await execute(tx, Q.refuse_output, {**held_by(pilot, *job), "code": code, "detail": detail[:1000]})


async def find_refused_output(tx: Tx, vo_id: int, job_id: int) -> str | None:
    detail: str | None = await fetch_value(tx, Q.find_refused_output, {"vo_id": vo_id, "job_id": job_id})
    return detail


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


async def unlink_deleted_jobs(tx: Tx) -> None:
    await execute(tx, Q.unlink_deleted_jobs)


async def delete_unused_sandboxes(tx: Tx, before: datetime) -> int:
    return int(await fetch_value(tx, Q.delete_unused_sandboxes, {"before": before}))


async def list_known_blobs(tx: Tx, blobs: Sequence[tuple[str, int, int, str]]) -> set[str]:
    """Which of these blobs, (name, VO, owner, SHA-256), have a row."""
    names, vo_ids, owner_ids, sha256s = (list(column) for column in zip(*blobs, strict=True))
    parameters = {"names": names, "vo_ids": vo_ids, "owner_ids": owner_ids, "sha256s": sha256s}
    return {row[0] for row in await fetch_rows(tx, Q.list_known_blobs, parameters)}
