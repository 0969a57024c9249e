"""Register the contents of a directory tree, batch by batch. What cannot be registered is told one by one.

A batch is an Arrow table: `path` (directory relative to the root of the tree, empty for the root itself), `name`,
`size_bytes`, and where known `adler32` (a number) and `sha256` (32 bytes).
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog.errors import BadBatch
from spinor.catalog.models import BatchCounts, BatchRefusal, BatchRequest, Difference
from spinor.catalog.service import ingest
from spinor.catalog.service.directories import refused_directories, writable_directories
from spinor.catalog.service.ingest import Finding, Plan
from spinor.db import Tx
from spinor.resources import service as resources

_COLUMNS = {"path": pa.string(), "name": pa.string(), "size_bytes": pa.int64()}
_OPTIONAL = {"adler32": pa.int64(), "sha256": pa.binary()}


@dataclass
class Batch:
    """A read and checked batch. `paths` are absolute directories; `places` their places on the storage element."""

    entries: pa.Table  # Columns: directory (a number of `paths`), name, size_bytes, adler32, sha256.
    paths: list[str]
    places: list[str]
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
    element = await resources.storage_element(tx, caller, request.se)
    await _refuse_directories(tx, caller, batch)
    used = pc.unique(batch.entries["directory"]).to_pylist()
    if not used:
        return BatchCounts(registered=0, already=0, differing=[], refused=batch.refused)
    directories = await writable_directories(tx, caller, {batch.paths[n] for n in used})
    ids = pa.array([directories[p].directory_id if p in directories else None for p in batch.paths], pa.int64())
    count = batch.entries.num_rows
    entries = pa.table(
        {
            "directory_id": pc.take(ids, batch.entries["directory"]),
            "name": batch.entries["name"],
            "size_bytes": batch.entries["size_bytes"],
            "adler32": batch.entries["adler32"],
            "sha256": batch.entries["sha256"],
            "guid": pa.nulls(count, pa.binary(16)),
            "se_id": pa.array(np.full(count, element.se_id, np.int64)),
            "pfn": pa.nulls(count, pa.string()),
        },
        schema=ingest.SCHEMA,
    )
    places: ingest.Places = {(directories[batch.paths[n]].directory_id, element.se_id): batch.places[n] for n in used}
    made = await ingest.plan(tx, caller, entries, list(directories.values()), places)
    await ingest.carry_out(tx, caller, made)
    return _counts(made, batch)


async def make_batch_directories(tx: Tx, caller: Caller, batch: Batch) -> None:
    """Make the directories of a batch, and refuse the entries of those that cannot be made."""
    await _refuse_directories(tx, caller, batch)
    if used := pc.unique(batch.entries["directory"]).to_pylist():
        await writable_directories(tx, caller, {batch.paths[n] for n in used})


async def _refuse_directories(tx: Tx, caller: Caller, batch: Batch) -> None:
    used = pc.unique(batch.entries["directory"]).to_pylist()
    reasons = await refused_directories(tx, caller, {batch.paths[n] for n in used})
    if reasons:
        numbers = batch.entries["directory"].to_numpy()
        bad = np.isin(numbers, [n for n in used if batch.paths[n] in reasons])
        batch.drop(bad, [reasons[batch.paths[n]] for n in numbers[bad]])


def _read(caller: Caller, request: BatchRequest, body: bytes) -> Batch:
    top = rules.checked_path(request.directory, caller.vo)
    prefix = rules.checked_pfn(request.prefix.strip("/")) if request.prefix.strip("/") else ""
    table = _table(body)
    path = table["path"].combine_chunks().dictionary_encode()
    path = path.chunk(0) if isinstance(path, pa.ChunkedArray) else path
    relative = path.dictionary.to_pylist()
    numbers = pc.fill_null(path.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    if (numbers < 0).any():
        raise BadBatch("The column path of the batch has a missing value; the root of the tree is the empty text.")
    batch = Batch(
        entries=table.set_column(table.schema.get_field_index("path"), "directory", pa.array(numbers)),
        paths=[f"{top}/{p}" if p else top for p in relative],
        places=[ingest.below(prefix, p) if p else prefix for p in relative],
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
        columns = {name: table[name].cast(kind) for name, kind in _COLUMNS.items()}
        for name, kind in _OPTIONAL.items():
            columns[name] = table[name].cast(kind) if name in table.column_names else pa.nulls(table.num_rows, kind)
        return pa.table(columns)
    except KeyError as error:
        raise BadBatch(f"The batch lacks a column: {error.args[0]}.") from None
    except (pa.ArrowException, OSError) as error:
        raise BadBatch(f"The batch is not an Arrow stream with the columns it needs: {str(error)[:200]}.") from None


def _check_paths(caller: Caller, batch: Batch) -> None:
    faults = [rules.path_fault(path, caller.vo) for path in batch.paths]
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
