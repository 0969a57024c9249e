"""The catalog against itself: have the server prove its invariants, slice by slice, and count again what it finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from spinor.catalog.fsck.findings import Finding
from spinor.catalog.fsck.reports import Footer, Header, Report, ReportWriter
from spinor.catalog.invariants.models import InvariantsSlice, Recount, Recountable
from spinor.client import Client
from spinor.errors import Conflict

CHECK = "invariants"
RECOUNT = "recount"
_AT_ONCE = 500
Progressed = Callable[[int, int | None], None]  # Files so far, and of how many.


class NotTakenBack(Conflict):
    """A recount is not taken back: what was counted before was wrong, and the files have changed since."""

    code = "not-taken-back"


def prove(client: Client, report: ReportWriter, path: str | None, progressed: Progressed) -> Footer:
    """Write down every row that breaks an invariant."""
    counts: Counter[str] = Counter({"files": 0, "directories": 0})
    total: int | None = None
    body: dict[str, Any] = {"path": path}
    while True:
        answer = client.post("/api/files/invariants", body, InvariantsSlice)
        total = answer.total_files if answer.total_files is not None else total
        counts["files"] += answer.files
        counts["directories"] += answer.directories
        for found in answer.violations:
            counts[found.invariant] += 1
            more = {"sentence": found.sentence, "directory_id": found.directory_id}
            report.tell(Finding(kind=found.invariant, lfn=found.path, more=more))
        for invariant in answer.more:
            counts[f"{invariant}-and-more"] += 1
        progressed(counts["files"], total)
        if answer.next is None:
            return report.finish(counts)
        body["after"] = answer.next


def recount(client: Client, source: Report, log: Path) -> Counter[str]:
    """Have the server count again what a report says is counted wrong; counts by invariant, and `left`.

    Each row that is otherwise then is written to `log`, with before and after.
    """
    counts: Counter[str] = Counter()
    facts = {"report": str(source.path), "report_id": source.header.report_id}
    header = Header(check=RECOUNT, service=source.header.service, vo=source.header.vo, facts=facts)
    known = {each.value for each in Recountable}
    with ReportWriter(log, header) as report:
        for invariant in known:
            ids = _directory_ids(source, invariant)
            while batch := list(islice(ids, _AT_ONCE)):
                request = {"invariant": invariant, "directory_ids": batch}
                for done in client.post("/api/files/invariants/recount", request, list[Recount]):
                    counts[invariant] += 1
                    more = {"before": done.before, "after": done.after}
                    report.tell(Finding(kind=invariant, lfn=done.path, more=more))
        counts["left"] = sum(finding.kind not in known for finding in source.findings())
        report.finish(counts)
    return counts


def _directory_ids(source: Report, invariant: str) -> Iterator[int]:
    seen: set[int] = set()
    for finding in source.findings():
        if finding.kind == invariant and finding.more:
            directory_id = int(finding.more["directory_id"])
            if directory_id not in seen:
                seen.add(directory_id)
                yield directory_id
