"""Addresses of datasets. They join the catalog's."""

from starlette.responses import Response

from spinor.access import Caller, Scope
from spinor.catalog.datasets import service
from spinor.catalog.datasets.models import (
    AnnotateDatasets,
    Dataset,
    DatasetCheck,
    DatasetFiles,
    DatasetNames,
    DatasetPage,
    DatasetSearch,
    DatasetVersion,
    FreezeDatasets,
    NewDataset,
    RenameDataset,
)
from spinor.db import Database, Tx
from spinor.http import Routes
from spinor.streaming import streamed

routes = Routes("catalog")


@routes.post("/api/datasets", scope=Scope.FILES_WRITE)
async def create_datasets(tx: Tx, caller: Caller, body: NewDataset | list[NewDataset]) -> list[Dataset]:
    """Keep a query, or many, under names: all of them, or none."""
    return await service.create(tx, caller, body if isinstance(body, list) else [body])


@routes.post("/api/datasets/search", scope=Scope.FILES_READ)
async def search_datasets(tx: Tx, caller: Caller, body: DatasetSearch) -> DatasetPage:
    """One page of the datasets that the caller may read, by name."""
    return await service.search(tx, caller, body)


@routes.post("/api/datasets/show", scope=Scope.FILES_READ)
async def show_datasets(tx: Tx, caller: Caller, body: DatasetNames) -> list[Dataset]:
    """What is noted of datasets."""
    return await service.show(tx, caller, body.names)


@routes.post("/api/datasets/check", scope=Scope.FILES_READ)
async def check_datasets(tx: Tx, caller: Caller, body: DatasetNames) -> list[DatasetCheck]:
    """What the queries find now for the caller, beside what was noted."""
    return await service.check(tx, caller, body.names)


@routes.post("/api/datasets/update", scope=Scope.FILES_WRITE)
async def update_datasets(tx: Tx, caller: Caller, body: DatasetNames) -> list[Dataset]:
    """Note what the queries find now."""
    return await service.update(tx, caller, body.names)


@routes.post("/api/datasets/freeze", scope=Scope.FILES_WRITE)
async def freeze_datasets(tx: Tx, caller: Caller, body: FreezeDatasets) -> list[DatasetVersion]:
    """Keep what the queries find now as new versions: all of them, or none."""
    return await service.freeze(tx, caller, body)


@routes.post("/api/datasets/versions", scope=Scope.FILES_READ)
async def dataset_versions(tx: Tx, caller: Caller, body: DatasetNames) -> list[DatasetVersion]:
    """All versions of datasets, the oldest first."""
    return await service.versions(tx, caller, body.names)


@routes.post("/api/datasets/release", scope=Scope.FILES_WRITE)
async def release_datasets(tx: Tx, caller: Caller, body: DatasetNames) -> list[Dataset]:
    """Let frozen datasets be what their queries find again; their versions stay."""
    return await service.release(tx, caller, body.names)


@routes.post("/api/datasets/annotate", scope=Scope.FILES_WRITE)
async def annotate_datasets(tx: Tx, caller: Caller, body: AnnotateDatasets) -> list[Dataset]:
    """Say something about datasets."""
    return await service.annotate(tx, caller, body)


@routes.post("/api/datasets/rename", scope=Scope.FILES_WRITE)
async def rename_dataset(tx: Tx, caller: Caller, body: RenameDataset) -> Dataset:
    """Give a dataset another name."""
    return await service.rename(tx, caller, body)


@routes.post("/api/datasets/remove", scope=Scope.FILES_WRITE)
async def remove_datasets(tx: Tx, caller: Caller, body: DatasetNames) -> None:
    """Forget datasets with their versions, all or none; files stay."""
    await service.remove(tx, caller, body.names)


@routes.post("/api/datasets/files", scope=Scope.FILES_READ)
async def dataset_files(db: Database, caller: Caller, body: DatasetFiles) -> Response:
    """The files of a dataset, or of one of its versions, as JSON lines: LFN, size, adler32, file_id, is_there."""
    return await streamed(service.stream_files(db, caller, body), "application/x-ndjson")
