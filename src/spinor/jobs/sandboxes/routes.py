"""Sandboxes over HTTP: stored in one go or in parts, fetched from here or, for who follows, from the store itself."""

import re
from uuid import UUID

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from spinor.access import Caller, Scope
from spinor.blobs import BlobGone, Blobs
from spinor.db import Database, Tx
from spinor.errors import BadInput
from spinor.http import Routes, State, read_body
from spinor.jobs.models import BeginUpload, DownloadQuery, Sandbox, SandboxRef, SandboxUse, Upload
from spinor.jobs.sandboxes import quota, service, uploads
from spinor.jobs.sandboxes.store import Owner

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")
_SIGNED_S = 300  # For so long whoever holds a signed address may read the one sandbox that it names.
_TAR = "application/x-tar"

routes = Routes("jobs")


@routes.get("/api/jobs/{job_id}/output", scope=Scope.JOBS_READ)
async def job_output(db: Database, caller: Caller, job_id: int, query: DownloadQuery, state: State) -> Response:
    """Fetch a job's output sandbox, as a tar archive."""
    async with db.transaction() as tx:
        sandbox = await service.find_output(tx, caller, job_id)
    return await sandbox_response(state[Blobs], sandbox, direct=query.direct)


@routes.put("/api/sandboxes", scope=Scope.JOBS_SUBMIT, body_type=_TAR)
async def put_sandbox(db: Database, caller: Caller, request: Request, state: State) -> SandboxRef:
    """Store an input sandbox, an uncompressed tar archive; the same content again is the same sandbox."""
    owner = Owner(caller.vo_id, caller.user_id)
    return await service.receive_sandbox(db, state[Blobs], owner, request.stream())


@routes.get("/api/sandboxes/use", scope=Scope.JOBS_READ)
async def sandbox_use(reads: Tx, caller: Caller) -> SandboxUse:
    """Say what the sandboxes of the VO and one's own take, and may take."""
    return await quota.sandbox_use(reads, caller)


@routes.post("/api/sandboxes/uploads", scope=Scope.JOBS_SUBMIT)
async def begin_upload(db: Database, caller: Caller, body: BeginUpload, state: State) -> Upload:
    """Begin to store a sandbox in parts, or go on with one; what is stored already is not sent again."""
    return await uploads.begin_upload(db, state[Blobs], caller, body)


@routes.get("/api/sandboxes/uploads/{upload_id}", scope=Scope.JOBS_SUBMIT)
async def show_upload(db: Database, caller: Caller, upload_id: UUID) -> Upload:
    """Say how far an upload has come."""
    return await uploads.show_upload(db, caller, upload_id)


@routes.put("/api/sandboxes/uploads/{upload_id}", scope=Scope.JOBS_SUBMIT, body_type="application/octet-stream")
async def put_part(db: Database, caller: Caller, upload_id: UUID, request: Request, state: State) -> Upload:
    """Send a part of a sandbox, with a header Content-Range: bytes START-LAST/SIZE."""
    match = _RANGE.fullmatch(request.headers.get("content-range", ""))
    if match is None:
        raise BadInput("A part needs the header Content-Range: bytes START-LAST/SIZE.", field="Content-Range")
    start, last, size_bytes = map(int, match.groups())
    data = await read_body(request, uploads.PART_BYTES)
    return await uploads.put_part(db, state[Blobs], caller, upload_id, (start, last + 1, size_bytes), data)


@routes.get("/api/sandboxes/{sandbox_id}", scope=Scope.JOBS_READ)
async def get_sandbox(db: Database, caller: Caller, sandbox_id: int, query: DownloadQuery, state: State) -> Response:
    """Fetch a sandbox of the VO, as a tar archive."""
    async with db.transaction() as tx:
        sandbox = await service.find_sandbox(tx, caller, sandbox_id)
    return await sandbox_response(state[Blobs], sandbox, direct=query.direct)


async def sandbox_response(blobs: Blobs, sandbox: Sandbox, *, direct: bool = False) -> Response:
    """The bytes as a stream, or a redirect to the store when that will do; their SHA-256 is the ETag."""
    name, headers = service.blob_of(sandbox), {"ETag": f'"{sandbox.sha256}"', "Cache-Control": "no-store"}
    if await blobs.place.size(name) is None:
        raise BlobGone(sandbox_id=sandbox.sandbox_id)
    if path := blobs.place.path(name):
        return FileResponse(path, media_type=_TAR, headers=headers)
    if direct and (url := await blobs.place.url(name, _SIGNED_S)):
        return RedirectResponse(url, 307, headers)
    headers["Content-Length"] = str(sandbox.size_bytes)
    return StreamingResponse(blobs.place.read(name), media_type=_TAR, headers=headers)
