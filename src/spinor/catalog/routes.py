"""Addresses of the catalog."""

from spinor.access import Caller, Scope
from spinor.catalog import service
from spinor.catalog.access.routes import routes as access_routes
from spinor.catalog.annotation.routes import routes as annotation_routes
from spinor.catalog.datasets.routes import routes as dataset_routes
from spinor.catalog.dumps.routes import routes as dumps_routes
from spinor.catalog.feed.routes import routes as feed_routes
from spinor.catalog.invariants.routes import routes as invariant_routes
from spinor.catalog.models import (
    BatchCounts,
    BatchRequest,
    DirectoryPage,
    DirectoryRequest,
    EntryPage,
    FileStat,
    ListRequest,
    MetadataChange,
    MetadataKey,
    MetadataShown,
    Move,
    Moved,
    NewFile,
    Outcome,
    Paths,
    Registered,
    RemoveRequest,
    Usage,
)
from spinor.catalog.operations.routes import routes as operation_routes
from spinor.catalog.provenance.routes import routes as provenance_routes
from spinor.catalog.query.routes import routes as query_routes
from spinor.catalog.quotas.routes import routes as quota_routes
from spinor.catalog.repairs.routes import routes as repair_routes
from spinor.catalog.replicas.routes import routes as replica_routes
from spinor.db import Database, Tx
from spinor.http import Routes

routes = Routes("catalog")
for room in (
    access_routes,
    annotation_routes,
    dataset_routes,
    dumps_routes,
    feed_routes,
    invariant_routes,
    operation_routes,
    provenance_routes,
    query_routes,
    quota_routes,
    repair_routes,
    replica_routes,
):
    routes.all.extend(room.all)


@routes.post("/api/files/register", scope=Scope.FILES_WRITE)
async def register_files(tx: Tx, caller: Caller, body: list[NewFile]) -> list[Registered]:
    """Register files that lie on storage elements: all of them, or none. Equal ones that are there are no error."""
    return await service.register_files(tx, caller, body)


@routes.post("/api/files/register-batch", scope=Scope.FILES_WRITE, body_type="application/vnd.apache.arrow.stream")
async def register_batch(db: Database, caller: Caller, query: BatchRequest, body: bytes) -> BatchCounts:
    """Register files of a directory tree (Arrow: path, name, size_bytes, adler32, sha256); refusals are told apart."""
    batch = await service.read_batch(caller, query, body)
    # Two transactions, so that batches of one tree wait for each other only while directories are made.
    async with db.transaction() as tx:
        await service.make_batch_directories(tx, caller, batch)
    async with db.transaction() as tx:
        return await service.register_batch(tx, caller, query, batch)


@routes.post("/api/files/stat", scope=Scope.FILES_READ)
async def stat_files(reads: Tx, caller: Caller, body: Paths) -> list[FileStat]:
    """What is known of each file: size, checksums, owner, storage elements."""
    return await service.stat_files(reads, caller, body.paths)


@routes.post("/api/files/list", scope=Scope.FILES_READ)
async def list_directory(tx: Tx, caller: Caller, body: ListRequest) -> EntryPage:
    """One page of a directory: directories first, then files, by name."""
    return await service.list_encoded(tx, caller, body)  # type: ignore[return-value]  # The same, written already.


@routes.post("/api/files/remove", scope=Scope.FILES_WRITE, once=True)
async def remove_files(tx: Tx, caller: Caller, body: RemoveRequest) -> Outcome:
    """Remove files, and directories if asked; each refused path comes back with its reason."""
    return await service.remove_files(tx, caller, body)


@routes.post("/api/files/move", scope=Scope.FILES_WRITE, once=True)
async def move_files(tx: Tx, caller: Caller, body: list[Move]) -> list[Moved]:
    """Move or rename files and whole directories: all of them, or none. Bytes stay where they are."""
    return await service.move(tx, caller, body)


@routes.post("/api/files/metadata", scope=Scope.FILES_WRITE)
async def set_metadata(tx: Tx, caller: Caller, body: MetadataChange) -> list[MetadataShown]:
    """Set and unset metadata of files and directories, all or nothing."""
    return await service.set_metadata(tx, caller, body)


@routes.post("/api/files/metadata/show", scope=Scope.FILES_READ)
async def show_metadata(tx: Tx, caller: Caller, body: Paths) -> list[MetadataShown]:
    """The metadata of files and directories, their own and inherited ones, and where these come from."""
    return await service.show_metadata(tx, caller, body.paths)


@routes.get("/api/files/metadata-keys", scope=Scope.FILES_READ)
async def metadata_keys(tx: Tx, caller: Caller) -> list[MetadataKey]:
    """The declared metadata keys of the VO, with their types."""
    return await service.metadata_keys(tx, caller)


@routes.post("/api/files/metadata-keys", scope=Scope.FILES_WRITE)
async def declare_metadata_keys(tx: Tx, caller: Caller, body: list[MetadataKey]) -> list[MetadataKey]:
    """Declare metadata keys for the VO, so that values are checked and searches know them."""
    return await service.declare_keys(tx, caller, body)


@routes.post("/api/files/usage", scope=Scope.FILES_READ)
async def usage(tx: Tx, caller: Caller, body: Paths) -> list[Usage]:
    """Files and bytes at and below each path, together and per storage element."""
    return await service.usage(tx, caller, body.paths)


@routes.post("/api/directories", scope=Scope.FILES_WRITE)
async def make_directories(tx: Tx, caller: Caller, body: Paths) -> list[str]:
    """Make directories and what is missing above them; the answer names those of them that are new."""
    return await service.make_directories(tx, caller, body.paths)


@routes.post("/api/directories/search", scope=Scope.FILES_READ)
async def directories_below(tx: Tx, caller: Caller, body: DirectoryRequest) -> DirectoryPage:
    """One page of the directories at and below a path, by path, with their numbers of files."""
    return await service.directories_below(tx, caller, body)
