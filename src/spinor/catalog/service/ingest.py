"""The one way by which names enter the catalog: compare with what is there, then COPY what is new.

Works on columns, for locked directories. An entry is a row of SCHEMA; guid, checksums, pfn (NULL: by the directory's
location), metadata (a JSON object) and created_at may be NULL. No two entries of one call have the same directory and
name.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import AsyncCursor, sql

from spinor.access import Caller
from spinor.catalog import copying, rules, store
from spinor.catalog.access import store as access_store
from spinor.catalog.copying import Int64s
from spinor.catalog.service.permissions import permissions
from spinor.catalog.service.quotas import check_quotas
from spinor.catalog.store import Directory
from spinor.db import Tx

SCHEMA = pa.schema(
    [
        ("directory_id", pa.int64()), ("name", pa.string()), ("size_bytes", pa.int64()), ("adler32", pa.int64()),
        ("sha256", pa.binary()), ("guid", pa.binary(16)), ("se_id", pa.int64()), ("pfn", pa.string()),
        ("metadata", pa.string()), ("created_at", pa.timestamp("us", "UTC")),
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
    CLOSED = 6  # There is a file that the caller may not read, or, to give it one more replica, not write.


@dataclass
class Plan:
    """What is to be done, by row of the entries. `file_ids` are 0 where there is no file yet."""

    entries: pa.Table
    findings: Int64s
    file_ids: Int64s
    owner_ids: Int64s
    directories: Sequence[Directory]
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
    made = Plan(entries, zeros, zeros.copy(), np.full(count, caller.user_id, np.int64), directories)
    if filled := [directory for directory in directories if directory.file_count]:
        await _compare(tx, caller, made, filled)
    await _find_directories(tx, caller, made, directories)
    await _place(tx, made, places, directories)
    await _find_leaving(tx, made)
    return made


async def _compare(tx: Tx, caller: Caller, made: Plan, filled: Sequence[Directory]) -> None:
    entries, ids = made.entries, [directory.directory_id for directory in filled]
    if sum(directory.file_count for directory in filled) <= 4 * entries.num_rows + 100:
        known = await store.known_in(tx, caller, ids)
    else:
        inside = entries.filter(pc.is_in(entries["directory_id"], value_set=pa.array(ids, pa.int64())))
        # In the order of the index, so that neighbours are looked for one after the other.
        inside = inside.select(["directory_id", "name"]).sort_by([("directory_id", "ascending"), ("name", "ascending")])
        known = await store.known_among(tx, caller, inside["directory_id"].to_pylist(), inside["name"].to_pylist())
    if not known.num_rows:
        return
    known_keys = sort_key(known["directory_id"], known["name"])
    matches = pc.index_in(sort_key(entries["directory_id"], entries["name"]), value_set=known_keys.combine_chunks())
    rows = np.flatnonzero(pc.is_valid(matches).to_numpy())
    if not len(rows):
        return
    files = known.take(matches.drop_null())
    given = entries.take(pa.array(rows)).select(["size_bytes", "adler32", "sha256", "se_id"])
    made.file_ids[rows] = _numbers(files, "file_id")
    made.owner_ids[rows] = _numbers(files, "owner_id")
    made.differences = _differences(rows, files, given)
    made.findings[rows] = np.where(_are_there(files, given), Finding.ALREADY, Finding.NEW_REPLICA)
    made.findings[[row for row, *_ in made.differences]] = Finding.DIFFERS
    await _close(tx, caller, made, rows, _numbers(files, "access_id"))


async def _close(tx: Tx, caller: Caller, made: Plan, rows: Int64s, access_ids: Int64s) -> None:
    """Tell nothing of files that the caller may not read, and add nothing to those that they may not write."""
    values, codes = np.unique(access_ids, return_inverse=True)
    mine = await (await permissions(tx, caller)).learn(values.tolist())
    bits = np.array([mine.bits(value) for value in values.tolist()], np.int64)[codes.reshape(-1)]
    wanted = np.where(made.findings[rows] == Finding.NEW_REPLICA, rules.READ | rules.WRITE, rules.READ)
    closed = rows[bits & wanted != wanted]
    if len(closed):
        made.findings[closed] = Finding.CLOSED
        hidden = set(closed.tolist())
        made.differences = [difference for difference in made.differences if difference[0] not in hidden]


def _are_there(files: pa.Table, given: pa.Table) -> Any:
    """By file, whether it has a replica on the entry's storage element."""
    alone = pc.binary_join_element_wise("{", given["se_id"].cast(pa.string()), "}", "")
    there = pc.equal(files["se_ids"], alone).to_numpy().copy()
    for n in np.flatnonzero(~there & pc.match_substring(files["se_ids"], ",").to_numpy()).tolist():
        ids = files["se_ids"][n].as_py().strip("{}").split(",")
        there[n] = str(given["se_id"][n].as_py()) in ids
    return there


def _differences(rows: Int64s, files: pa.Table, given: pa.Table) -> list[tuple[int, str, str, str]]:
    """A checksum that one side does not know differs from nothing."""
    found: list[tuple[int, str, str, str]] = []

    def look(column: str, differs: Any, written: Any) -> None:
        for n in np.flatnonzero(pc.fill_null(differs, False).to_numpy()).tolist():
            there, new = files[column][n].as_py(), given[column][n].as_py()
            if written(there) != written(new):
                found.append((int(rows[n]), column, written(there), written(new)))

    look("size_bytes", pc.not_equal(files["size_bytes"], given["size_bytes"]), str)
    look("adler32", pc.not_equal(files["adler32"], given["adler32"]), "{:08x}".format)
    both = pc.and_(pc.is_valid(files["sha256"]), pc.is_valid(given["sha256"]))
    look("sha256", both, lambda sha256: sha256 if isinstance(sha256, str) else sha256.hex())
    return sorted(found, key=lambda difference: difference[0])


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


async def _find_leaving(tx: Tx, made: Plan) -> None:
    rows = made.rows(Finding.NEW, Finding.NEW_REPLICA)
    if not len(rows) or not await store.any_removals(tx, pc.unique(made.entries["se_id"]).to_pylist()):
        return
    some = made.entries.take(pa.array(rows)).select(["directory_id", "se_id", "name", "pfn"]).to_pylist()
    known = await store.find_locations(tx, list({entry["directory_id"] for entry in some})) | made.new_locations
    pfns = [e["pfn"] or below(known[e["directory_id"], e["se_id"]], e["name"]) for e in some]
    at = {(entry["se_id"], pfn.rpartition("/")[0]) for entry, pfn in zip(some, pfns, strict=True)}
    leaving = await store.find_removals(tx, at)
    for row, entry, pfn in zip(rows.tolist(), some, pfns, strict=True):
        if (entry["se_id"], pfn) in leaving:
            made.findings[row] = Finding.LEAVING


def below(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


async def carry_out(tx: Tx, caller: Caller, made: Plan) -> None:
    """Write the new files and replicas, and count them. Fills in the new file ids. Raises QuotaExceeded."""
    new, more = made.rows(Finding.NEW), made.rows(Finding.NEW_REPLICA)
    written = np.sort(np.concatenate([new, more]))
    if not len(written):
        return
    if made.new_locations:
        await store.insert_locations(tx, made.new_locations)
    if len(new):
        await _insert(tx, caller, made, new)
    if len(more):
        replicas = made.entries.take(pa.array(more))
        await store.add_replicas(
            tx, caller, made.file_ids[more].tolist(), replicas["se_id"].to_pylist(), replicas["pfn"].to_pylist()
        )
        rows = [(ids[0], count, None, None) for ids, count, _ in sums_by([_numbers(replicas, "directory_id")])]
        await store.record_changes(tx, caller, "replicas-added", rows)
    replicas = _taken(made.entries, written)
    keys = [_numbers(replicas, "directory_id"), _numbers(replicas, "se_id"), made.owner_ids[written]]
    used = sums_by(keys, _numbers(replicas, "size_bytes"))
    await store.add_to_usage(tx, caller, [(ids[0], ids[1], ids[2], count, size) for ids, count, size in used])
    await check_quotas(tx, caller, made.directories, {ids[2] for ids, _, _ in used})


async def _insert(tx: Tx, caller: Caller, made: Plan, new: Int64s) -> None:
    """COPY the files, directory by directory, so that those of one directory have ids that follow each other."""
    directory_ids = _numbers(made.entries, "directory_id")
    order = new[np.argsort(directory_ids[new], kind="stable")]
    made.file_ids[order] = await _file_ids(tx, len(order))
    files = _with_guids(made.entries if np.array_equal(order, np.arange(made.entries.num_rows)) else
                        made.entries.take(pa.array(order)))  # fmt: skip
    files = files.append_column("file_id", pa.array(made.file_ids[order]))
    files = files.append_column("access_id", pa.array(await _access_ids(tx, caller, made, directory_ids[order])))
    columns, parts = await asyncio.to_thread(copying.encode_files, files, vo_id=caller.vo_id)
    # A COPY cannot be prepared, so this is not among the queries.
    statement = sql.SQL("COPY catalog.file ({}) FROM STDIN (FORMAT binary)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    cursor: AsyncCursor[Any]
    async with tx.cursor() as cursor, cursor.copy(statement) as copy:
        for part in parts:
            await copy.write(part)
    ids, first, counts = np.unique(directory_ids[order], return_index=True, return_counts=True)
    sizes = np.add.reduceat(_numbers(files, "size_bytes"), first)
    annotated = np.add.reduceat(pc.is_valid(files["metadata"]).to_numpy().astype(np.int64), first)
    sums = zip(ids.tolist(), counts.tolist(), sizes.tolist(), annotated.tolist(), strict=True)
    await store.add_to_directories(tx, caller, list(sums))
    file_ids = made.file_ids[order]
    rows = zip(
        ids.tolist(), counts.tolist(), file_ids[first].tolist(), file_ids[first + counts - 1].tolist(), strict=True
    )
    await store.record_changes(tx, caller, "files-registered", list(rows))


async def _access_ids(tx: Tx, caller: Caller, made: Plan, directory_ids: Int64s) -> Int64s:
    """What each of the new files gets, by its directory."""
    mine = await permissions(tx, caller)
    parents = sorted({directory.access_id for directory in made.directories})
    await mine.learn(parents)
    new = [rules.access_of_new(mine.access(parent), caller, directory=False) for parent in parents]
    distinct = list(dict.fromkeys(new))
    kept = dict(zip(distinct, await access_store.kept_accesses(tx, caller, distinct), strict=True))
    of_parent = {parent: kept[access] for parent, access in zip(parents, new, strict=True)}
    by_directory = {d.directory_id: of_parent[d.access_id] for d in made.directories}
    values, codes = np.unique(directory_ids, return_inverse=True)
    return np.array([by_directory[value] for value in values.tolist()], np.int64)[codes.reshape(-1)]


def sums_by(keys: Sequence[Int64s], sizes: Int64s | None = None) -> list[tuple[list[int], int, int]]:
    """For each different key: the key, how many rows, the exact sum of their sizes."""
    # One number per key: numpy sorts numbers many times faster than rows.
    numbers = np.zeros(len(keys[0]), np.int64)
    for column in keys:
        if column[0] == column[-1] and (column == column[0]).all():
            continue
        values, codes = np.unique(column, return_inverse=True)
        numbers = np.unique(numbers * len(values) + codes.reshape(-1), return_inverse=True)[1].reshape(-1)
    _, first, inverse, counts = np.unique(numbers, return_index=True, return_inverse=True, return_counts=True)
    totals = np.zeros(len(first), np.int64)
    if sizes is not None:
        np.add.at(totals, inverse.reshape(-1), sizes)
    unique = np.stack([column[first] for column in keys], axis=1)
    return list(zip(unique.tolist(), counts.tolist(), totals.tolist(), strict=True))


async def _file_ids(tx: Tx, count: int) -> Int64s:
    """Ascending ids, though not always one after the other: blocks of a thousand go to whoever asks."""
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
