"""What the storage's tests share."""

from pathlib import Path
from typing import Any, Protocol

from spinor.access import Caller
from spinor.catalog import service as catalog
from spinor.catalog.models import NewFile
from spinor.db import Database
from spinor.types import LFN, SEName


class World(Protocol):
    """The fixture `world`."""

    db: Database
    ada: Caller
    alan: Caller
    bea: Caller
    storage_root: Path


def new_file(lfn: str, *, se: str = "local-se", size_bytes: int = 10, **facts: Any) -> NewFile:
    return NewFile(lfn=LFN(lfn), se=SEName(se), size_bytes=size_bytes, **facts)


async def register(db: Database, caller: Caller, *lfns: str, **facts: Any) -> None:
    async with db.transaction() as tx:
        await catalog.register_files(tx, caller, [new_file(lfn, **facts) for lfn in lfns])
