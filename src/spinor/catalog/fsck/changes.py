"""Changes of the catalog that a repair makes, and for each of them the change that takes it back.

A change names what it expects to find, so that the server can refuse it where the catalog has moved on meanwhile.
"""

from __future__ import annotations

import msgspec


class _Change(msgspec.Struct, frozen=True, kw_only=True, tag_field="change"):
    se: str


class Register(_Change, frozen=True, kw_only=True, tag="register"):
    """A file with this replica, whose bytes are in place."""

    lfn: str
    pfn: str
    size_bytes: int
    adler32: str | None = None


class Unregister(_Change, frozen=True, kw_only=True, tag="unregister"):
    """The file and its replica leave the catalog; the bytes stay. Only if size and checksum are still these."""

    lfn: str
    pfn: str
    size_bytes: int
    adler32: str | None = None


class AddReplica(_Change, frozen=True, kw_only=True, tag="add-replica"):
    lfn: str
    pfn: str
    status: str


class RemoveReplica(_Change, frozen=True, kw_only=True, tag="remove-replica"):
    """The replica leaves the catalog; the bytes, if there are any, stay."""

    lfn: str
    pfn: str
    status: str


class SetStatus(_Change, frozen=True, kw_only=True, tag="set-status"):
    lfn: str
    before: str
    after: str


class SetChecksum(_Change, frozen=True, kw_only=True, tag="set-checksum"):
    """Only where the catalog has none."""

    lfn: str
    adler32: str


class ClearChecksum(_Change, frozen=True, kw_only=True, tag="clear-checksum"):
    """Only where the catalog has this one."""

    lfn: str
    adler32: str


class DeleteBytes(_Change, frozen=True, kw_only=True, tag="delete-bytes"):
    """Queue bytes that no file names for deletion from the storage."""

    pfn: str


class KeepBytes(_Change, frozen=True, kw_only=True, tag="keep-bytes"):
    """Take the bytes out of the queue again. Too late once they are deleted."""

    pfn: str


Change = (
    Register
    | Unregister
    | AddReplica
    | RemoveReplica
    | SetStatus
    | SetChecksum
    | ClearChecksum
    | DeleteBytes
    | KeepBytes
)


def inverse(change: Change) -> Change:
    """The change that takes it back. Of different replicas, changes may be taken back in any order."""
    facts = msgspec.structs.asdict(change)
    match change:
        case Register():
            return Unregister(**facts)
        case Unregister():
            return Register(**facts)
        case AddReplica():
            return RemoveReplica(**facts)
        case RemoveReplica():
            return AddReplica(**facts)
        case SetStatus():
            return SetStatus(lfn=change.lfn, se=change.se, before=change.after, after=change.before)
        case SetChecksum():
            return ClearChecksum(**facts)
        case ClearChecksum():
            return SetChecksum(**facts)
        case DeleteBytes():
            return KeepBytes(**facts)
        case KeepBytes():
            return DeleteBytes(**facts)
