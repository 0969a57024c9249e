"""The runs of `spinor file fsck`: check a storage element, repair what a report names, take a repair back."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from spinor.catalog.fsck import checking, proving, repairing, undoing
from spinor.catalog.fsck.asking import Asking, Sieve
from spinor.catalog.fsck.carrying import carry_out
from spinor.catalog.fsck.changes import Change
from spinor.catalog.fsck.comparing import Batches, Rules, Sides
from spinor.catalog.fsck.dumps import Dump, StoredFile, walked
from spinor.catalog.fsck.findings import REPORTED, Kind
from spinor.catalog.fsck.repairing import Choices, Left
from spinor.catalog.fsck.reports import BadReport, Footer, Header, Report, ReportWriter
from spinor.catalog.fsck.roots import Roots
from spinor.catalog.fsck.undoing import RepairLog
from spinor.catalog.manifests.source import Source
from spinor.errors import BadInput, Conflict
from spinor.resources.models import PublicStorageElement

Progressed = Callable[[str, int], None]  # What is read, and how many rows of it so far.


class OtherService(Conflict):
    """The report is of another service or VO."""

    code = "report-of-another-service"


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a storage element says it holds: dumps, or a walk. `listed_at` is None where a dump's file tells it."""

    dumps: Sequence[str] = ()
    walk: Callable[[PublicStorageElement], Iterable[StoredFile]] | None = None
    listed_at: datetime | None = None
    prefixes: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    se: str
    listing: Listing
    report: Path
    path: str | None = None
    margin_s: float = 0.0
    unchecked: bool = False  # Tell also of files of which nobody knows a checksum.
    work: Path | None = None


def check_storage(asking: Asking, wanted: Check, progressed: Progressed) -> Footer:
    """Compare a storage element with the catalog; the findings are in the report then."""
    element = asking.storage_element(wanted.se)
    with contextlib.ExitStack() as opened:
        sources = [opened.enter_context(Source(name)) for name in wanted.listing.dumps]
        rules = Rules(
            se=wanted.se, listed_at=_listed_at(wanted, sources), margin_s=wanted.margin_s,
            reported=frozenset(Kind) if wanted.unchecked else REPORTED,
        )  # fmt: skip
        named = ", ".join(source.name for source in sources) or element.root
        report = opened.enter_context(
            ReportWriter(wanted.report, checking.header(rules, asking.client.url, asking.vo, named))
        )
        counts: dict[str, int] = {}
        refuse = checking.undecodable(report, wanted.se, counts)
        roots = Roots([*wanted.listing.prefixes, element.root])
        dumps = [Dump(source, wanted.se, roots, refuse, dict(wanted.listing.columns)) for source in sources]
        batches: Batches = (batch for dump in dumps for batch in dump)
        if wanted.listing.walk is not None:
            batches = walked(wanted.listing.walk(element), refuse)
        sides = Sides(
            listing=_told(batches, "storage", progressed),
            catalog=lambda: _told(asking.replicas(wanted.se), "catalog", progressed),
            removals=lambda: asking.removals(wanted.se),
        )
        others = lambda: {**counts, **sum((dump.passed_over for dump in dumps), Counter())}  # noqa: E731
        return checking.check(report, rules, sides, wanted.work, others, Sieve(asking, wanted.path))


def _listed_at(wanted: Check, sources: Sequence[Source]) -> datetime:
    if wanted.listing.listed_at is not None:
        return wanted.listing.listed_at
    if wanted.listing.walk is not None:
        return datetime.now(UTC)
    roots, columns = Roots([]), dict(wanted.listing.columns)
    return min(Dump(source, wanted.se, roots, lambda _name, _why: None, columns).listed_at() for source in sources)


def _told(batches: Batches, label: str, progressed: Progressed) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        progressed(label, rows)
        yield batch


Done = tuple[Path, Counter[str]]  # Where it was written down, and how many changes of each kind.


def repair(asking: Asking, path: Path, choices: Choices, tell_left: Callable[[Left], None]) -> Done:
    """Do for each finding of a report what the choices say."""
    report = Report(path)
    _refuse_others(asking, report.header)
    log = free_name(path, "repair")
    if report.header.check == proving.CHECK:
        return log, proving.recount(asking.client, report, log)
    if report.header.check != checking.CHECK:
        raise BadReport(f"{path} is no report of a check, but of what was done; nothing is to be repaired by it.")
    facts = {"report": str(path), "report_id": report.header.report_id}
    header = Header(check=undoing.CHECK, service=asking.client.url, vo=asking.vo, se=report.header.se, facts=facts)
    changes = repairing.changes(repairing.checked(report).findings(), choices)
    with RepairLog(log, header) as written:
        return log, _sums(asking, carry_out(changes, written, asking.ask, tell_left))


def undo(asking: Asking, path: Path) -> list[Done]:
    """Take back what a repair's log says; of a report, all its repairs, the newest first."""
    logs = [path]
    with contextlib.suppress(BadReport):
        header = Report(path).header
        if header.check in (proving.CHECK, proving.RECOUNT):
            raise proving.NotTakenBack
        if header.check == checking.CHECK:
            logs = list(reversed(taken_names(path, "repair")))
            if not logs:
                raise BadInput(f"Nothing was repaired by {path}: there is no {numbered(path, 'repair', 1).name}.")
    done = []
    for log in logs:
        header, changes = undoing.read_log(log)
        _refuse_others(asking, header)
        facts = {"undone": str(log), "report_id": header.report_id}
        target = free_name(log, "undo")
        new = Header(check=undoing.CHECK, service=asking.client.url, vo=asking.vo, se=header.se, facts=facts)
        with RepairLog(target, new) as written:
            done.append((target, _sums(asking, carry_out(changes, written, asking.ask, _nothing_left))))
    return done


def _sums(asking: Asking, counts: Counter[str]) -> Counter[str]:
    """What was so already was refused, but is no refusal to whoever asked for it."""
    counts["already"] = asking.already.total()
    counts["refused"] -= counts["already"]
    asking.already.clear()
    return counts


def _nothing_left(_left: Change | Left) -> None:
    return


def _refuse_others(asking: Asking, header: Header) -> None:
    if (header.service, header.vo) != (asking.client.url, asking.vo):
        raise OtherService(
            f"This is of VO {header.vo} at {header.service}, and you are signed in to {asking.vo} at "
            f"{asking.client.url}; nothing is done."
        )


def numbered(path: Path, what: str, number: int) -> Path:
    """`disk.ndjson` -> `disk.repair-1.ndjson`, which is NDJSON whatever the report is."""
    return path.with_name(f"{path.stem}.{what}-{number}.ndjson")


def taken_names(path: Path, what: str) -> list[Path]:
    names: list[Path] = []
    while (name := numbered(path, what, len(names) + 1)).exists():
        names.append(name)
    return names


def free_name(path: Path, what: str) -> Path:
    return numbered(path, what, len(taken_names(path, what)) + 1)
