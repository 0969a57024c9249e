"""Start an operation, and look on until it ends."""

import time
import uuid
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.catalog.operations.models import OperationShown
    from spinor.client import Client

_LOOK_S = (0.1, 0.2, 0.5)
_SHOWN_REFUSALS = 20
_EXIT = {"done": 0, "cancelled": 1, "failed": 1}


def start(client: "Client", request: dict[str, Any], *, wait: bool, as_json: bool, quiet: bool) -> int:
    """Ask for an operation, once, however often the question has to be sent; the exit code."""
    from spinor.catalog.operations.models import OperationShown
    from spinor.terminal import say

    key = {"idempotency_key": str(uuid.uuid4())}
    operation = client.post("/api/file-operations", request | key, OperationShown)
    if not wait and operation.ended_at is None:
        click.echo(operation.operation_id)
        if not quiet:
            say(f"It runs in the background: spinor file operation show {operation.operation_id}")
        return 0
    return follow(client, operation, as_json=as_json, quiet=quiet)


def follow(client: "Client", operation: "OperationShown", *, as_json: bool, quiet: bool) -> int:
    """Show the progress until the end; then what was done and what was refused. The exit code."""
    from spinor.terminal import say

    try:
        operation = _ended(client, operation)
    except KeyboardInterrupt:
        number = operation.operation_id
        say(
            f"\nOperation {number} goes on in the background. Follow it by `spinor file operation wait {number}`; "
            f"`spinor file operation pause {number}` stops it for a time, `cancel` for good."
        )
        return 130
    return _told(client, operation, as_json=as_json, quiet=quiet)


def _ended(client: "Client", operation: "OperationShown") -> "OperationShown":
    from spinor.catalog.operations.models import OperationShown
    from spinor.terminal import Progress

    looks = iter(_LOOK_S)
    on_files = operation.arguments.get("target") != "directories"
    total = operation.total_files if on_files else operation.total_directories
    if operation.ended_at is not None:
        return operation
    with Progress(operation.kind, total, unit="files" if on_files else "directories") as progress:
        while operation.ended_at is None:
            time.sleep(next(looks, _LOOK_S[-1]))
            operation = client.get(f"/api/file-operations/{operation.operation_id}", OperationShown)
            note = f"{operation.refused:,} refused" if operation.refused else ""
            if operation.state != "running":
                note = operation.state.value
            progress.set(operation.done_files if on_files else operation.done_directories, note)
    return operation


def _told(client: "Client", operation: "OperationShown", *, as_json: bool, quiet: bool) -> int:
    from spinor.catalog.operations.models import RefusalPage
    from spinor.terminal import printable, say, show_one, size

    number = operation.operation_id
    if as_json:
        show_one(operation, as_json=True)
    elif quiet:
        click.echo(number)
    else:
        would = "would be " if operation.arguments.get("dry_run") else ""
        say(
            f"{operation.kind}: {operation.done_files:,} files ({size(operation.done_bytes)}) and "
            f"{operation.done_directories:,} directories {would}done, {operation.refused:,} refused"
        )
        if operation.error:
            say(f"spinor: operation {number} {operation.state.value}: {printable(operation.error)}")
    if operation.refused and not as_json:
        asked = {"limit": _SHOWN_REFUSALS}
        page = client.get(f"/api/file-operations/{number}/refusals", RefusalPage, query=asked)
        for refusal in page.rows:
            say(f"spinor: {printable(refusal.reason)}")
        if operation.refused > len(page.rows):
            say(f"spinor: all {operation.refused:,}: spinor file operation refusals {number}")
    return _EXIT[operation.state] or (1 if operation.refused else 0)
