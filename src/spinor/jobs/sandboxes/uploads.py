"""A sandbox that comes in parts: whoever loses the connection, or the server, goes on with the part that is missing.

Each part is a blob of its own, whole or not there, so that any server can take the next one. With the last one the
parts become the sandbox, if its SHA-256 is what was announced.
"""

from collections.abc import AsyncIterator
from uuid import UUID

from spinor.access import Caller
from spinor.blobs import Blobs
from spinor.db import Database
from spinor.errors import BadInput, Conflict, NotFound
from spinor.jobs.models import BeginUpload, SandboxRef, Upload
from spinor.jobs.sandboxes import quota, service, store
from spinor.jobs.sandboxes.store import Owner, StoredUpload

PART_BYTES = 8 * 1024 * 1024


class UnknownUpload(NotFound):
    """There is no such upload of yours: it is complete, or was given up a day after its last part. Begin it again."""

    code = "unknown-upload"


class UploadGap(Conflict):
    """Parts before this one are missing; go on from the position given here."""

    code = "upload-gap"


class BadPart(BadInput):
    """The part does not fit into its upload."""

    code = "bad-part"


class WrongChecksum(BadInput):
    """What came has another SHA-256 than was announced; it was thrown away. Begin again."""

    code = "wrong-checksum"


async def begin_upload(db: Database, blobs: Blobs, caller: Caller, body: BeginUpload) -> Upload:
    """Announce a sandbox. One that the caller has already is complete at once; one that was begun goes on where it was.

    Raises SandboxTooLarge and SandboxQuota before a byte is sent.
    """
    owner = Owner(caller.vo_id, caller.user_id)
    blob = service.Blob(vo_id=owner.vo_id, owner_id=owner.owner_id, sha256=body.sha256)
    async with db.transaction() as tx:
        await store.lock_blob(tx, blob.name)
        known = await quota.reserve(tx, owner, body.sha256, body.size_bytes)
    if isinstance(known, SandboxRef):
        if await blobs.place.size(blob.name) is not None:
            return _told(known.sha256, known.size_bytes, known.size_bytes, known)
        async with db.transaction() as tx:  # Its bytes were lost; this brings them back.
            await store.lock_blob(tx, blob.name)
            known = await quota.reserve_upload(tx, owner, body.sha256, body.size_bytes)
    return await _complete_or_not(db, blobs, owner, known)


async def show_upload(db: Database, caller: Caller, upload_id: UUID) -> Upload:
    """How far it has come. Raises UnknownUpload."""
    async with db.transaction() as tx:
        found = await store.find_upload(tx, Owner(caller.vo_id, caller.user_id), upload_id)
    if found is None:
        raise UnknownUpload
    return _told(found.upload_id, found.position, found.size_bytes)


async def put_part(
    db: Database, blobs: Blobs, caller: Caller, upload_id: UUID, span: tuple[int, int, int], data: bytes
) -> Upload:
    """Keep bytes `start` to `end` (not included) of `size`. A part that came before is harmless.

    Raises UnknownUpload, UploadGap (with the position to go on from), BadPart, and with the last part WrongChecksum.
    """
    owner = Owner(caller.vo_id, caller.user_id)
    start, end, size_bytes = span
    async with db.transaction() as tx:
        found = await store.find_upload(tx, owner, upload_id)
    if found is None:
        raise UnknownUpload
    if size_bytes != found.size_bytes or not start < end <= size_bytes or len(data) != end - start:
        raise BadPart(
            f"The part says bytes {start} to {end} of {size_bytes} and has {len(data)}; the upload has "
            f"{found.size_bytes} bytes.",
            field="Content-Range",
        )
    if start > found.position:
        raise UploadGap(position=found.position, upload_id=found.upload_id)
    if start == found.position:
        await blobs.place.put_bytes(store.part_name(found.upload_id, start, end), data)
        async with db.transaction() as tx:
            added = await store.add_part(tx, owner, upload_id, (start, end))
            # Somebody else may have been faster, with the same part or with the last one.
            found = added or await store.find_upload(tx, owner, upload_id)
        if found is None:
            raise UnknownUpload
    return await _complete_or_not(db, blobs, owner, found)


async def _complete_or_not(db: Database, blobs: Blobs, owner: Owner, found: StoredUpload) -> Upload:
    if found.position < found.size_bytes:
        return _told(found.upload_id, found.position, found.size_bytes)
    try:
        async with blobs.spooled(_joined(blobs, found), found.size_bytes) as spooled:
            _compare(spooled.sha256, found.sha256)
            await service.check_tar(spooled)
            sandbox = await service.keep(db, blobs, owner, spooled)
    except (WrongChecksum, service.NotATar):
        async with db.transaction() as tx:
            await store.delete_upload(tx, owner, found.upload_id)
        await blobs.place.remove(found.parts)
        raise
    await blobs.place.remove(found.parts)
    return _told(found.upload_id, found.size_bytes, found.size_bytes, sandbox)


def _compare(sha256: str, announced: str) -> None:
    if sha256 != announced:
        raise WrongChecksum(sha256=sha256, announced_sha256=announced)


async def _joined(blobs: Blobs, found: StoredUpload) -> AsyncIterator[bytes]:
    for name in found.parts:
        async for data in blobs.place.read(name):
            yield data


def _told(upload_id: str, position: int, size_bytes: int, sandbox: SandboxRef | None = None) -> Upload:
    return Upload(upload_id=upload_id, position=position, size_bytes=size_bytes, part_bytes=PART_BYTES, sandbox=sandbox)
