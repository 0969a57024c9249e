"""What the catalog's tests share."""

from pathlib import Path
from typing import Any, Protocol

from spinor.access import Caller
from spinor.catalog import service
from spinor.catalog.invariants.service import all_violations
from spinor.catalog.models import NewFile, Registered
from spinor.db import Database, fetch_value
from spinor.types import LFN, SEName


class World(Protocol):
    """The fixture `world`."""

    db: Database
    ada: Caller
    ada_admin: Caller
    alan: Caller
    bea: Caller
    storage_root: Path


def new_file(lfn: str, *, se: str = "local-se", size_bytes: int = 10, **facts: Any) -> NewFile:
    return NewFile(lfn=LFN(lfn), se=SEName(se), size_bytes=size_bytes, **facts)


async def register(db: Database, caller: Caller, *lfns: str, **facts: Any) -> list[Registered]:
    async with db.transaction() as tx:
        return await service.register_files(tx, caller, [new_file(lfn, **facts) for lfn in lfns])


async def check_sums(db: Database, files: int | None = None) -> None:
    """Every counter equals a count of the rows, and every invariant holds."""
    async with db.transaction() as tx:
        assert await all_violations(tx) == []
        if files is not None:
            assert await fetch_value(tx, "SELECT count(*) FROM catalog.file") == files
