"""The one way by which names enter the catalog: compare with what is there, then COPY what is new.

Works on columns, for locked directories. An entry is a row of: directory_id, name, size_bytes, adler32, sha256, guid,
se_id, pfn; the last of checksums, guid and pfn may be NULL (no PFN: by the directory's location). No two entries of one
call have the same directory and name.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinor.access import Caller
from spinor.catalog import copying, store
from spinor.catalog.copying import Int64s
from spinor.catalog.store import Directory, KnownFile
from spinor.db import Tx

SCHEMA = pa.schema(
    [
        ("directory_id", pa.int64()), ("name", pa.string()), ("size_bytes", pa.int64()), ("adler32", pa.int64()),
        ("sha256", pa.binary()), ("guid", pa.binary(16)), ("se_id", pa.int64()), ("pfn", pa.string()),
    ]
)  # fmt: skip


Places = dict[tuple[int, int], str | None]


class Finding(IntEnum):
    """What becomes of an entry."""

    NEW = 0
    NEW_REPLICA = 1
    ALREADY = 2
    DIFFERS = 3
    DIRECTORY = 4  # There is a directory of this name.
    LEAVING = 5  # The bytes there are about to be deleted.


@dataclass
class Plan:
    """What is to be done, by row of the entries. `file_ids` are 0 where there is no file yet."""

    entries: pa.Table
    findings: Int64s
    file_ids: Int64s
    owner_ids: Int64s
    differences: list[tuple[int, str, str, str]] = field(default_factory=list)  # Row, field, catalog's, given.
    new_locations: dict[tuple[int, int], str] = field(default_factory=dict)

    def rows(self, *findings: Finding) -> Int64s:
        return np.flatnonzero(np.isin(self.findings, findings))


def sort_key(directory_ids: Any, names: Any) -> Any:
    """One value per (directory, name)."""
    return pc.binary_join_element_wise(directory_ids.cast(pa.string()), names, "/")


async def plan(
    tx: Tx,
    caller: Caller,
    entries: pa.Table,
    directories: Sequence[Directory],
    places: Places,
) -> Plan:
    """Compare the entries with the catalog. `places` says for each (directory_id, se_id) with entries without a PFN
    where their bytes lie on the storage element; None means wherever the directory is."""
    count = entries.num_rows
    zeros = np.zeros(count, np.int64)
    made = Plan(entries, zeros, zeros.copy(), np.full(count, caller.user_id, np.int64))
    if filled := [directory for directory in directories if directory.file_count]:
        await _compare(tx, caller, made, filled)
    await _find_directories(tx, caller, made, directories)
    await _place(tx, made, places, directories)
    await _find_leaving(tx, caller, made)
    return made


async def _compare(tx: Tx, caller: Caller, made: Plan, filled: Sequence[Directory]) -> None:
    entries, ids = made.entries, [directory.directory_id for directory in filled]
    if sum(directory.file_count for directory in filled) <= 4 * entries.num_rows + 100:
        known = await store.all_names(tx, caller, ids)
    else:
        inside = entries.filter(pc.is_in(entries["directory_id"], value_set=pa.array(ids, pa.int64())))
        known = await store.find_names(tx, caller, inside["directory_id"].to_pylist(), inside["name"].to_pylist())
    if not known:
        return
    known_keys = sort_key(pa.array([f.directory_id for f in known]), pa.array([f.name for f in known]))
    matches = pc.index_in(sort_key(entries["directory_id"], entries["name"]), value_set=known_keys)
    rows = np.flatnonzero(pc.is_valid(matches).to_numpy())
    if not len(rows):
        return
    found = [known[n] for n in matches.drop_null().to_numpy()]
    made.file_ids[rows] = [file.file_id for file in found]
    made.owner_ids[rows] = [file.owner_id for file in found]
    replicas = await store.find_replicas(tx, [file.file_id for file in found])
    given = entries.take(pa.array(rows)).select(["size_bytes", "adler32", "sha256", "se_id"]).to_pylist()
    for row, file, entry in zip(rows.tolist(), found, given, strict=True):
        differences = [(row, *difference) for difference in _differences(file, entry)]
        made.differences.extend(differences)
        if differences:
            made.findings[row] = Finding.DIFFERS
        else:
            there = (file.file_id, entry["se_id"]) in replicas
            made.findings[row] = Finding.ALREADY if there else Finding.NEW_REPLICA


def _differences(file: KnownFile, entry: dict[str, Any]) -> Iterable[tuple[str, str, str]]:
    """A checksum that one side does not know differs from nothing."""
    if file.size_bytes != entry["size_bytes"]:
        yield "size_bytes", str(file.size_bytes), str(entry["size_bytes"])
    if None not in (file.adler32, entry["adler32"]) and file.adler32 != entry["adler32"]:
        yield "adler32", f"{file.adler32:08x}", f"{entry['adler32']:08x}"
    if file.sha256 is not None and entry["sha256"] is not None and file.sha256 != entry["sha256"]:
        yield "sha256", file.sha256.hex(), entry["sha256"].hex()


async def _find_directories(tx: Tx, caller: Caller, made: Plan, directories: Sequence[Directory]) -> None:
    """Mark the new names that are directories. Directories without subdirectories, the usual case, cost nothing."""
    parents = await store.directories_with_children(tx, caller, [d.directory_id for d in directories])
    if not parents:
        return
    paths = {directory.directory_id: directory.path for directory in directories}
    inside = pc.is_in(made.entries["directory_id"], value_set=pa.array(list(parents), pa.int64())).to_numpy()
    rows = np.flatnonzero(inside & (made.findings == Finding.NEW))
    some = made.entries.take(pa.array(rows))
    ids, names = some["directory_id"].to_pylist(), some["name"].to_pylist()
    lfns = [f"{paths[directory_id]}/{name}" for directory_id, name in zip(ids, names, strict=True)]
    taken = await store.find_directories(tx, caller, lfns)
    for row, lfn in zip(rows.tolist(), lfns, strict=True):
        if lfn in taken:
            made.findings[row] = Finding.DIRECTORY


async def _place(tx: Tx, made: Plan, places: Places, directories: Sequence[Directory]) -> None:
    """Entries without a PFN follow their directory's location; where that is another place, they get a PFN."""
    if not places or not len(made.rows(Finding.NEW, Finding.NEW_REPLICA)):
        return
    known = await store.find_locations(tx, list({directory_id for directory_id, _ in places}))
    paths = {directory.directory_id: directory.path for directory in directories}
    pfn = made.entries["pfn"]
    for place, wanted in places.items():
        if place not in known:
            made.new_locations[place] = paths[place[0]][1:] if wanted is None else wanted
        elif wanted is not None and wanted != known[place]:
            here = pc.and_(pc.equal(made.entries["directory_id"], place[0]), pc.equal(made.entries["se_id"], place[1]))
            own = pc.binary_join_element_wise(pa.scalar(wanted), made.entries["name"], "/" if wanted else "")
            pfn = pc.if_else(pc.and_(here, pc.is_null(pfn)), own, pfn)
    made.entries = made.entries.set_column(made.entries.schema.get_field_index("pfn"), "pfn", pfn)


async def _find_leaving(tx: Tx, caller: Caller, made: Plan) -> None:
    rows = made.rows(Finding.NEW, Finding.NEW_REPLICA)
    if not len(rows) or not await store.any_removals(tx, caller, pc.unique(made.entries["se_id"]).to_pylist()):
        return
    some = made.entries.take(pa.array(rows)).select(["directory_id", "se_id", "name", "pfn"]).to_pylist()
    known = await store.find_locations(tx, list({entry["directory_id"] for entry in some})) | made.new_locations
    pfns = [e["pfn"] or below(known[e["directory_id"], e["se_id"]], e["name"]) for e in some]
    leaving = await store.find_removals(tx, [e["se_id"] for e in some], pfns)
    for row, entry, pfn in zip(rows.tolist(), some, pfns, strict=True):
        if (entry["se_id"], pfn) in leaving:
            made.findings[row] = Finding.LEAVING


def below(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


async def carry_out(tx: Tx, caller: Caller, made: Plan) -> None:
    """Write the new files and replicas, and count them. Fills in the new file ids."""
    new, written = made.rows(Finding.NEW), made.rows(Finding.NEW, Finding.NEW_REPLICA)
    if not len(written):
        return
    made.file_ids[new] = await _file_ids(tx, len(new))
    if made.new_locations:
        await store.insert_locations(tx, made.new_locations)
    if len(new):
        files = _with_guids(_taken(made.entries, new))
        parts = await asyncio.to_thread(
            copying.encode_files, files, made.file_ids[new],
            vo_id=caller.vo_id, owner_id=caller.user_id, group_id=caller.group_id,
        )  # fmt: skip
        await store.copy_in(tx, store.COPY_FILES, parts)
        sums = sums_by([_numbers(files, "directory_id")], _numbers(files, "size_bytes"))
        await store.add_to_directories(tx, caller, [(ids[0], count, size) for ids, count, size in sums])
    replicas = _taken(made.entries, written)
    se_ids = _numbers(replicas, "se_id")
    parts = copying.encode_replicas(made.file_ids[written], se_ids, replicas["pfn"], vo_id=caller.vo_id)
    await store.copy_in(tx, store.COPY_REPLICAS, parts)
    keys = [_numbers(replicas, "directory_id"), se_ids, made.owner_ids[written]]
    used = sums_by(keys, _numbers(replicas, "size_bytes"))
    await store.add_to_usage(tx, caller, [(ids[0], ids[1], ids[2], count, size) for ids, count, size in used])


def sums_by(keys: Sequence[Int64s], sizes: Int64s) -> list[tuple[list[int], int, int]]:
    """For each different key: the key, how many rows, the exact sum of their sizes."""
    # One number per key: numpy sorts numbers many times faster than rows.
    numbers = np.zeros(len(sizes), np.int64)
    for column in keys:
        values, codes = np.unique(column, return_inverse=True)
        numbers = np.unique(numbers * len(values) + codes.reshape(-1), return_inverse=True)[1].reshape(-1)
    _, first, inverse, counts = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    totals = np.zeros(len(first), np.int64)
    np.add.at(totals, inverse.reshape(-1), sizes)
    unique = np.stack([column[first] for column in keys], axis=1)
    return list(zip(unique.tolist(), counts.tolist(), totals.tolist(), strict=True))


async def _file_ids(tx: Tx, count: int) -> Int64s:
    blocks = await store.next_file_blocks(tx, -(-count // 1000)) if count else []
    return (np.asarray(blocks, np.int64)[:, None] + np.arange(1000)).reshape(-1)[:count]


def _with_guids(files: pa.Table) -> pa.Table:
    guid = files["guid"].combine_chunks()
    if guid.null_count:
        data = copying.new_guids(len(guid))
        fresh = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(guid), [None, pa.py_buffer(data)])
        guid = fresh if guid.null_count == len(guid) else pc.coalesce(guid, fresh)
    return files.set_column(files.schema.get_field_index("guid"), "guid", guid)


def _taken(entries: pa.Table, rows: Int64s) -> pa.Table:
    return entries if len(rows) == entries.num_rows else entries.take(pa.array(rows))


def _numbers(table: pa.Table, column: str) -> Int64s:
    numbers: Int64s = table[column].to_numpy()
    return numbers
