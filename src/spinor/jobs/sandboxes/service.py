"""Sandboxes: small tar archives that travel with jobs, stored once per owner and content.

A reservation is committed before the blob is written, and the row when the blob is complete; a row goes before its blob
does. An advisory lock on the blob's name keeps a reservation and the sweep apart.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec

from spinor.access import Caller
from spinor.blobs import Blobs, BlobTooLarge, Spooled
from spinor.configuration import service as configuration
from spinor.db import Database, Tx
from spinor.errors import BadInput, BodyTooLarge
from spinor.jobs.attempts import store as attempts
from spinor.jobs.errors import StaleReport, UnknownJob, UnknownSandbox
from spinor.jobs.models import Sandbox, SandboxRef
from spinor.jobs.sandboxes import quota, store
from spinor.jobs.sandboxes.store import Owner

UNUSED_DAYS = 15
UPLOAD_DAYS = 1  # An upload that got no part for so long is given up.
_TAR_MAGIC = (257, b"ustar")


class NotATar(BadInput):
    """The body is not an uncompressed tar archive."""

    code = "not-a-tar"


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a blob says whose it is and what is in it."""

    vo_id: int
    owner_id: int
    sha256: str

    @property
    def name(self) -> str:
        return f"sandboxes/{self.vo_id}/{self.owner_id}/{self.sha256[:2]}/{self.sha256}.tar"

    @classmethod
    def of(cls, name: str) -> "Blob | None":
        """None for a name that is not ours."""
        parts = name.split("/")
        if len(parts) != 5 or not (parts[1].isdigit() and parts[2].isdigit()):
            return None
        blob = cls(vo_id=int(parts[1]), owner_id=int(parts[2]), sha256=parts[4].removesuffix(".tar"))
        return blob if blob.name == name and len(blob.sha256) == 64 else None


def blob_of(sandbox: Sandbox) -> str:
    return Blob(vo_id=sandbox.vo_id, owner_id=sandbox.owner_id, sha256=sandbox.sha256).name


async def receive_sandbox(db: Database, blobs: Blobs, owner: Owner, body: AsyncIterator[bytes]) -> SandboxRef:
    """Store an archive in one go. The same content again is the same sandbox.

    Raises NotATar, SandboxTooLarge and SandboxQuota, BlobStoreFull.
    """
    async with db.transaction() as tx:
        limits = await configuration.sandbox_limits(tx, owner.vo_id)
    try:
        async with blobs.spooled(body, limits.limit_bytes) as spooled:
            await check_tar(spooled)
            async with db.transaction() as tx:
                await store.lock_blob(tx, Blob(vo_id=owner.vo_id, owner_id=owner.owner_id, sha256=spooled.sha256).name)
                await quota.reserve(tx, owner, spooled.sha256, spooled.size_bytes)
            return await keep(db, blobs, owner, spooled)
    except BlobTooLarge as error:
        raise quota.too_large(limits, error.facts["size_bytes"]) from None


async def keep(db: Database, blobs: Blobs, owner: Owner, spooled: Spooled) -> SandboxRef:
    """Make a sandbox of a tar archive for which there is a reservation."""
    blob = Blob(vo_id=owner.vo_id, owner_id=owner.owner_id, sha256=spooled.sha256)
    await blobs.place.put(blob.name, spooled.path)
    async with db.transaction() as tx:
        sandbox_id = await store.keep_sandbox(tx, owner, spooled.sha256, spooled.size_bytes)
    return SandboxRef(sandbox_id=sandbox_id, sha256=spooled.sha256, size_bytes=spooled.size_bytes)


async def check_tar(spooled: Spooled) -> None:
    """Raises NotATar."""
    first = await asyncio.to_thread(_beginning, spooled.path)
    start, magic = _TAR_MAGIC
    if not first:
        raise NotATar("The body is empty; send an uncompressed tar archive.")
    if first[start : start + len(magic)] != magic and first.strip(b"\0"):
        raise NotATar


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


async def receive_sandbox_of_attempt(
    db: Database, blobs: Blobs, pilot: Caller, job: tuple[int, int], body: AsyncIterator[bytes]
) -> SandboxRef:
    """Store the output of an attempt, (job, attempt), for the job's owner. StaleReport when it is not the pilot's.

    What is too large is refused, and that is noted with the job, which goes on.
    """
    job_id, attempt = job
    async with db.transaction() as tx:
        held = await attempts.lock_held_job(tx, pilot, job_id, attempt)
    if held is None:
        raise StaleReport(job_id=job_id, attempt=attempt)
    try:
        return await receive_sandbox(db, blobs, Owner(pilot.vo_id, held.owner_id), body)
    except BodyTooLarge as error:
        async with db.transaction() as tx:
            await store.refuse_output(tx, pilot, job, error.code, error.message)
        raise


async def find_sandbox(tx: Tx, caller: Caller, sandbox_id: int) -> Sandbox:
    """A sandbox of the VO."""
    found = await store.find_sandboxes(tx, caller.vo_id, [sandbox_id])
    if not found:
        raise UnknownSandbox(f"There is no sandbox {sandbox_id} in your VO.", sandbox_id=sandbox_id)
    return found[0]


async def find_sandbox_of_attempt(tx: Tx, pilot: Caller, job: tuple[int, int], sandbox_id: int) -> Sandbox:
    """An input sandbox of an attempt that the pilot holds; `job` is (job, attempt)."""
    found = await store.find_sandbox_of_attempt(tx, pilot, job, sandbox_id)
    if found is None:
        job_id, attempt = job
        raise StaleReport(job_id=job_id, attempt=attempt, sandbox_id=sandbox_id)
    return found


async def find_output(tx: Tx, caller: Caller, job_id: int) -> Sandbox:
    """The newest output sandbox of a job."""
    output = await store.find_output_sandbox(tx, caller.vo_id, job_id)
    if output is None:
        job = await attempts.find_attempt(tx, caller.vo_id, job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
        refused = await store.find_refused_output(tx, caller.vo_id, job_id)
        raise UnknownSandbox(
            f"The output sandbox of job {job_id} was refused: {refused}"
            if refused
            else f"Job {job_id} has no output sandbox (it is {job.status.value}); "
            f"see `spinor job log {job_id}` and `spinor job explain {job_id}`.",
            job_id=job_id,
        )
    return await find_sandbox(tx, caller, output.sandbox_id)


async def sweep_sandboxes(db: Database, blobs: Blobs, now: datetime | None = None) -> tuple[int, int]:
    """Forget sandboxes that no job has named for 15 days, those of deleted jobs, and uploads that nobody goes on with;
    and delete blobs without a row. How many sandboxes and blobs.

    A blob younger than a day stays: its upload may still be on its way.
    """
    at = now or datetime.now(UTC)
    before = at - timedelta(days=UPLOAD_DAYS)
    async with db.transaction() as tx:
        await store.unlink_deleted_jobs(tx)
        rows = await store.delete_unused_sandboxes(tx, at - timedelta(days=UNUSED_DAYS))
        await store.expire_uploads(tx, before)
    swept = 0
    async for batch in blobs.place.list("sandboxes", before):
        swept += await _sweep(db, blobs, [blob for blob in (Blob.of(found.name) for found in batch) if blob])
    async for batch in blobs.place.list("uploads", before):
        swept += await _sweep_parts(db, blobs, [found.name for found in batch])
    await blobs.forget_spooled(before)
    return rows, swept


async def _sweep(db: Database, blobs: Blobs, batch: list[Blob]) -> int:
    if not batch:
        return 0
    async with db.transaction() as tx:
        known = await store.list_known_blobs(tx, [(b.name, b.vo_id, b.owner_id, b.sha256) for b in batch])
    swept = 0
    for blob in batch:
        if blob.name in known:
            continue
        async with db.transaction() as tx:
            await store.lock_blob(tx, blob.name)
            # It may have been reserved again since the first look.
            if not await store.list_known_blobs(tx, [(blob.name, blob.vo_id, blob.owner_id, blob.sha256)]):
                await blobs.place.remove([blob.name])
                swept += 1
    return swept


async def _sweep_parts(db: Database, blobs: Blobs, names: list[str]) -> int:
    """An upload's id is never given again, so nobody can begin to need a part that has no upload."""
    by_name = {name: name.split("/")[1] for name in names}
    wanted = [upload_id for upload_id in set(by_name.values()) if _is_uuid(upload_id)]
    async with db.transaction() as tx:
        known = await store.list_known_uploads(tx, wanted)
    gone = [name for name, upload_id in by_name.items() if upload_id in wanted and upload_id not in known]
    await blobs.place.remove(gone)
    return len(gone)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
