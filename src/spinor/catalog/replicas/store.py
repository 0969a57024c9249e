"""The rows of replicas: one function per query."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from spinor.access import Caller
from spinor.catalog.models import ReplicaStatus
from spinor.db import Queries, Tx, array_text, execute, fetch, fetch_rows

Q = Queries("spinor.catalog.replicas")


class LockedFile(msgspec.Struct, frozen=True):
    """A file with its replicas; `n` counts from 1 in the order asked."""

    n: int
    file_id: int
    directory_id: int
    name: str
    size_bytes: int
    se_ids: list[int]
    pfns: list[str | None] | None
    statuses: list[ReplicaStatus] | None
    access_id: int
    owner_id: int
    gate_id: int
    adler32: str | None
    sha256: str | None


class Replica(msgspec.Struct, frozen=True):
    """One replica as it is to be stored; no PFN: by the directory's location."""

    se_id: int
    pfn: str | None = None
    status: ReplicaStatus = ReplicaStatus.AVAILABLE


class Place(msgspec.Struct, frozen=True):
    """Where bytes are: a PFN in two parts."""

    se_id: int
    path: str
    name: str


async def lock_files(tx: Tx, caller: Caller, places: Sequence[tuple[str, str]]) -> list[LockedFile]:
    values = {
        "directories": array_text([directory for directory, _ in places]),
        "names": array_text([name for _, name in places]),
    }
    return await fetch(tx, LockedFile, Q.lock_files, {"vo_id": caller.vo_id, **values})


async def write_replicas(tx: Tx, caller: Caller, replicas: dict[int, list[Replica]]) -> None:
    """file_id -> all its replicas."""
    pfns = [[r.pfn for r in each] for each in replicas.values()]
    statuses = [[r.status.value for r in each] for each in replicas.values()]
    values = {
        "file_ids": list(replicas),
        "se_ids": [array_text([r.se_id for r in each]) for each in replicas.values()],
        "pfns": [array_text(each) if any(pfn is not None for pfn in each) else None for each in pfns],
        "statuses": [array_text(each) if set(each) - {"available"} else None for each in statuses],
    }
    await execute(tx, Q.write_replicas, {"vo_id": caller.vo_id, **values})


async def count_usage(tx: Tx, caller: Caller, came: Sequence[tuple[LockedFile, int]]) -> None:
    """(file, se_id) of replicas that came."""
    values = {**_usage(came), "files": [1] * len(came)}
    await execute(tx, Q.count_usage, {"vo_id": caller.vo_id, **values})


async def count_out_usage(tx: Tx, caller: Caller, went: Sequence[tuple[LockedFile, int]]) -> None:
    """(file, se_id) of replicas that went."""
    await execute(tx, Q.count_out_usage, {"vo_id": caller.vo_id, **_usage(went)})


def _usage(replicas: Sequence[tuple[LockedFile, int]]) -> dict[str, list[int]]:
    return {
        "directory_ids": [file.directory_id for file, _ in replicas],
        "se_ids": [se_id for _, se_id in replicas],
        "owner_ids": [file.owner_id for file, _ in replicas],
        "sizes": [file.size_bytes for file, _ in replicas],
    }


async def queue_removals(tx: Tx, caller: Caller, places: Sequence[Place]) -> None:
    await execute(tx, Q.queue_removals, {"vo_id": caller.vo_id, **_columns(places)})


async def used_places(tx: Tx, places: Sequence[Place]) -> list[Place]:
    """Those of the places that files have already."""
    return [places[n - 1] for (n,) in await fetch_rows(tx, Q.used_places, _columns(places))]


def _columns(places: Sequence[Place]) -> dict[str, list[int] | list[str]]:
    return {
        "se_ids": [place.se_id for place in places],
        "paths": [place.path for place in places],
        "names": [place.name for place in places],
    }


async def set_file_status(tx: Tx, caller: Caller, file_ids: Sequence[int], status: str) -> int:
    values = {"vo_id": caller.vo_id, "file_ids": list(file_ids), "status": status}
    return await execute(tx, Q.set_file_status, values)


async def fill_checksums(
    tx: Tx, caller: Caller, file_ids: Sequence[int], adler32: Sequence[int | None], sha256: Sequence[bytes | None]
) -> int:
    values = {"file_ids": array_text(file_ids), "adler32": array_text(adler32), "sha256": array_text(sha256)}
    return await execute(tx, Q.fill_checksums, {"vo_id": caller.vo_id, **values})


class FoundGuid(msgspec.Struct, frozen=True):
    guid: UUID
    lfn: str
    access_id: int
    gate_id: int


async def find_guids(tx: Tx, caller: Caller, guids: Sequence[UUID]) -> list[FoundGuid]:
    return await fetch(tx, FoundGuid, Q.find_guids, {"vo_id": caller.vo_id, "guids": list(guids)})
