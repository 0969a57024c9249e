"""Sandboxes: small tar archives that travel with jobs, stored once per owner and content.

The blob is complete and flushed before its row is committed, and a row goes before its blob does; between the two an
advisory lock on the blob's name keeps an upload and the sweep apart.
"""

import asyncio
import errno
import hashlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import msgspec

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.errors import BadInput, BodyTooLarge, SpinorError, Unavailable
from spinor.jobs.attempts import store as attempts
from spinor.jobs.errors import StaleReport, UnknownJob, UnknownSandbox
from spinor.jobs.models import Sandbox, SandboxRef
from spinor.jobs.sandboxes import store

MAX_SANDBOX_BYTES = 100 * 1024 * 1024
UNUSED_DAYS = 15
_WRITE_BYTES = 1024 * 1024
_TAR_MAGIC = (257, b"ustar")
_SWEEP_BATCH = 1000


class SandboxTooLarge(BodyTooLarge):
    """A sandbox has at most 100 MiB; put larger files on a storage element and name them in `input_data`."""

    code = "sandbox-too-large"


class NotATar(BadInput):
    """The body is not an uncompressed tar archive."""

    code = "not-a-tar"


class BlobStoreFull(Unavailable):
    """The disk of the sandboxes is full; nothing was stored. Try again later, or tell the operator."""

    status, code = 507, "blob-store-full"


class SandboxGone(SpinorError):
    """The bytes of this sandbox are gone from the service's disk; tell the operator."""

    status, code = 410, "sandbox-gone"


class Blob(msgspec.Struct, frozen=True, kw_only=True):
    """The name of a blob below the blob directory says whose it is and what is in it."""

    vo_id: int
    owner_id: int
    sha256: str

    @property
    def name(self) -> str:
        return f"sandboxes/{self.vo_id}/{self.owner_id}/{self.sha256[:2]}/{self.sha256}.tar"


class _Arriving:
    """A body on its way to disk: hashed, counted, and given up as soon as it is too large."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._first = b""
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self.size_bytes += len(data)
        if self.size_bytes > MAX_SANDBOX_BYTES:
            raise SandboxTooLarge(limit_bytes=MAX_SANDBOX_BYTES)
        self._first = self._first or data[:512]
        self._digest.update(data)
        self._file.write(data)

    def close(self) -> str:
        """Flush to the disk; the SHA-256 of what came."""
        start, magic = _TAR_MAGIC
        if self._first[start : start + len(magic)] != magic and self._first.strip(b"\0"):
            raise NotATar()
        if not self._first:
            raise NotATar("The body is empty; send an uncompressed tar archive.")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._digest.hexdigest()


async def receive_sandbox(
    db: Database, blob_dir: Path, owner: tuple[int, int], body: AsyncIterator[bytes]
) -> SandboxRef:
    """Store an archive for `owner`, which is (VO, user). The same content again is the same sandbox."""
    folder = blob_dir / "incoming"
    path = folder / secrets.token_hex(8)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            arriving = _Arriving(file)
            async for part in _in_larger_parts(body):
                await asyncio.to_thread(arriving.write, part)
            sha256 = await asyncio.to_thread(arriving.close)
        blob = Blob(vo_id=owner[0], owner_id=owner[1], sha256=sha256)
        async with db.transaction() as tx:
            await store.lock_blob(tx, blob.name)
            sandbox_id = await store.insert_sandbox(tx, *owner, sha256, arriving.size_bytes)
            await asyncio.to_thread(_move, path, blob_dir / blob.name)
        return SandboxRef(sandbox_id=sandbox_id, sha256=sha256, size_bytes=arriving.size_bytes)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise BlobStoreFull() from error
        raise
    finally:
        path.unlink(missing_ok=True)


async def _in_larger_parts(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    held: list[bytes] = []
    size = 0
    async for part in body:
        held.append(part)
        size += len(part)
        if size >= _WRITE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


async def receive_sandbox_of_attempt(
    db: Database, blob_dir: Path, pilot: Caller, job: tuple[int, int], body: AsyncIterator[bytes]
) -> SandboxRef:
    """Store the output of an attempt, (job, attempt), for the job's owner. StaleReport when it is not the pilot's."""
    job_id, attempt = job
    async with db.transaction() as tx:
        held = await attempts.lock_held_job(tx, pilot, job_id, attempt)
    if held is None:
        raise StaleReport(job_id=job_id, attempt=attempt)
    return await receive_sandbox(db, blob_dir, (pilot.vo_id, held.owner_id), body)


async def find_sandbox(tx: Tx, caller: Caller, blob_dir: Path, sandbox_id: int) -> tuple[Sandbox, Path]:
    """A sandbox of the VO and where its bytes are."""
    found = await store.find_sandboxes(tx, caller.vo_id, [sandbox_id])
    if not found:
        raise UnknownSandbox(f"There is no sandbox {sandbox_id} in your VO.", sandbox_id=sandbox_id)
    return found[0], _existing(found[0], blob_dir)


async def find_sandbox_of_attempt(
    tx: Tx, pilot: Caller, blob_dir: Path, job: tuple[int, int], sandbox_id: int
) -> tuple[Sandbox, Path]:
    """An input sandbox of an attempt that the pilot holds; `job` is (job, attempt)."""
    found = await store.find_sandbox_of_attempt(tx, pilot, job, sandbox_id)
    if found is None:
        job_id, attempt = job
        raise StaleReport(job_id=job_id, attempt=attempt, sandbox_id=sandbox_id)
    return found, _existing(found, blob_dir)


async def find_output(tx: Tx, caller: Caller, blob_dir: Path, job_id: int) -> tuple[Sandbox, Path]:
    """The newest output sandbox of a job."""
    output = await store.find_output_sandbox(tx, caller.vo_id, job_id)
    if output is None:
        job = await attempts.find_attempt(tx, caller.vo_id, job_id)
        if job is None:
            raise UnknownJob(f"There is no job {job_id} in your VO.", job_id=job_id)
        raise UnknownSandbox(
            f"Job {job_id} has no output sandbox (it is {job.status.value}); "
            f"see `spinor job log {job_id}` and `spinor job explain {job_id}`.",
            job_id=job_id,
        )
    return await find_sandbox(tx, caller, blob_dir, output.sandbox_id)


def _existing(sandbox: Sandbox, blob_dir: Path) -> Path:
    blob = Blob(vo_id=sandbox.vo_id, owner_id=sandbox.owner_id, sha256=sandbox.sha256)
    path = blob_dir / blob.name
    if not path.is_file():
        raise SandboxGone(sandbox_id=sandbox.sandbox_id)
    return path


async def sweep_sandboxes(db: Database, blob_dir: Path, now: datetime | None = None) -> tuple[int, int]:
    """Forget sandboxes that no job has named for 15 days, and delete blobs without a row; how many of each."""
    at = now or datetime.now(UTC)
    async with db.transaction() as tx:
        rows = await store.delete_unused_sandboxes(tx, at - timedelta(days=UNUSED_DAYS))
    blobs = 0
    for batch in await asyncio.to_thread(_old_blobs, blob_dir):
        blobs += await _sweep(db, blob_dir, batch)
    return rows, blobs


def _old_blobs(blob_dir: Path) -> list[list[Blob]]:
    """The blobs that were written more than a day ago, in batches; what was left half-uploaded is deleted."""
    yesterday = time.time() - 86_400
    for path in (blob_dir / "incoming").glob("*"):
        if path.stat().st_mtime < yesterday:
            path.unlink(missing_ok=True)
    found = list(_blobs_before(blob_dir, yesterday))
    return [found[n : n + _SWEEP_BATCH] for n in range(0, len(found), _SWEEP_BATCH)]


def _blobs_before(blob_dir: Path, instant: float) -> Iterator[Blob]:
    for path in (blob_dir / "sandboxes").glob("*/*/*/*.tar"):
        vo_id, owner_id = path.parts[-4:-2]
        if vo_id.isdigit() and owner_id.isdigit() and len(path.stem) == 64 and path.stat().st_mtime < instant:
            yield Blob(vo_id=int(vo_id), owner_id=int(owner_id), sha256=path.stem)


async def _sweep(db: Database, blob_dir: Path, batch: list[Blob]) -> int:
    async with db.transaction() as tx:
        known = await store.list_known_blobs(tx, [(b.name, b.vo_id, b.owner_id, b.sha256) for b in batch])
    swept = 0
    for blob in batch:
        if blob.name in known:
            continue
        async with db.transaction() as tx:
            await store.lock_blob(tx, blob.name)
            # It may have been uploaded again since the first look.
            if not await store.list_known_blobs(tx, [(blob.name, blob.vo_id, blob.owner_id, blob.sha256)]):
                await asyncio.to_thread((blob_dir / blob.name).unlink, missing_ok=True)
                swept += 1
    return swept
