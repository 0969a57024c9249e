"""The storage's background work: delete the bytes of removed files."""

import asyncio
from collections.abc import Sequence
from typing import Any

from spinor.catalog import service as catalog
from spinor.chores import Chore, ChoreContext, chore
from spinor.errors import SpinorError
from spinor.resources import service as resources
from spinor.resources.models import StorageElement
from spinor.storage.service import opened

_BATCH = 20  # Rows, of up to a thousand names each.


async def remove_bytes(context: ChoreContext, _payload: dict[str, Any]) -> None:
    """Delete what is due, storage by storage. What fails stays recorded, with its error, and is tried again later and
    later, up to once a day, for ever. Bytes that a file has (again) stay."""
    while True:
        async with context.db.transaction() as tx:
            due, in_use = await catalog.due_removals(tx, _BATCH)
            elements = {element.se_id: element for element in await resources.all_storage_elements(tx)}
        left: dict[int, tuple[list[str], str | None]] = {}
        for removal in due:
            names = [name for name in removal.names if (removal.removal_id, name) not in in_use]
            answers = await asyncio.to_thread(_remove, elements[removal.se_id], removal.path, names)
            errors = {name: error.message for name, error in zip(names, answers, strict=True) if error is not None}
            left[removal.removal_id] = (list(errors), next(iter(errors.values()), None))
        async with context.db.transaction() as tx:
            await catalog.settle_removals(tx, left)
        if failed := {error: len(names) for names, error in left.values() if error is not None}:
            example = next(iter(failed))
            context.log.warning("bytes-not-removed", extra={"count": sum(failed.values()), "example": example})
        if len(due) < _BATCH:
            return


def _remove(element: StorageElement, path: str, names: list[str]) -> Sequence[SpinorError | None]:
    if not names:
        return []
    try:
        return opened(element).remove([f"{path}/{name}" if path else name for name in names])
    except SpinorError as error:
        return [error] * len(names)


CHORES: list[Chore] = [
    chore(catalog.REMOVE_BYTES, remove_bytes, every_s=30, timeout_s=600, retries=5, concurrency=1),
]
