"""The verbs of datasets."""

from collections.abc import Sequence
from contextlib import aclosing

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog.access import store as access_store
from spinor.catalog.datasets import store
from spinor.catalog.datasets.errors import (
    BadDatasetName,
    DatasetDenied,
    DatasetFrozen,
    UnknownDataset,
    UnknownVersion,
)
from spinor.catalog.datasets.models import (
    AnnotateDatasets,
    Dataset,
    DatasetCheck,
    DatasetFiles,
    DatasetPage,
    DatasetSearch,
    DatasetState,
    DatasetVersion,
    FreezeDatasets,
    NewDataset,
    RenameDataset,
)
from spinor.catalog.datasets.store import KnownDataset, Q, Selection
from spinor.catalog.models import Access
from spinor.catalog.service.permissions import permissions, sieve
from spinor.catalog.service.querying import prepare
from spinor.db import Database, Tx
from spinor.search.expression import shown
from spinor.streaming import Pieces

_MODE = 0o644


async def create(tx: Tx, caller: Caller, new: Sequence[NewDataset]) -> list[Dataset]:
    """Keep queries under names: all, or none. Raises BadQuery, UnknownDirectory, DatasetExists, BadDatasetName."""
    await store.begin_counting(tx)
    access = Access(owner_id=caller.user_id, group_id=caller.group_id, mode=_MODE)
    (access_id,) = await access_store.kept_accesses(tx, caller, [access])
    for dataset in new:
        _check_name(dataset.name)
        selection = await _selection(tx, caller, dataset.path, dataset.query)
        await store.insert_dataset(tx, caller, dataset, access_id, await store.summary(tx, selection))
    return await show(tx, caller, [dataset.name for dataset in new])


def _check_name(name: str) -> None:
    if not name.isprintable() or len(name.encode()) > 1024:
        raise BadDatasetName(f"{shown(name[:200])} is no name of a dataset: 1 to 1,024 bytes, all printable.")


async def _selection(tx: Tx, caller: Caller, path: str, query: str) -> Selection:
    """What the query finds for this caller."""
    return store.selected((await prepare(tx, caller, rules.checked_path(path, caller.vo), query)).statement)


async def search(tx: Tx, caller: Caller, request: DatasetSearch) -> DatasetPage:
    """The datasets that the caller may read, by name."""
    mine = await sieve(tx, caller)
    rows = await store.datasets(
        tx, caller, readable=mine.readable, beginning=request.beginning, after=request.after or "",
        limit=request.limit + 1,
    )  # fmt: skip
    kept = rows[: request.limit]
    return DatasetPage(rows=_shown(kept), next=kept[-1].name if len(rows) > len(kept) else None)


def _shown(rows: Sequence[KnownDataset]) -> list[Dataset]:
    return [Dataset(**{name: getattr(row, name) for name in Dataset.__struct_fields__}) for row in rows]


async def show(tx: Tx, caller: Caller, names: Sequence[str]) -> list[Dataset]:
    """What is noted of datasets, in the order asked. Raises UnknownDataset, DatasetDenied."""
    return _shown(await _known(tx, caller, names))


async def _known(tx: Tx, caller: Caller, names: Sequence[str], bit: int = rules.READ) -> list[KnownDataset]:
    """To change datasets, those who change them take turns."""
    if bit == rules.WRITE:
        await store.lock_datasets(tx, caller, names)
    found = {row.name: row for row in await store.datasets(tx, caller, names=names)}
    mine = await permissions(tx, caller)
    await mine.learn({row.access_id for row in found.values()})
    for name in names:
        if name not in found:
            raise UnknownDataset(
                f"There is no dataset {shown(name)} in your VO; see `spinor file dataset list`.", name=name
            )
        if not mine.bits(found[name].access_id) & bit:
            act = "change" if bit == rules.WRITE else "read"
            raise DatasetDenied(f"You may not {act} the dataset {shown(name)}; ask its owner.", name=name)
    return [found[name] for name in dict.fromkeys(names)]


async def check(tx: Tx, caller: Caller, names: Sequence[str]) -> list[DatasetCheck]:
    """What the queries find now for the caller, beside what was noted; changes nothing."""
    await store.begin_counting(tx)
    known = await _known(tx, caller, names)
    gone = await store.gone(tx, caller, [row.dataset_id for row in known])
    return [await _check(tx, caller, row, gone.get(row.dataset_id, 0)) for row in known]


async def _check(tx: Tx, caller: Caller, row: KnownDataset, gone: int) -> DatasetCheck:
    now = await store.summary(tx, await _selection(tx, caller, row.path, row.query))
    same = (row.files, row.size_bytes, row.digest) == (now.files, now.size_bytes, now.digest.hex())
    return DatasetCheck(
        name=row.name, state=row.state, changed=not same, checked_at=row.checked_at, files=row.files,
        files_now=now.files, size_bytes=row.size_bytes, size_now_bytes=now.size_bytes, digest=row.digest,
        digest_now=now.digest.hex(), gone=gone,
    )  # fmt: skip


async def update(tx: Tx, caller: Caller, names: Sequence[str]) -> list[Dataset]:
    """Note what the queries find now for the caller. Raises DatasetFrozen: a frozen one has what its version has."""
    await store.begin_counting(tx)
    for row in await _known(tx, caller, names, rules.WRITE):
        _refuse_frozen(row)
        found = await store.summary(tx, await _selection(tx, caller, row.path, row.query))
        await store.note(tx, caller, row.dataset_id, found)
    return await show(tx, caller, names)


def _refuse_frozen(row: KnownDataset) -> None:
    if row.state is DatasetState.FROZEN:
        raise DatasetFrozen(f"The dataset {shown(row.name)} is frozen; release it first.", name=row.name)


async def freeze(tx: Tx, caller: Caller, request: FreezeDatasets) -> list[DatasetVersion]:
    """Keep what the queries find now for the caller, as new versions; all, or none. Raises DatasetFrozen."""
    await store.begin_counting(tx)
    known = await _known(tx, caller, request.names, rules.WRITE)
    made = set()
    for row in known:
        _refuse_frozen(row)
        selection = await _selection(tx, caller, row.path, row.query)
        version = await store.insert_version(tx, caller, row.dataset_id, request.annotation)
        await store.keep(tx, caller, row.dataset_id, version, selection)
        # Counted from what was kept, which is what there is of the version.
        found = await store.summary(tx, store.of_version(row.dataset_id, version))
        await store.end_version(tx, caller, row.dataset_id, version, found)
        made.add((row.name, version))
    kept = await store.versions(tx, caller, [row.dataset_id for row in known])
    return [version for version in kept if (version.name, version.version) in made]


async def versions(tx: Tx, caller: Caller, names: Sequence[str]) -> list[DatasetVersion]:
    """All versions of datasets, the oldest first."""
    return await store.versions(tx, caller, [row.dataset_id for row in await _known(tx, caller, names)])


async def release(tx: Tx, caller: Caller, names: Sequence[str]) -> list[Dataset]:
    """Let datasets be what their queries find; versions stay. One that is dynamic is no error."""
    known = await _known(tx, caller, names, rules.WRITE)
    await store.change(tx, caller, Q.release, [row.dataset_id for row in known])
    return await show(tx, caller, names)


async def annotate(tx: Tx, caller: Caller, request: AnnotateDatasets) -> list[Dataset]:
    """Say something about datasets."""
    known = await _known(tx, caller, request.names, rules.WRITE)
    await store.change(tx, caller, Q.annotate, [row.dataset_id for row in known], annotation=request.annotation)
    return await show(tx, caller, request.names)


async def rename(tx: Tx, caller: Caller, request: RenameDataset) -> Dataset:
    """Give a dataset another name. Raises DatasetExists."""
    _check_name(request.to)
    (row,) = await _known(tx, caller, [request.name], rules.WRITE)
    await store.rename(tx, caller, row.dataset_id, request.to)
    return (await show(tx, caller, [request.to]))[0]


async def remove(tx: Tx, caller: Caller, names: Sequence[str]) -> None:
    """Forget datasets with their versions, all or none. Files stay."""
    known = await _known(tx, caller, names, rules.WRITE)
    await store.change(tx, caller, Q.remove, [row.dataset_id for row in known])


async def stream_files(db: Database, caller: Caller, request: DatasetFiles) -> Pieces:
    """The files of a dataset, or of one of its versions, as JSON lines. Raises UnknownVersion."""
    async with db.snapshot() as tx:
        (row,) = await _known(tx, caller, [request.name])
        version = request.version or (row.version if row.state is DatasetState.FROZEN else None)
        if version is None:
            lines = store.lines(tx, await _selection(tx, caller, row.path, row.query))
        elif version > row.version:
            raise UnknownVersion(f"The dataset {shown(row.name)} has versions up to {row.version}, not {version}.")
        else:
            mine = await sieve(tx, caller)
            place = {"dataset_id": row.dataset_id, "version": version}
            sieved = {"gates": mine.gates, "readable": mine.readable}
            lines = store.version_lines(tx, {"vo_id": caller.vo_id, **place, **sieved})
        async with aclosing(lines):
            async for piece in lines:
                yield piece
