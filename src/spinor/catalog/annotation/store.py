"""The statements of bulk changes of metadata, each over sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from spinor.access import Caller
from spinor.db import Queries, Tx, array_text, execute, fetch_rows

Q = Queries("spinor.catalog.annotation")


async def find_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """Rows of number (from 1), file_id, access_id, gate_id for those of the (directory, name) pairs that are files."""
    values = {
        "directories": array_text([directory for directory, _ in places]),
        "names": array_text([name for _, name in places]),
    }
    return await fetch_rows(tx, Q.find_files, {"vo_id": caller.vo_id, **values})


async def describe_files(tx: Tx, caller: Caller, given: Mapping[int, str]) -> list[int]:
    """file_id -> a JSON object of values, null for what is taken away. Which of them changed."""
    values = {"file_ids": array_text(given), "given": array_text(given.values())}
    return [row[0] for row in await fetch_rows(tx, Q.describe_files, {"vo_id": caller.vo_id, **values})]


async def describe_directories(tx: Tx, caller: Caller, given: Mapping[int, str]) -> list[int]:
    """The same for directories; what holds below them must be brought up to date."""
    values = {"directory_ids": array_text(given), "given": array_text(given.values())}
    return [row[0] for row in await fetch_rows(tx, Q.describe_directories, {"vo_id": caller.vo_id, **values})]


async def inherit_below_all(tx: Tx, caller: Caller, paths: Sequence[str]) -> None:
    """Bring what holds below directories up to date. The whole trees must be locked, and none be in another one."""
    await execute(tx, Q.inherit_below_all, {"vo_id": caller.vo_id, "paths": array_text(paths)})
