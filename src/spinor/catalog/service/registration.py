"""Register files one by one or thousands in a call: all of them, or none."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from spinor.access import Caller
from spinor.catalog import rules, store
from spinor.catalog.errors import BadMetadata, BytesLeaving, FileDenied, FileDiffers, LFNExists
from spinor.catalog.models import MetadataType, NewFile, Registered, RegisterOutcome
from spinor.catalog.provenance import service as provenance
from spinor.catalog.service import ingest
from spinor.catalog.service.directories import writable_directories
from spinor.catalog.service.ingest import Finding, Places, Plan
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.resources import service as resources
from spinor.search.expression import shown
from spinor.types import LFN

_OUTCOMES = {
    Finding.NEW: RegisterOutcome.REGISTERED,
    Finding.NEW_REPLICA: RegisterOutcome.REPLICA_ADDED,
    Finding.ALREADY: RegisterOutcome.ALREADY,
}


async def register_files(tx: Tx, caller: Caller, files: Sequence[NewFile]) -> list[Registered]:
    """Register files that lie on storage elements, in the order given; directories above them are made.

    All or nothing. A file that is there with the same size and checksums is no error; on another storage element it
    gets one more replica. Raises BadLFN, BadPFN, PathOutsideVO, DirectoryDenied, FileDiffers (names both values),
    LFNExists, BytesLeaving, UnknownStorageElement, UnknownLFN (an ancestor), LineageCycle, AncestorLeaving.
    """
    if not files:
        return []
    places = [rules.split_lfn(file.lfn, caller.vo) for file in files]
    elements = {se: await resources.storage_element(tx, caller, se) for se in dict.fromkeys(f.se for f in files)}
    directories = await writable_directories(tx, caller, {directory for directory, _ in places})
    types = {key.name: key.type for key in await store.metadata_keys(tx, caller)} if _annotated(files) else {}
    rows = [
        _entry(file, directories[directory], name, elements[file.se].se_id)
        | {"metadata": _metadata(file, types) if file.metadata else None}
        for file, (directory, name) in zip(files, places, strict=True)
    ]
    outcomes: dict[int, Registered] = {}
    # A file that comes twice, say with two storage elements, is looked at again once its first entry is in.
    for turn in _turns(files):
        entries = pa.Table.from_pylist([rows[n] for n in turn], schema=ingest.SCHEMA)
        unplaced: Places = {(rows[n]["directory_id"], rows[n]["se_id"]): None for n in turn if rows[n]["pfn"] is None}
        fresh = directories if not outcomes else await writable_directories(tx, caller, directories)
        made = await ingest.plan(tx, caller, entries, list(fresh.values()), unplaced)
        _refuse(made, [files[n] for n in turn])
        await ingest.carry_out(tx, caller, made)
        for n, file_id, finding in zip(turn, made.file_ids.tolist(), made.findings.tolist(), strict=True):
            outcomes[n] = Registered(lfn=files[n].lfn, file_id=file_id, outcome=_OUTCOMES[Finding(finding)])
    await _link_ancestors(tx, caller, files, outcomes)
    return [outcomes[n] for n in range(len(files))]


async def _link_ancestors(tx: Tx, caller: Caller, files: Sequence[NewFile], outcomes: dict[int, Registered]) -> None:
    new: dict[str, tuple[int, list[LFN]]] = {
        file.lfn: (outcomes[n].file_id, file.ancestors)
        for n, file in enumerate(files)
        if file.ancestors and outcomes[n].outcome is RegisterOutcome.REGISTERED
    }
    if new:
        ids = {lfn: file_id for lfn, (file_id, _) in new.items()}
        await provenance.link_new_files(tx, caller, ids, {lfn: given for lfn, (_, given) in new.items()})


def _entry(file: NewFile, directory: Directory, name: str, se_id: int) -> dict[str, Any]:
    return {
        "directory_id": directory.directory_id,
        "name": name,
        "size_bytes": file.size_bytes,
        "adler32": None if file.adler32 is None else int(file.adler32, 16),
        "sha256": None if file.sha256 is None else bytes.fromhex(file.sha256),
        "guid": None if file.guid is None else file.guid.bytes,
        "se_id": se_id,
        "pfn": None if file.pfn is None else rules.checked_pfn(file.pfn),
    }


def _annotated(files: Sequence[NewFile]) -> bool:
    return any(file.metadata for file in files)


def _metadata(file: NewFile, types: dict[str, MetadataType]) -> str | None:
    text, fault = rules.checked_metadata(msgspec.json.encode(file.metadata).decode(), types)
    if fault:
        raise BadMetadata(f"{shown(file.lfn)}: {fault}; nothing was registered.", lfn=file.lfn)
    return text


def _turns(files: Sequence[NewFile]) -> list[list[int]]:
    """The numbers of the files, so that no file comes twice in a turn."""
    turns: list[list[int]] = []
    seen: dict[str, int] = {}
    for n, file in enumerate(files):
        turn = seen.get(file.lfn, 0)
        seen[file.lfn] = turn + 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(n)
    return turns


def _refuse(made: Plan, files: Sequence[NewFile]) -> None:
    if made.differences:
        row, field, there, given = made.differences[0]
        rows = {difference[0] for difference in made.differences}
        more = f" ({len(rows) - 1} more differ.)" if len(rows) > 1 else ""
        raise FileDiffers(
            f"{shown(files[row].lfn)} is registered with {field} {there}, not {given}; nothing was registered.{more}",
            lfn=files[row].lfn, field=field, catalog=there, given=given, count=len(rows),
        )  # fmt: skip
    for row in made.rows(Finding.DIRECTORY).tolist():
        raise LFNExists(f"{shown(files[row].lfn)} is a directory; nothing was registered.", lfn=files[row].lfn)
    for row in made.rows(Finding.CLOSED).tolist():
        raise FileDenied(
            f"{shown(files[row].lfn)} is there, and you may not read it, or not give it another replica; nothing was "
            "registered. See `spinor file getfacl`, or ask its owner.",
            lfn=files[row].lfn,
        )  # fmt: skip
    for row in made.rows(Finding.LEAVING).tolist():
        raise BytesLeaving(
            f"The bytes of {shown(files[row].lfn)} on {files[row].se} are about to be deleted with a file that was "
            "removed; register them under another PFN.",
            lfn=files[row].lfn, se=files[row].se,
        )  # fmt: skip
