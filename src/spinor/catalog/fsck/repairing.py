"""From a report to changes of the catalog. Pure: nothing here speaks to a server or a storage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from spinor.catalog.fsck.changes import Change, DeleteBytes, Register, RemoveReplica, SetChecksum, SetStatus
from spinor.catalog.fsck.findings import Finding, Kind
from spinor.catalog.fsck.reports import Report
from spinor.errors import Conflict

_READ_AT_ONCE = 100


class NothingInCommon(Conflict):
    """The storage and the catalog have no file in common, so one of the two was read wrongly."""

    code = "nothing-in-common"


class DarkRepair(StrEnum):
    LEAVE = "leave"
    DELETE = "delete"  # From the storage.
    ADOPT = "adopt"  # Register under a directory.


class LostRepair(StrEnum):
    LEAVE = "leave"
    MARK = "mark"  # As unavailable.
    REMOVE = "remove"  # From the catalog.


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A finding for which nothing is done, with the reason as the end of a sentence."""

    finding: Finding
    reason: str


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What to do where there is more than one way. `adopt_below` is the directory for adopted files.

    `read` gives size and adler32 of the bytes at each PFN, or None where they cannot be read: for checksums that the
    listing did not tell.
    """

    dark: DarkRepair = DarkRepair.LEAVE
    lost: LostRepair = LostRepair.MARK
    adopt_below: str = ""
    read: Callable[[Sequence[str]], Sequence[tuple[int, str] | None]] | None = None


def checked(report: Report) -> Report:
    """The report, if it may be acted on. Raises NothingInCommon."""
    counts = Counter(report.footer.counts)
    both = (Kind.SIZE, Kind.CHECKSUM, Kind.RETURNED, Kind.NO_CHECKSUM, Kind.UNCHECKED)
    if counts[Kind.LOST] and not counts["equal"] and not any(counts[kind] for kind in both):
        raise NothingInCommon(
            f"By {report.path} the storage and the catalog have no file in common: {counts[Kind.DARK]:,} are dark and "
            f"{counts[Kind.LOST]:,} lost. That is a wrong or empty listing, or a wrong --prefix, rather than a fault "
            "to repair; nothing is done."
        )
    return report


def changes(findings: Iterable[Finding], choices: Choices) -> Iterator[Change | Left]:
    """What to do for each finding, in the order of the report; those whose bytes are read come a little later."""
    to_read: list[Finding] = []
    for finding in findings:
        if finding.kind == Kind.UNCHECKED and choices.read:
            to_read.append(finding)
            if len(to_read) == _READ_AT_ONCE:
                yield from _read(to_read, choices.read)
                to_read = []
        else:
            yield _change(finding, choices)
    if to_read and choices.read:
        yield from _read(to_read, choices.read)


def _change(finding: Finding, choices: Choices) -> Change | Left:
    if finding.se is None or finding.pfn is None:
        return Left(finding=finding, reason="it names no place on a storage element")
    match finding:
        case Finding(kind=Kind.DARK, se=str(se), pfn=str(pfn)):
            return _dark(finding, se, pfn, choices)
        case Finding(kind=Kind.LOST, lfn=str(lfn), se=str(se), pfn=str(pfn), status=str(status)):
            return _lost(finding, RemoveReplica(lfn=lfn, se=se, pfn=pfn, status=status), choices)
        case Finding(kind=Kind.SIZE | Kind.CHECKSUM, lfn=str(lfn), se=str(se), status="available"):
            return SetStatus(lfn=lfn, se=se, before="available", after="unavailable")
        case Finding(kind=Kind.RETURNED | Kind.NO_CHECKSUM, storage_size_bytes=None):
            return Left(finding=finding, reason="the listing has no size for it; compare with one that has sizes")
        case Finding(kind=Kind.RETURNED, lfn=str(lfn), se=str(se), status="unavailable"):
            return SetStatus(lfn=lfn, se=se, before="unavailable", after="available")
        case Finding(kind=Kind.NO_CHECKSUM, lfn=str(lfn), se=str(se), adler32=None, storage_adler32=str(adler32)):
            return SetChecksum(lfn=lfn, se=se, adler32=adler32)
    return Left(finding=finding, reason=_reason(finding))


def _reason(finding: Finding) -> str:
    match finding.kind:
        case Kind.SIZE | Kind.CHECKSUM:
            return "its replica is not available already"
        case Kind.DOUBLE:
            return "which of the files the bytes belong to has to be decided; remove the other replica"
        case Kind.UNDECODABLE:
            return "the catalog cannot have this name; rename it on the storage"
        case Kind.UNCHECKED:
            return "its bytes have not been read"
    return "this kind of finding is not repaired"


def _dark(finding: Finding, se: str, pfn: str, choices: Choices) -> Change | Left:
    match choices.dark:
        case DarkRepair.DELETE:
            return DeleteBytes(se=se, pfn=pfn)
        case DarkRepair.ADOPT:
            lfn, size = f"{choices.adopt_below.rstrip('/')}/{pfn}", finding.storage_size_bytes
            if size is None:
                return Left(finding=finding, reason="its size is not known; compare with a listing that has sizes")
            return Register(lfn=lfn, se=se, pfn=pfn, size_bytes=size, adler32=finding.storage_adler32)
    return Left(finding=finding, reason="it stays; choose whether to delete or to adopt it")


def _lost(finding: Finding, removal: RemoveReplica, choices: Choices) -> Change | Left:
    match choices.lost:
        case LostRepair.REMOVE:
            return removal
        case LostRepair.MARK:
            return SetStatus(lfn=removal.lfn, se=removal.se, before=removal.status, after="unavailable")
    return Left(finding=finding, reason="it stays; choose whether to mark or to remove it")


def _read(
    findings: Sequence[Finding], read: Callable[[Sequence[str]], Sequence[tuple[int, str] | None]]
) -> Iterator[Change | Left]:
    answers = read([finding.pfn or "" for finding in findings])
    for finding, answer in zip(findings, answers, strict=True):
        if answer is None:
            yield Left(finding=finding, reason="its bytes cannot be read")
        elif answer[0] != finding.size_bytes:
            yield Left(finding=finding, reason=f"it has {answer[0]:,} bytes, and {finding.size_bytes:,} are registered")
        else:
            yield SetChecksum(lfn=finding.lfn or "", se=finding.se or "", adler32=answer[1])
