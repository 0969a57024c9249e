"""Register the contents of a directory tree, batch by batch. What cannot be registered is told one by one.

A batch is an Arrow table: `path` (directory relative to the root of the tree, empty for the root itself), `name`,
`size_bytes`, and where known `adler32` (a number), `sha256` (32 bytes), `guid` (16 bytes), `se` (a name), `pfn`
(relative to the storage element's root), `metadata` (a JSON object) and `created_at`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import BadBatch, BadPFN, DirectoryDenied, LFNExists
from spinor.catalog.models import BatchCounts, BatchRefusal, BatchRequest, Difference
from spinor.catalog.service import ingest
from spinor.catalog.service.directories import refused_directories, writable_directories
from spinor.catalog.service.ingest import Finding, Plan
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.resources import service as resources

_COLUMNS = {"path": pa.string(), "name": pa.string(), "size_bytes": pa.int64()}
_OPTIONAL = {
    "adler32": pa.int64(), "sha256": pa.binary(), "guid": pa.binary(16), "se": pa.string(), "pfn": pa.string(),
    "metadata": pa.string(), "created_at": pa.timestamp("us", "UTC"),
}  # fmt: skip


@dataclass
class Batch:
    """A read and checked batch. `paths` are absolute directories; `places` their places on the storage element."""

    entries: pa.Table  # Columns: directory (a number of `paths`), name, size_bytes, and all of _OPTIONAL.
    paths: list[str]
    places: list[str | None]  # None: by the path.
    refused: list[BatchRefusal] = field(default_factory=list)

    def drop(self, bad: Any, reasons: Sequence[str]) -> None:
        """Refuse the rows where `bad` is true, with a reason each."""
        rows = np.flatnonzero(bad)
        if len(rows):
            some = self.entries.take(pa.array(rows)).select(["directory", "name"]).to_pylist()
            for row, reason in zip(some, reasons, strict=True):
                lfn = f"{self.paths[row['directory']]}/{row['name'] or ''}"
                self.refused.append(BatchRefusal(lfn=lfn, reason=reason))
            self.entries = self.entries.filter(pa.array(~bad))


async def read_batch(caller: Caller, request: BatchRequest, body: bytes) -> Batch:
    """Parse and check, beside the event loop. Raises BadBatch, BadLFN, BadPFN, PathOutsideVO."""
    return await asyncio.to_thread(_read, caller, request, body)


async def register_batch(tx: Tx, caller: Caller, request: BatchRequest, batch: Batch) -> BatchCounts:
    """Register what is new, compare what is there. Idempotent. Raises UnknownStorageElement, StillMoving (try again).

    Directories are best made before, in a transaction of their own (`make_batch_directories`): until the end of this
    one, other batches wait for the parents of those that it makes.
    """
    se_ids = await _storage_elements(tx, caller, request, batch)
    await _check_metadata(tx, caller, batch)
    directories = await _directories(tx, caller, batch)
    if not directories:
        return BatchCounts(registered=0, already=0, differing=[], refused=batch.refused)
    ids = pa.array([directories[p].directory_id if p in directories else None for p in batch.paths], pa.int64())
    columns = {"directory_id": pc.take(ids, batch.entries["directory"]), "se_id": _se_ids(batch, se_ids)}
    entries = pa.table(
        {name: columns[name] if name in columns else batch.entries[name] for name in ingest.SCHEMA.names},
        schema=ingest.SCHEMA,
    )
    places: ingest.Places = {
        (directories[batch.paths[n]].directory_id, se_id): batch.places[n] for n, se_id in _placed(batch, entries)
    }
    made = await ingest.plan(tx, caller, entries, list(directories.values()), places)
    await ingest.carry_out(tx, caller, made)
    return _counts(made, batch)


async def _storage_elements(tx: Tx, caller: Caller, request: BatchRequest, batch: Batch) -> dict[str | None, int]:
    """The ids of all that the batch names; None stands for the request's own. Raises UnknownStorageElement."""
    names = {name: name for name in pc.unique(batch.entries["se"]).to_pylist() if name is not None}
    if request.se is not None:
        names[None] = request.se
    elif batch.entries["se"].null_count:
        raise BadBatch("Some rows of the batch name no storage element, and the request's `se` is missing.")
    return {key: (await resources.storage_element(tx, caller, name)).se_id for key, name in names.items()}


def _se_ids(batch: Batch, se_ids: dict[str | None, int]) -> pa.Array:
    column = batch.entries["se"]
    if column.null_count == len(column):
        return pa.array(np.full(len(column), se_ids[None], np.int64))
    known = list(se_ids)
    codes = pc.index_in(column, value_set=pa.array(known, pa.string()))
    return pc.take(pa.array([se_ids[name] for name in known], pa.int64()), codes)


def _placed(batch: Batch, entries: pa.Table) -> set[tuple[int, int]]:
    """The (number of the directory, se_id) of all rows that have no PFN of their own."""
    unplaced = pc.is_null(entries["pfn"])
    pairs = pa.table({"directory": batch.entries["directory"], "se_id": entries["se_id"]}).filter(unplaced)
    found = pairs.group_by(["directory", "se_id"]).aggregate([])
    return set(zip(found["directory"].to_pylist(), found["se_id"].to_pylist(), strict=True))


async def make_batch_directories(tx: Tx, caller: Caller, batch: Batch) -> None:
    """Make the directories of a batch, and refuse the entries of those that cannot be made."""
    wanted = _wanted(batch)
    if wanted and wanted - (await store.find_directories(tx, caller, wanted)).keys():
        await _directories(tx, caller, batch)


def _wanted(batch: Batch) -> set[str]:
    return {batch.paths[n] for n in pc.unique(batch.entries["directory"]).to_pylist()}


async def _directories(tx: Tx, caller: Caller, batch: Batch) -> dict[str, Directory]:
    """Make and lock the directories of a batch. The usual case is that none is refused; else it is found out which."""
    wanted = _wanted(batch)
    try:
        return await writable_directories(tx, caller, wanted) if wanted else {}
    except (DirectoryDenied, LFNExists):
        await _refuse_directories(tx, caller, batch)
        wanted = _wanted(batch)
        return await writable_directories(tx, caller, wanted) if wanted else {}


async def _refuse_directories(tx: Tx, caller: Caller, batch: Batch) -> None:
    used = pc.unique(batch.entries["directory"]).to_pylist()
    reasons = await refused_directories(tx, caller, {batch.paths[n] for n in used})
    if reasons:
        numbers = batch.entries["directory"].to_numpy()
        bad = np.isin(numbers, [n for n in used if batch.paths[n] in reasons])
        batch.drop(bad, [reasons[batch.paths[n]] for n in numbers[bad]])


def _read(caller: Caller, request: BatchRequest, body: bytes) -> Batch:
    top = rules.checked_path(request.directory, caller.vo)
    prefix = None
    if request.prefix is not None:
        prefix = rules.checked_pfn(request.prefix.strip("/")) if request.prefix.strip("/") else ""
    table = _table(body)
    path = table["path"].combine_chunks()
    path = path if isinstance(path.type, pa.DictionaryType) else path.dictionary_encode()
    path = path.chunk(0) if isinstance(path, pa.ChunkedArray) else path
    relative = path.dictionary.to_pylist()
    if path.null_count or None in relative:
        raise BadBatch("The column path of the batch has a missing value; the root of the tree is the empty text.")
    numbers = path.indices.cast(pa.int64())
    batch = Batch(
        entries=table.set_column(table.schema.get_field_index("path"), "directory", numbers),
        paths=[f"{top}/{p}" if p else top for p in relative],
        places=[None if prefix is None else ingest.below(prefix, p) if p else prefix for p in relative],
    )
    _check_paths(caller, batch)
    _check_rows(batch)
    _check_repetition(batch)
    return batch


def _table(body: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        table.validate(full=True)
        columns = {name: _as(table[name], kind) for name, kind in _COLUMNS.items()}
        for name, kind in _OPTIONAL.items():
            given = name in table.column_names
            columns[name] = _as(table[name], kind) if given else pa.nulls(table.num_rows, kind)
        return pa.table(columns)
    except KeyError as error:
        raise BadBatch(f"The batch lacks a column: {error.args[0]}.") from None
    except (pa.ArrowException, OSError) as error:
        raise BadBatch(f"The batch is not an Arrow stream with the columns it needs: {str(error)[:200]}.") from None


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Of this type; texts of a dictionary stay so, which tells the different ones at once."""
    if isinstance(column.type, pa.DictionaryType) and kind == pa.string():
        return column.unify_dictionaries().cast(pa.dictionary(pa.int32(), kind))
    return column.cast(kind)


def _check_paths(caller: Caller, batch: Batch) -> None:
    used = set(pc.unique(batch.entries["directory"]).to_pylist())
    faults = [rules.path_fault(path, caller.vo) if n in used else None for n, path in enumerate(batch.paths)]
    if any(faults):
        numbers = batch.entries["directory"].to_numpy()
        bad = np.isin(numbers, [n for n, fault in enumerate(faults) if fault])
        batch.drop(bad, [fault.message if (fault := faults[n]) else "" for n in numbers[bad]])


def _check_rows(batch: Batch) -> None:
    """Names, sizes and checksums, by columns; only what is bad is looked at one by one."""
    entries = batch.entries
    names = pc.fill_null(entries["name"].combine_chunks(), "")
    length = pc.binary_length(names).to_numpy(zero_copy_only=False)
    lengths = np.array([len(path.encode()) for path in batch.paths] or [0])
    bad_name = (
        (length == 0)
        | (length > rules.MAX_NAME_BYTES)
        | (lengths[entries["directory"].to_numpy()] + 1 + length > rules.MAX_PATH_BYTES)
        | pc.match_substring_regex(names, "[/\\x00]|^\\.\\.?$").to_numpy(zero_copy_only=False)
    )
    batch_names = names.filter(pa.array(bad_name)).to_pylist()
    reasons = [
        f"the name {fault}" if (fault := rules.name_fault(name)) else "the path is too long" for name in batch_names
    ]
    batch.drop(bad_name, reasons)
    _drop_numbers(batch, "size_bytes", 0, 2**63 - 1, "the size is missing or negative")
    _drop_numbers(batch, "adler32", 0, 2**32 - 1, "the adler32 is not a number of 32 bits")
    length = pc.fill_null(pc.binary_length(batch.entries["sha256"]), 32).to_numpy()
    _drop_all(batch, length != 32, "the sha256 has not 32 bytes")
    if batch.entries["pfn"].null_count < batch.entries.num_rows:
        faults = [None if pfn is None else _pfn_fault(pfn) for pfn in batch.entries["pfn"].to_pylist()]
        batch.drop(np.array([fault is not None for fault in faults]), [fault for fault in faults if fault])


def _pfn_fault(pfn: str) -> str | None:
    try:
        rules.checked_pfn(pfn)
    except BadPFN as error:
        return error.message
    return None


async def _check_metadata(tx: Tx, caller: Caller, batch: Batch) -> None:
    """Refuse the rows whose metadata is no object of fitting values; write that of the others as it is stored."""
    column = batch.entries["metadata"]
    if column.null_count == len(column):
        return
    types = {key.name: key.type for key in await store.metadata_keys(tx, caller)}
    checked: list[str | None] = []
    faults: list[str | None] = []
    for text in column.to_pylist():
        value, fault = rules.checked_metadata(text, types) if text is not None else (None, None)
        checked.append(value)
        faults.append(fault)
    place = batch.entries.schema.get_field_index("metadata")
    batch.entries = batch.entries.set_column(place, "metadata", pa.array(checked, pa.string()))
    batch.drop(np.array([fault is not None for fault in faults]), [fault for fault in faults if fault])


def _drop_numbers(batch: Batch, column: str, least: int, most: int, reason: str) -> None:
    missing = -1 if column == "size_bytes" else least
    values = pc.fill_null(batch.entries[column], missing).to_numpy()
    _drop_all(batch, (values < least) | (values > most), reason)


def _drop_all(batch: Batch, bad: Any, reason: str) -> None:
    batch.drop(bad, [reason] * int(np.count_nonzero(bad)))


def _check_repetition(batch: Batch) -> None:
    keys = ingest.sort_key(batch.entries["directory"], batch.entries["name"]).combine_chunks().dictionary_encode()
    keys = keys.chunk(0) if isinstance(keys, pa.ChunkedArray) else keys
    if len(keys.dictionary) < len(keys):
        first = np.zeros(len(keys), bool)
        first[np.unique(keys.indices.to_numpy(), return_index=True)[1]] = True
        _drop_all(batch, ~first, "it comes twice in this batch")


def _counts(made: Plan, batch: Batch) -> BatchCounts:
    def lfns(rows: Any) -> list[str]:
        some = batch.entries.take(pa.array(rows, pa.int64())).select(["directory", "name"]).to_pylist()
        return [f"{batch.paths[row['directory']]}/{row['name']}" for row in some]

    for finding, reason in (
        (Finding.DIRECTORY, "there is a directory of this name"),
        (Finding.CLOSED, "there is a file of this name that you may not read, or not give another replica"),
        (Finding.LEAVING, "its bytes are about to be deleted with a file that was removed"),
    ):
        batch.refused.extend(BatchRefusal(lfn=lfn, reason=reason) for lfn in lfns(made.rows(finding)))
    named = lfns([row for row, *_ in made.differences])
    differing = [
        Difference(lfn=lfn, field=field, catalog=there, given=given)
        for lfn, (_, field, there, given) in zip(named, made.differences, strict=True)
    ]
    return BatchCounts(
        registered=len(made.rows(Finding.NEW, Finding.NEW_REPLICA)),
        already=len(made.rows(Finding.ALREADY)),
        differing=differing,
        refused=batch.refused,
    )
