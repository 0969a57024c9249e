"""The verbs of provenance.

Whoever sets ancestors of files that are there locks the files' directories, and then the lineage of the VO. Ancestors
are kept by locks on their rows, which are taken without waiting; a removal takes the links after the files, so that it
sees the links that it had to wait for.
"""

from collections.abc import Mapping, Sequence

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog import store as catalog_store
from spinor.catalog.errors import DirectoryDenied
from spinor.catalog.provenance import store
from spinor.catalog.provenance.errors import AncestorLeaving, LineageCycle, TooManyRelatives
from spinor.catalog.provenance.models import FileAncestors, FileDescendants, LineageRequest, Relative, SetAncestors
from spinor.catalog.provenance.store import FoundFile, Q
from spinor.catalog.service import reading
from spinor.catalog.service.directories import require_ways
from spinor.catalog.service.permissions import permissions
from spinor.db import Query, Tx
from spinor.search.expression import shown
from spinor.types import LFN

_MOST = 200_000


async def ancestors(tx: Tx, caller: Caller, request: LineageRequest) -> list[FileAncestors]:
    """From which files each file was made, in the order asked. Raises UnknownLFN, FileDenied, TooManyRelatives."""
    found = await _relatives(tx, caller, Q.ancestors, request)
    return [FileAncestors(lfn=lfn, ancestors=relatives) for lfn, relatives in found]


async def descendants(tx: Tx, caller: Caller, request: LineageRequest) -> list[FileDescendants]:
    """Which files were made from each file, in the order asked. Raises UnknownLFN, FileDenied, TooManyRelatives."""
    found = await _relatives(tx, caller, Q.descendants, request)
    return [FileDescendants(lfn=lfn, descendants=relatives) for lfn, relatives in found]


async def _relatives(tx: Tx, caller: Caller, query: Query, request: LineageRequest) -> list[tuple[LFN, list[Relative]]]:
    """A file that the caller may not read is left out, and what lies behind it is not."""
    files = await _readable(tx, caller, request.lfns)
    ids = {file.file_id for file in files.values()}
    rows = await store.relatives(tx, caller, query, list(ids), depth=request.depth, limit=_MOST + 1)
    if len(rows) > _MOST:
        raise TooManyRelatives(
            f"There are more than {_MOST:,} relatives; ask for fewer files, or with a smaller depth.", field="depth"
        )
    mine = await permissions(tx, caller)
    await mine.learn({row[3] for row in rows}, {row[4] for row in rows})
    found: dict[int, list[Relative]] = {file_id: [] for file_id in ids}
    for start_id, lfn, depth, access_id, gate_id in rows:
        if mine.may_read(access_id, gate_id):
            found[start_id].append(Relative(LFN(lfn), depth))
    return [(lfn, found[files[lfn].file_id]) for lfn in request.lfns]


async def set_ancestors(tx: Tx, caller: Caller, changes: Sequence[SetAncestors]) -> list[FileAncestors]:
    """Add direct ancestors, or replace them: all changes, or none; what each file has then.

    Needs the right to write the file and to read the ancestors. Raises UnknownLFN, FileDenied, DirectoryDenied,
    LineageCycle (names the way), AncestorLeaving (try again).
    """
    lfns = list(dict.fromkeys(change.lfn for change in changes))
    await require_ways(tx, caller, lfns)
    await catalog_store.hold_tree(tx, caller)
    await catalog_store.lock_directories(tx, caller, {rules.split_lfn(lfn, caller.vo)[0] for lfn in lfns})
    await store.hold_lineage(tx, caller)
    files = await _readable(tx, caller, lfns)
    mine = await permissions(tx, caller)
    for file in files.values():
        if not mine.bits(file.access_id) & rules.WRITE:
            raise DirectoryDenied(f"You may not change the ancestors of {shown(file.lfn)}.", path=file.lfn)
    ids = {lfn: file.file_id for lfn, file in files.items()}
    if cut := {ids[change.lfn] for change in changes if change.replace}:
        await store.cut(tx, caller, list(cut))
    await _link(tx, caller, ids, {lfn: [a for c in changes if c.lfn == lfn for a in c.ancestors] for lfn in lfns})
    await _refuse_cycle(tx, caller, list(ids.values()))
    await catalog_store.record_files(tx, caller, "files-changed", list(ids.values()), what="ancestors")
    return await ancestors(tx, caller, LineageRequest(lfns=[LFN(lfn) for lfn in lfns], depth=1))


async def link_new_files(
    tx: Tx, caller: Caller, file_ids: Mapping[str, int], given: Mapping[str, Sequence[str]]
) -> None:
    """Give files that this transaction has made their ancestors, which may be among them."""
    await _link(tx, caller, file_ids, given)
    if any(ancestor in file_ids for ancestors in given.values() for ancestor in ancestors):
        await _refuse_cycle(tx, caller, list(file_ids.values()))


async def _link(tx: Tx, caller: Caller, file_ids: Mapping[str, int], given: Mapping[str, Sequence[str]]) -> None:
    for lfn, lfns in given.items():
        if lfn in lfns:
            raise LineageCycle(f"{shown(lfn)} cannot be its own ancestor; nothing was changed.", lfn=lfn)
    wanted = list(dict.fromkeys(ancestor for lfns in given.values() for ancestor in lfns))
    if not wanted:
        return
    found = await _readable(tx, caller, wanted)
    ids = [file.file_id for file in found.values()]
    kept = await store.keep_files(tx, caller, ids)
    for ancestor in wanted:
        if found[ancestor].file_id not in kept:
            sentence = f"{shown(ancestor)} is being removed or moved just now; nothing was changed."
            raise AncestorLeaving(sentence, lfn=ancestor)
    links = [(file_ids[lfn], found[ancestor].file_id) for lfn, lfns in given.items() for ancestor in lfns]
    await store.link(tx, caller, links)


async def _readable(tx: Tx, caller: Caller, lfns: Sequence[str]) -> dict[str, FoundFile]:
    distinct = list(dict.fromkeys(lfns))
    rows = await store.find_files(tx, caller, [rules.split_lfn(lfn, caller.vo) for lfn in distinct])
    if len(rows) < len(distinct):
        await reading.refuse_missing(tx, caller, distinct, {row.lfn for row in rows})
    mine = await permissions(tx, caller)
    await mine.learn({row.access_id for row in rows}, {row.gate_id for row in rows})
    for row in rows:
        if not mine.may_read(row.access_id, row.gate_id):
            raise await reading.unreadable(tx, mine, row.lfn, row.gate_id)
    return {row.lfn: row for row in rows}


async def _refuse_cycle(tx: Tx, caller: Caller, file_ids: Sequence[int]) -> None:
    start = await store.find_cycle(tx, caller, file_ids)
    if start is None:
        return
    way = _way_back(start, await store.links_above(tx, caller, start))
    names = await store.names_of(tx, caller, way)
    lfns = [names[file_id] for file_id in way]
    shown_ones = lfns if len(lfns) <= 8 else [*lfns[:4], "...", *lfns[-3:]]
    raise LineageCycle(
        "This would make a file its own ancestor, by the way "
        + " <- ".join(shown(lfn) if lfn != "..." else lfn for lfn in shown_ones)
        + "; nothing was changed.",
        lfns=lfns[:100],
    )


def _way_back(start: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """A shortest way from a file over its ancestors back to it."""
    above: dict[int, list[int]] = {}
    for child, ancestor in links:
        above.setdefault(child, []).append(ancestor)
    came_from: dict[int, int] = {}
    front = [start]
    while start not in came_from:
        front = [a for child in front for a in above.get(child, []) if came_from.setdefault(a, child) == child]
    way = [start]
    while len(way) == 1 or way[-1] != start:
        way.append(came_from[way[-1]])
    return way[::-1]
