"""Addresses of the catalog."""

from spinor.access import Caller, Scope
from spinor.catalog import service
from spinor.catalog.models import FileStat, NewFile, Paths, Registered
from spinor.db import Tx
from spinor.http import Routes

routes = Routes("catalog")


@routes.post("/api/files/register", scope=Scope.FILES_WRITE)
async def register_files(tx: Tx, caller: Caller, body: list[NewFile]) -> list[Registered]:
    """Register files that lie on storage elements: all of them, or none. Equal ones that are there are no error."""
    return await service.register_files(tx, caller, body)


@routes.post("/api/files/stat", scope=Scope.FILES_READ)
async def stat_files(tx: Tx, caller: Caller, body: Paths) -> list[FileStat]:
    """What is known of each file: size, checksums, owner, storage elements."""
    return await service.stat_files(tx, caller, body.paths)


@routes.post("/api/directories", scope=Scope.FILES_WRITE)
async def make_directories(tx: Tx, caller: Caller, body: Paths) -> list[str]:
    """Make directories and what is missing above them; the answer names those of them that are new."""
    return await service.make_directories(tx, caller, body.paths)
