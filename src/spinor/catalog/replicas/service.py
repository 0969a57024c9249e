"""The verbs of replicas."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from spinor.access import Caller
from spinor.catalog import rules
from spinor.catalog import store as catalog_store
from spinor.catalog.errors import (
    BytesLeaving,
    FileDenied,
    FileDiffers,
    LastReplica,
    PlaceTaken,
    ReplicaReadOnly,
    UnknownReplica,
)
from spinor.catalog.models import (
    BytesFate,
    EntryKind,
    FileStatus,
    Outcome,
    Refusal,
    Registered,
    RegisterOutcome,
    ReplicaStatus,
)
from spinor.catalog.replicas import store
from spinor.catalog.replicas.models import (
    Changed,
    Checksums,
    Existing,
    GuidOwner,
    NewReplica,
    RemoveReplicas,
    ReplicaName,
)
from spinor.catalog.replicas.store import LockedFile, Place, Replica
from spinor.catalog.service.directories import require_ways
from spinor.catalog.service.permissions import Permissions, permissions
from spinor.catalog.service.quotas import check_quotas
from spinor.catalog.service.reading import refuse_missing
from spinor.catalog.service.removal import REMOVE_BYTES
from spinor.catalog.store import Directory
from spinor.chores import enqueue
from spinor.db import Tx
from spinor.errors import SpinorError
from spinor.resources import service as resources
from spinor.resources.models import StorageElement
from spinor.search.expression import shown
from spinor.types import LFN


class Held:
    """Files whose directories are locked, and which the caller may write."""

    def __init__(self, files: dict[str, LockedFile], directories: dict[str, Directory]) -> None:
        self.files = files
        self.directories = directories
        self.replicas = {lfn: replicas_of(file) for lfn, file in files.items()}

    def places(self, names: Iterable[str]) -> list[Directory]:
        return [self.directories[name.rpartition("/")[0]] for name in names]


def replicas_of(file: LockedFile) -> list[Replica]:
    pfns = file.pfns or [None] * len(file.se_ids)
    statuses = file.statuses or [ReplicaStatus.AVAILABLE] * len(file.se_ids)
    return [Replica(*each) for each in zip(file.se_ids, pfns, statuses, strict=True)]


async def _held(tx: Tx, caller: Caller, lfns: Iterable[str]) -> Held:
    """Raises UnknownLFN, FileDenied."""
    wanted = list(dict.fromkeys(lfns))
    places = [rules.split_lfn(lfn, caller.vo) for lfn in wanted]
    await catalog_store.hold_tree(tx, caller)
    directories = await catalog_store.lock_directories(tx, caller, {directory for directory, _ in places})
    await require_ways(tx, caller, wanted)
    found = {wanted[file.n - 1]: file for file in await store.lock_files(tx, caller, places)}
    if len(found) < len(wanted):
        await refuse_missing(tx, caller, wanted, set(found))
    mine = await permissions(tx, caller, directories.values())
    await mine.learn({file.access_id for file in found.values()})
    for lfn, file in found.items():
        if not _may_change(mine, file):
            raise FileDenied(f"You may not change {shown(lfn)}; see `spinor file getfacl`, or ask its owner.", lfn=lfn)
    return Held(found, directories)


def _may_change(mine: Permissions, file: LockedFile) -> bool:
    """To read it too: refusals name the checksums that are there."""
    wanted = rules.READ | rules.WRITE
    return mine.passes(file.gate_id) and mine.bits(file.access_id) & wanted == wanted


async def add_replicas(tx: Tx, caller: Caller, new: Sequence[NewReplica]) -> list[Registered]:
    """Tell that files have bytes on other storage elements too: all of it, or nothing. One that is known is no error.

    Raises UnknownLFN, FileDenied, UnknownStorageElement, BadPFN, BytesLeaving, PlaceTaken, QuotaExceeded.
    """
    ids = {se: (await resources.storage_element(tx, caller, se)).se_id for se in dict.fromkeys(each.se for each in new)}
    held = await _held(tx, caller, (each.lfn for each in new))
    locations = await catalog_store.find_locations(tx, [d.directory_id for d in held.directories.values()])
    outcomes: list[Registered] = []
    came: list[tuple[LockedFile, int]] = []
    places: dict[Place, str] = {}
    new_locations: dict[tuple[int, int], str] = {}
    for each in new:
        file, se_id = held.files[each.lfn], ids[each.se]
        is_new = all(replica.se_id != se_id for replica in held.replicas[each.lfn])
        outcome = RegisterOutcome.REPLICA_ADDED if is_new else RegisterOutcome.ALREADY
        outcomes.append(Registered(lfn=each.lfn, file_id=file.file_id, outcome=outcome))
        if not is_new:
            continue
        pfn = rules.checked_pfn(each.pfn) if each.pfn is not None else None
        where = (file.directory_id, se_id)
        if pfn is None and where not in locations:
            locations[where] = new_locations[where] = each.lfn.rpartition("/")[0][1:]
        place = _place(file, Replica(se_id, pfn), locations)
        places[place] = each.lfn
        held.replicas[each.lfn].append(Replica(se_id, pfn))
        came.append((file, se_id))
    await _refuse_places(tx, places)
    if came:
        if new_locations:
            await catalog_store.insert_locations(tx, new_locations)
        await _write(tx, caller, held, {file.file_id for file, _ in came})
        await store.count_usage(tx, caller, came)
        names = [lfn for lfn, file in held.files.items() if any(file is one for one, _ in came)]
        await check_quotas(tx, caller, held.places(names), {file.owner_id for file, _ in came})
        await catalog_store.record_files(
            tx, caller, "replicas-added", [file.file_id for file, _ in came], se=sorted(ids)
        )
    return outcomes


def _place(file: LockedFile, replica: Replica, locations: dict[tuple[int, int], str]) -> Place:
    if replica.pfn is not None:
        path, _, name = replica.pfn.rpartition("/")
        return Place(replica.se_id, path, name)
    return Place(replica.se_id, locations[file.directory_id, replica.se_id], file.name)


async def _refuse_places(tx: Tx, places: dict[Place, str]) -> None:
    if not places:
        return
    leaving = await catalog_store.find_removals(tx, {(place.se_id, place.path) for place in places})
    for place, lfn in places.items():
        if (place.se_id, f"{place.path}/{place.name}" if place.path else place.name) in leaving:
            raise BytesLeaving(lfn=lfn)
    for place in await store.used_places(tx, list(places)):
        raise PlaceTaken(
            f"The bytes at {shown(f'{place.path}/{place.name}')} belong to another file; "
            f"{shown(places[place])} needs a PFN of its own.",
            lfn=places[place],
        )


async def _write(tx: Tx, caller: Caller, held: Held, file_ids: set[int]) -> None:
    changed = {file.file_id: held.replicas[lfn] for lfn, file in held.files.items() if file.file_id in file_ids}
    await store.write_replicas(tx, caller, changed)


async def remove_replicas(tx: Tx, caller: Caller, request: RemoveReplicas) -> Outcome:
    """Remove replicas, each by itself; the ids of the outcome are `<lfn> <se>`. Their bytes go, unless they are kept.

    The last replica of a file stays unless `last` says otherwise. Raises UnknownLFN, FileDenied, UnknownStorageElement.
    """
    elements = {se: await resources.storage_element(tx, caller, se) for se in {each.se for each in request.replicas}}
    held = await _held(tx, caller, (each.lfn for each in request.replicas))
    locations = await catalog_store.find_locations(tx, [d.directory_id for d in held.directories.values()])
    refused: list[Refusal] = []
    done: list[str] = []
    went: list[tuple[LockedFile, int]] = []
    places: list[Place] = []
    for each in dict.fromkeys(request.replicas):
        element, mine = elements[each.se], held.replicas[each.lfn]
        replica = next((r for r in mine if r.se_id == element.se_id), None)
        try:
            replica = _removable(replica, element, request, each, alone=len(mine) == 1)
        except SpinorError as error:
            refused.append(Refusal(id=f"{each.lfn} {each.se}", code=error.code, reason=error.message))
            continue
        mine.remove(replica)
        done.append(f"{each.lfn} {each.se}")
        went.append((held.files[each.lfn], element.se_id))
        places.append(_place(held.files[each.lfn], replica, locations))
    if went:
        file_ids = {file.file_id for file, _ in went}
        if request.bytes is BytesFate.DELETE:
            await store.queue_removals(tx, caller, places)
            await enqueue(tx, REMOVE_BYTES, dedupe_key="due")
        await _write(tx, caller, held, file_ids)
        await store.count_out_usage(tx, caller, went)
        await catalog_store.record_files(tx, caller, "replicas-removed", sorted(file_ids), se=sorted(elements))
    return Outcome(done=done, refused=refused)


def _removable(
    replica: Replica | None, element: StorageElement, request: RemoveReplicas, name: ReplicaName, *, alone: bool
) -> Replica:
    if replica is None:
        raise UnknownReplica(f"{shown(name.lfn)} has no replica on {name.se}.")
    if alone and not request.last:
        raise LastReplica(f"{name.se} has the last replica of {shown(name.lfn)}; `--last` lets it go too.")
    if element.read_only and request.bytes is BytesFate.DELETE:
        raise ReplicaReadOnly(f"{name.se} is read-only; `--catalog-only` removes the replica and keeps the bytes.")
    return replica


async def set_replica_status(tx: Tx, caller: Caller, names: Sequence[ReplicaName], status: ReplicaStatus) -> Changed:
    """Say of replicas that they can be read, are suspect, or cannot be read now: all of them, or none.

    Raises UnknownLFN, UnknownReplica, FileDenied, UnknownStorageElement.
    """
    held, changed = await _held(tx, caller, (each.lfn for each in names)), set()
    for each in names:
        replica = await _named(tx, caller, held, each)
        if replica.status is not status:
            _replace(held, each.lfn, replica, Replica(replica.se_id, replica.pfn, status))
            changed.add(held.files[each.lfn].file_id)
    if changed:
        await _write(tx, caller, held, changed)
        await catalog_store.record_files(tx, caller, "replicas-changed", sorted(changed), status=status.value)
    return Changed(changed=len(changed))


async def rehost_replicas(tx: Tx, caller: Caller, names: Sequence[ReplicaName], to: str) -> Changed:
    """Say that the bytes of replicas are on another storage element now, under the same PFNs: all of them, or none.

    Raises UnknownLFN, UnknownReplica, PlaceTaken (there is a replica already), FileDenied, UnknownStorageElement.
    """
    target = await resources.storage_element(tx, caller, to)
    held = await _held(tx, caller, (each.lfn for each in names))
    locations = await catalog_store.find_locations(tx, [d.directory_id for d in held.directories.values()])
    went: list[tuple[LockedFile, int]] = []
    for each in dict.fromkeys(names):
        file, replica = held.files[each.lfn], await _named(tx, caller, held, each)
        if any(other.se_id == target.se_id for other in held.replicas[each.lfn]):
            raise PlaceTaken(f"{shown(each.lfn)} has a replica on {to} already.", lfn=each.lfn)
        place = _place(file, replica, locations)
        same = locations.get((file.directory_id, target.se_id)) == place.path and replica.pfn is None
        pfn = None if same else f"{place.path}/{place.name}" if place.path else place.name
        _replace(held, each.lfn, replica, Replica(target.se_id, pfn, replica.status))
        went.append((file, replica.se_id))
    if went:
        file_ids = {file.file_id for file, _ in went}
        await _write(tx, caller, held, file_ids)
        await store.count_out_usage(tx, caller, went)
        await store.count_usage(tx, caller, [(file, target.se_id) for file, _ in went])
        await check_quotas(tx, caller, list(held.directories.values()), {file.owner_id for file, _ in went})
        await catalog_store.record_files(tx, caller, "replicas-changed", sorted(file_ids), to=to)
    return Changed(changed=len(went))


async def _named(tx: Tx, caller: Caller, held: Held, name: ReplicaName) -> Replica:
    se_id = (await resources.storage_element(tx, caller, name.se)).se_id
    for replica in held.replicas[name.lfn]:
        if replica.se_id == se_id:
            return replica
    raise UnknownReplica(f"{shown(name.lfn)} has no replica on {name.se}; nothing was changed.", lfn=name.lfn)


def _replace(held: Held, lfn: str, old: Replica, new: Replica) -> None:
    held.replicas[lfn] = [new if replica is old else replica for replica in held.replicas[lfn]]


async def set_file_status(tx: Tx, caller: Caller, lfns: Sequence[str], status: FileStatus) -> Changed:
    """Give files a status: all of them, or none. Raises UnknownLFN, FileDenied."""
    held = await _held(tx, caller, lfns)
    ids = [file.file_id for file in held.files.values()]
    changed = await store.set_file_status(tx, caller, ids, status.value)
    if changed:
        await catalog_store.record_files(tx, caller, "files-changed", ids, status=status.value)
    return Changed(changed=changed)


async def fill_checksums(tx: Tx, caller: Caller, files: Sequence[Checksums]) -> Changed:
    """Tell checksums that the catalog does not know: all of them, or none. Raises FileDiffers for one that it knows
    otherwise, UnknownLFN, FileDenied."""
    held = await _held(tx, caller, (each.lfn for each in files))
    for each in files:
        known = held.files[each.lfn]
        for name, there, given in (("adler32", known.adler32, each.adler32), ("sha256", known.sha256, each.sha256)):
            if None not in (there, given) and there != given:
                raise FileDiffers(
                    f"{shown(each.lfn)} is registered with {name} {there}, not {given}; nothing was changed.",
                    lfn=each.lfn, field=name, catalog=there, given=given,
                )  # fmt: skip
    ids = [held.files[each.lfn].file_id for each in files]
    changed = await store.fill_checksums(
        tx, caller, ids,
        [None if each.adler32 is None else int(each.adler32, 16) for each in files],
        [None if each.sha256 is None else bytes.fromhex(each.sha256) for each in files],
    )  # fmt: skip
    if changed:
        await catalog_store.record_files(tx, caller, "files-changed", ids, what="checksums")
    return Changed(changed=changed)


async def existing(tx: Tx, caller: Caller, paths: Sequence[str]) -> list[Existing]:
    """What each path is, in the order asked. Raises DirectoryDenied for one behind a closed gate."""
    checked = [rules.checked_path(path, caller.vo) for path in paths]
    await require_ways(tx, caller, checked)
    around = await catalog_store.find_directories(tx, caller, rules.with_ancestors(checked))
    names = [path.rpartition("/") for path in checked if path not in around]
    inside = [(around[above].directory_id, name) for above, _, name in names if above in around]
    files = await catalog_store.find_names(tx, caller, [one for one, _ in inside], [name for _, name in inside])
    known = {(file.directory_id, file.name) for file in files}

    def kind(path: str) -> EntryKind | None:
        above, _, name = path.rpartition("/")
        if path in around:
            return EntryKind.DIRECTORY
        return EntryKind.FILE if above in around and (around[above].directory_id, name) in known else None

    return [Existing(path=path, kind=kind(path)) for path in checked]


async def lfns_of_guids(tx: Tx, caller: Caller, guids: Sequence[UUID]) -> list[GuidOwner]:
    """Which file has each guid, in the order asked; one that the caller may not read is as if it were not there."""
    found = await store.find_guids(tx, caller, guids)
    mine = await permissions(tx, caller)
    await mine.learn({file.access_id for file in found}, {file.gate_id for file in found})
    lfns = {file.guid: LFN(file.lfn) for file in found if mine.may_read(file.access_id, file.gate_id)}
    return [GuidOwner(guid=guid, lfn=lfns.get(guid)) for guid in guids]
