"""Changes of files and replicas that a repair asks for, each only where things are still as it says."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import psycopg

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog import store as catalog_store
from spinor.catalog.errors import UnknownLFN
from spinor.catalog.fsck.changes import (
    AddReplica,
    ClearChecksum,
    Register,
    RemoveReplica,
    SetChecksum,
    SetStatus,
    Unregister,
)
from spinor.catalog.models import BytesFate, NewFile, RegisterOutcome, RemoveRequest, ReplicaStatus
from spinor.catalog.repairs import store
from spinor.catalog.repairs.models import ALREADY, FileChange, RefusedRepair, Repaired
from spinor.catalog.replicas import store as replicas_store
from spinor.catalog.replicas.service import replicas_of
from spinor.catalog.replicas.store import LockedFile, Place, Replica
from spinor.catalog.service.permissions import permissions
from spinor.catalog.service.quotas import check_quotas
from spinor.catalog.service.registration import register_files
from spinor.catalog.service.removal import remove_files
from spinor.catalog.store import Directory
from spinor.db import Tx
from spinor.errors import BadInput, SpinorError
from spinor.resources import service as resources
from spinor.search.expression import shown
from spinor.types import LFN, PFN, SEName

MOVED_ON = "moved-on"


class ManyKinds(BadInput):
    """Changes of one call are all of one kind."""

    code = "many-kinds"


class _Refused(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


async def make(tx: Tx, caller: Caller, changes: Sequence[FileChange]) -> Repaired:
    """Make those of the changes that find what they expect; each other one is refused with its reason.

    Raises ManyKinds, UnknownStorageElement, BadPFN, QuotaExceeded: nothing is changed then.
    """
    if not changes:
        return Repaired(done=0, refused=[])
    kind = type(changes[0])
    if any(type(change) is not kind for change in changes):
        raise ManyKinds
    if kind is Register:
        refused = await _register(tx, caller, [change for change in changes if isinstance(change, Register)])
    else:
        work = _Work(tx, caller)
        await work.hold(changes)
        refused = await work.make(changes)
    rows = [RefusedRepair(n=n, code=code, reason=reason) for n, (code, reason) in sorted(refused.items())]
    return Repaired(done=len(changes) - len(rows), refused=rows)


Reasons = dict[int, tuple[str, str]]


async def _register(tx: Tx, caller: Caller, changes: Sequence[Register]) -> Reasons:
    """Together if that goes, otherwise one by one. What is there already, equal, is no file of this repair's."""
    if await _registered(tx, caller, changes) is None:
        return {}
    refused: Reasons = {}
    for n, change in enumerate(changes):
        if (problem := await _registered(tx, caller, [change])) is not None:
            refused[n] = problem
    return refused


async def _registered(tx: Tx, caller: Caller, changes: Sequence[Register]) -> tuple[str, str] | None:
    new = [
        NewFile(lfn=LFN(c.lfn), se=SEName(c.se), pfn=PFN(c.pfn), size_bytes=c.size_bytes, adler32=c.adler32)
        for c in changes
    ]
    problem: tuple[str, str] | None = None
    async with tx.transaction() as savepoint:
        try:
            outcomes = await register_files(tx, caller, new)
            await _refuse_used(tx, caller, changes)
        except SpinorError as error:
            if error.status >= 500:
                raise
            problem = (error.code, error.message)
        else:
            other = next((each for each in outcomes if each.outcome is not RegisterOutcome.REGISTERED), None)
            if other is not None:
                problem = (ALREADY, f"{shown(other.lfn)} is registered already.")
        if problem is not None:
            raise psycopg.Rollback(savepoint)
    return problem


async def _refuse_used(tx: Tx, caller: Caller, changes: Sequence[Register]) -> None:
    """Bytes that another file has are not adopted. The new files are among those that have them."""
    for se in {change.se for change in changes}:
        se_id = (await resources.storage_element(tx, caller, se)).se_id
        pfns = [change.pfn for change in changes if change.se == se]
        several = await store.shared_among(tx, se_id, [_place(se_id, pfn) for pfn in pfns])
        if several:
            raise PlaceShared(f"Another file has its bytes at {shown(pfns[several[0]])}.", pfn=pfns[several[0]])


class PlaceShared(BadInput):
    """Another file has its bytes there."""

    status, code = 409, "place-taken"


def _place(se_id: int, pfn: str) -> Place:
    path, _, name = pfn.rpartition("/")
    return Place(se_id, path, name)


class _Work:
    """Changes of files that are there, whose directories are locked."""

    def __init__(self, tx: Tx, caller: Caller) -> None:
        self.tx = tx
        self.caller = caller
        self.files: dict[str, LockedFile] = {}
        self.replicas: dict[str, list[Replica]] = {}
        self.directories: dict[str, Directory] = {}
        self.reasons: dict[str, tuple[str, str]] = {}  # Why a file cannot be changed.
        self.locations: dict[tuple[int, int], str] = {}
        self.se_ids: dict[str, int] = {}
        self.changed: set[str] = set()
        self.adler32: dict[int, str | None] = {}
        self.came: list[tuple[LockedFile, int]] = []
        self.went: list[tuple[LockedFile, int]] = []
        self.taken: set[tuple[int, str]] = set()

    async def hold(self, changes: Sequence[Any]) -> None:
        for se in dict.fromkeys(change.se for change in changes):
            self.se_ids[se] = (await resources.storage_element(self.tx, self.caller, se)).se_id
        places = self._places(change.lfn for change in changes)
        await catalog_store.hold_tree(self.tx, self.caller)
        self.directories = await catalog_store.lock_directories(self.tx, self.caller, {d for d, _ in places.values()})
        lfns = list(places)
        for file in await replicas_store.lock_files(self.tx, self.caller, list(places.values())):
            self.files[lfns[file.n - 1]] = file
        mine = await permissions(self.tx, self.caller, self.directories.values())
        await mine.learn({file.access_id for file in self.files.values()})
        for lfn in lfns:
            if (found := self.files.get(lfn)) is None:
                self.reasons[lfn] = (UnknownLFN.code, f"There is no file {shown(lfn)}.")
            elif not (mine.passes(found.gate_id) and mine.bits(found.access_id) & rules.WRITE):
                self.reasons[lfn] = ("file-denied", f"You may not change {shown(lfn)}.")
            else:
                self.replicas[lfn] = replicas_of(found)
        ids = [directory.directory_id for directory in self.directories.values()]
        self.locations = await catalog_store.find_locations(self.tx, ids)

    def _places(self, lfns: Iterable[str]) -> dict[str, tuple[str, str]]:
        places: dict[str, tuple[str, str]] = {}
        for lfn in dict.fromkeys(lfns):
            try:
                places[lfn] = rules.split_lfn(lfn, self.caller.vo)
            except SpinorError as error:
                self.reasons[lfn] = (error.code, error.message)
        return places

    async def make(self, changes: Sequence[Any]) -> Reasons:
        ways: dict[type[Any], Callable[[Any], None]] = {
            Unregister: self._unregister,
            AddReplica: self._add,
            RemoveReplica: self._remove,
            SetStatus: self._set_status,
            SetChecksum: self._set_checksum,
            ClearChecksum: self._clear_checksum,
        }
        kind = type(changes[0])
        if kind is AddReplica:
            await self._learn_taken(changes)
        refused: Reasons = {}
        for n, change in enumerate(changes):
            if change.lfn in self.reasons:
                code, reason = self.reasons[change.lfn]
                # A file that is not there has left already, and so has its replica.
                is_gone = code == UnknownLFN.code and kind in (Unregister, RemoveReplica)
                refused[n] = (ALREADY if is_gone else code, reason)
                continue
            try:
                ways[kind](change)
            except _Refused as problem:
                refused[n] = (problem.code, problem.reason)
        if kind is Unregister:
            refused |= await self._unregistered([n for n in range(len(changes)) if n not in refused], changes)
        elif self.changed:
            await self._write(kind)
        return refused

    def _replica(self, change: Any) -> Replica | None:
        se_id = self.se_ids[change.se]
        return next((replica for replica in self.replicas[change.lfn] if replica.se_id == se_id), None)

    def _pfn(self, lfn: str, replica: Replica) -> str:
        if replica.pfn is not None:
            return replica.pfn
        file = self.files[lfn]
        path = self.locations[file.directory_id, replica.se_id]
        return f"{path}/{file.name}" if path else file.name

    def _replace(self, lfn: str, old: Replica, new: Replica | None) -> None:
        kept = [new if replica is old else replica for replica in self.replicas[lfn]]
        self.replicas[lfn] = [replica for replica in kept if replica is not None]
        self.changed.add(lfn)

    def _set_status(self, change: SetStatus) -> None:
        replica = self._replica(change)
        if replica is None:
            raise _Refused("unknown-replica", f"{shown(change.lfn)} has no replica on {change.se}.")
        if replica.status.value == change.after:
            raise _Refused(ALREADY, f"The replica of {shown(change.lfn)} is {change.after} already.")
        if replica.status.value != change.before:
            raise _Refused(MOVED_ON, f"The replica of {shown(change.lfn)} is {replica.status}, not {change.before}.")
        self._replace(change.lfn, replica, Replica(replica.se_id, replica.pfn, _status(change.after)))

    def _remove(self, change: RemoveReplica) -> None:
        replica = self._replica(change)
        if replica is None:
            raise _Refused(ALREADY, f"{shown(change.lfn)} has no replica on {change.se}.")
        there = (self._pfn(change.lfn, replica), replica.status.value)
        if there != (change.pfn, change.status):
            raise _Refused(MOVED_ON, f"The replica of {shown(change.lfn)} is at {shown(there[0])}, {there[1]}, by now.")
        self._replace(change.lfn, replica, None)
        self.went.append((self.files[change.lfn], replica.se_id))

    async def _learn_taken(self, changes: Sequence[AddReplica]) -> None:
        places = [_place(self.se_ids[change.se], rules.checked_pfn(change.pfn)) for change in changes]
        taken = await replicas_store.used_places(self.tx, places)
        self.taken = {(place.se_id, f"{place.path}/{place.name}" if place.path else place.name) for place in taken}
        self.taken |= await catalog_store.find_removals(self.tx, {(place.se_id, place.path) for place in places})

    def _add(self, change: AddReplica) -> None:
        if (replica := self._replica(change)) is not None:
            there = self._pfn(change.lfn, replica)
            code = ALREADY if there == change.pfn else MOVED_ON
            raise _Refused(code, f"{shown(change.lfn)} has a replica on {change.se} already, at {shown(there)}.")
        file, se_id = self.files[change.lfn], self.se_ids[change.se]
        if (se_id, change.pfn) in self.taken:
            raise _Refused("place-taken", f"{shown(change.pfn)} is another file's, or about to be deleted.")
        self.taken.add((se_id, change.pfn))
        path = self.locations.get((file.directory_id, se_id))
        usual = None if path is None else f"{path}/{file.name}" if path else file.name
        pfn = None if change.pfn == usual else change.pfn
        self.replicas[change.lfn].append(Replica(se_id, pfn, _status(change.status)))
        self.changed.add(change.lfn)
        self.came.append((file, se_id))

    def _set_checksum(self, change: SetChecksum) -> None:
        there = self.files[change.lfn].adler32
        if there is not None:
            code = ALREADY if there == change.adler32 else MOVED_ON
            raise _Refused(code, f"{shown(change.lfn)} has the adler32 {there} by now.")
        self._set_adler32(change.lfn, change.adler32)

    def _clear_checksum(self, change: ClearChecksum) -> None:
        there = self.files[change.lfn].adler32
        if there != change.adler32:
            code = ALREADY if there is None else MOVED_ON
            raise _Refused(code, f"{shown(change.lfn)} has {there or 'no'} adler32 by now, not {change.adler32}.")
        self._set_adler32(change.lfn, None)

    def _set_adler32(self, lfn: str, adler32: str | None) -> None:
        self.adler32[self.files[lfn].file_id] = adler32
        self.changed.add(lfn)

    def _unregister(self, change: Unregister) -> None:
        file = self.files[change.lfn]
        if (file.size_bytes, file.adler32) != (change.size_bytes, change.adler32):
            raise _Refused(MOVED_ON, f"{shown(change.lfn)} has another size or checksum by now.")
        places = [(replica.se_id, self._pfn(change.lfn, replica)) for replica in self.replicas[change.lfn]]
        if places != [(self.se_ids[change.se], change.pfn)]:
            raise _Refused(MOVED_ON, f"{shown(change.lfn)} has other replicas by now.")

    async def _unregistered(self, numbers: Sequence[int], changes: Sequence[Unregister]) -> Reasons:
        going = {changes[n].lfn: n for n in numbers}
        request = RemoveRequest(paths=list(going), bytes=BytesFate.KEEP)
        outcome = await remove_files(self.tx, self.caller, request)
        return {going[refusal.id]: (refusal.code, refusal.reason) for refusal in outcome.refused}

    async def _write(self, kind: type[Any]) -> None:
        ids = sorted(self.files[lfn].file_id for lfn in self.changed)
        if self.adler32:
            await store.set_checksums(self.tx, self.caller, self.adler32)
            await catalog_store.record_files(self.tx, self.caller, "files-changed", ids, what="checksums")
            return
        replicas = {self.files[lfn].file_id: self.replicas[lfn] for lfn in self.changed}
        await replicas_store.write_replicas(self.tx, self.caller, replicas)
        if self.went:
            await replicas_store.count_out_usage(self.tx, self.caller, self.went)
        if self.came:
            await replicas_store.count_usage(self.tx, self.caller, self.came)
            owners = {file.owner_id for file, _ in self.came}
            await check_quotas(self.tx, self.caller, list(self.directories.values()), owners)
        await catalog_store.record_files(
            self.tx, self.caller, _FEED[kind], ids, se=sorted(self.se_ids), by="fsck"
        )  # fmt: skip


_FEED: dict[type[Any], str] = {
    AddReplica: "replicas-added",
    RemoveReplica: "replicas-removed",
    SetStatus: "replicas-changed",
}


def _status(text: str) -> ReplicaStatus:
    try:
        return ReplicaStatus(text)
    except ValueError:
        raise _Refused("bad-status", f"There is no status {shown(text)}.") from None
