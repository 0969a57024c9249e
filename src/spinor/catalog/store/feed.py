"""The rows of the change feed."""

from collections.abc import Sequence
from typing import Any

from psycopg.types.json import Jsonb

from spinor.access import Caller
from spinor.catalog.store.files import on_files
from spinor.catalog.store.statements import Q
from spinor.db import Tx, array_text, execute


async def record_changes(
    tx: Tx, caller: Caller, kind: str, rows: Sequence[tuple[int, int, int | None, int | None]], **detail: Any
) -> None:
    """Tell the change feed of directories: (directory_id, files, first and last file_id)."""
    if rows:
        ids, files, first, last = (array_text(column) for column in zip(*rows, strict=True))
        values = {"directory_ids": ids, "files": files, "first_file_ids": first, "last_file_ids": last}
        given = Jsonb(detail) if detail else None
        await execute(tx, Q.record_changes, {"vo_id": caller.vo_id, "kind": kind, "detail": given, **values})


async def record_files(tx: Tx, caller: Caller, kind: str, file_ids: Sequence[int], **detail: Any) -> None:
    """Tell the change feed of files, by name."""
    given = Jsonb(detail) if detail else None
    await on_files(tx, caller, Q.record_files, file_ids, kind=kind, detail=given)
