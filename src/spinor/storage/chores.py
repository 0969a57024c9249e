"""The storage's background work: delete the bytes of removed files."""

import asyncio
from collections import defaultdict
from typing import Any

from spinor.catalog import service as catalog
from spinor.chores import Chore, ChoreContext, chore
from spinor.errors import SpinorError
from spinor.resources import service as resources
from spinor.resources.models import StorageElement
from spinor.storage.service import opened

_BATCH = 500


async def remove_bytes(context: ChoreContext, _payload: dict[str, Any]) -> None:
    """Delete what is due, storage by storage. What fails stays recorded, with its error, and is tried again later and
    later, up to once a day, for ever."""
    while True:
        async with context.db.transaction() as tx:
            due = await catalog.due_removals(tx, _BATCH)
            elements = {element.se_id: element for element in await resources.all_storage_elements(tx)}
        by_element: dict[int, dict[int, str]] = defaultdict(dict)
        for removal in due:
            by_element[removal.se_id][removal.removal_id] = removal.pfn
        done: list[int] = []
        failed: dict[int, str] = {}
        for se_id, pfns in by_element.items():
            for removal_id, error in (await asyncio.to_thread(_remove, elements[se_id], pfns)).items():
                if error is None:
                    done.append(removal_id)
                else:
                    failed[removal_id] = error.message
        async with context.db.transaction() as tx:
            await catalog.removals_done(tx, done, failed)
        if failed:
            example = next(iter(failed.values()))
            context.log.warning("bytes-not-removed", extra={"count": len(failed), "example": example})
        if len(due) < _BATCH:
            return


def _remove(element: StorageElement, pfns: dict[int, str]) -> dict[int, SpinorError | None]:
    try:
        return dict(zip(pfns, opened(element).remove(list(pfns.values())), strict=True))
    except SpinorError as error:
        return dict.fromkeys(pfns, error)


CHORES: list[Chore] = [
    chore(catalog.REMOVE_BYTES, remove_bytes, every_s=30, timeout_s=600, retries=5, concurrency=1),
]
