"""Sandboxes from the client's side: sent so that nothing is sent twice, and fetched from wherever they lie.

No part of this knows the database: it is what commands, notebooks and programs use.
"""

import hashlib
import http.client
import ssl
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from spinor.answers import RemoteError
from spinor.errors import ServerUnreachable, SpinorError
from spinor.jobs.models import BeginUpload, SandboxRef, Upload

if TYPE_CHECKING:
    from spinor.client import Client

_SMALL_BYTES = 256 * 1024  # Up to this size one request is all that it takes.
_TRIES = 5  # How often an upload is begun again that makes no progress.
Progress = Callable[[int], None]  # Is told how many bytes the server has.


class DamagedSandbox(SpinorError):
    """The bytes of the sandbox changed on the way; try again."""

    code, retry = "damaged-sandbox", True


def upload(client: "Client", archive: bytes, progress: Progress = lambda _: None) -> SandboxRef:
    """Store an archive: what the server has already is not sent, and what breaks off goes on where it was."""
    if len(archive) <= _SMALL_BYTES:
        return client.put("/api/sandboxes", archive, SandboxRef)
    announced = BeginUpload(sha256=hashlib.sha256(archive).hexdigest(), size_bytes=len(archive))
    tries = _TRIES
    while True:
        state = client.post("/api/sandboxes/uploads", announced, Upload)
        reached = state.position
        try:
            while state.sandbox is None:
                progress(state.position)
                state = _send_part(client, archive, state)
        except ServerUnreachable:
            tries -= 1
            if not tries:
                raise
        except RemoteError as error:
            # Another process of ours sends the same, or has just ended doing so.
            tries -= 1
            if error.code not in {"upload-gap", "unknown-upload", "blob-gone"} or not tries:
                raise
        else:
            progress(len(archive))
            return state.sandbox
        if state.position > reached:
            tries = _TRIES


def _send_part(client: "Client", archive: bytes, state: Upload) -> Upload:
    end = min(state.position + state.part_bytes, len(archive))
    headers = {
        "content-range": f"bytes {state.position}-{end - 1}/{len(archive)}",
        "content-type": "application/octet-stream",
    }
    path = f"/api/sandboxes/uploads/{state.upload_id}"
    _, data = client.request("PUT", path, archive[state.position : end], headers=headers)
    return msgspec.json.decode(data, type=Upload)


def download(client: "Client", path: str) -> bytes:
    """The archive at `path` of the API: from the store itself where that is offered and can be reached, else from the
    server. Raises DamagedSandbox.
    """
    headers, data = client.request("GET", path, query={"direct": "true"})
    if "location" in headers:
        direct = _fetched(headers["location"], client.server.ca_file)
        data = direct if direct is not None else client.get(path)
    expected = headers.get("etag", "").strip('"')
    if expected and hashlib.sha256(data).hexdigest() != expected:
        raise DamagedSandbox
    return data


def _fetched(url: str, ca_file: str | None) -> bytes | None:
    """None: the store cannot be reached or trusted from here. No token goes there: the address itself is signed."""
    parts = urllib.parse.urlsplit(url)
    try:
        if parts.scheme == "https":
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.netloc, timeout=60, context=_context(ca_file)
            )
        elif parts.scheme == "http":
            connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        else:
            return None
        try:
            connection.request("GET", f"{parts.path}?{parts.query}")
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else None
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return None


def _context(ca_file: str | None) -> ssl.SSLContext:
    """The system's authorities, and the one of the service itself, which may well have certified its store too."""
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False  # Names are in subjectAltName, and nowhere else.
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
