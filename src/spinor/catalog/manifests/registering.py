"""Register what a manifest names: check it, send it in batches, keep the progress, go on where a run was stopped."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from spinor.catalog.manifests.batches import NOTHING, Batch, batches, post, send
from spinor.catalog.manifests.checking import Checked, Checker, Place
from spinor.catalog.manifests.formats import Format, Layout, csv_layout, detect_format, dump_layout
from spinor.catalog.manifests.journal import Journal, JournalFile, checked_journal
from spinor.catalog.manifests.report import Report, Tell
from spinor.catalog.manifests.rows import Broken
from spinor.catalog.manifests.sending import CONNECTIONS, in_order
from spinor.catalog.manifests.source import Source
from spinor.catalog.manifests.splitting import ndjson_layout, parquet_layout, read_rows
from spinor.client import Client
from spinor.errors import BadInput, NotFound
from spinor.identity.models import WhoAmI
from spinor.resources.models import PublicStorageElement

Progressed = Callable[[str, int, int | None], None]  # What is done, lines so far, lines in all if known.


class BrokenManifest(BadInput):
    """Some lines of the manifest are broken; nothing was sent."""

    code = "broken-manifest"


@dataclass(frozen=True)
class Manifest:
    """A manifest, and what its names mean.

    `below` is the directory below which relative names hang; `strip` is what stands in front of a path on the storage
    element, if that is not the element's root; `columns` maps what a file can have to the manifest's columns.
    """

    path: str
    se: str | None = None
    below: str | None = None
    format: Format | None = None
    columns: dict[str, str] = field(default_factory=dict)
    strip: str | None = None


@dataclass(frozen=True)
class Run:
    """How to do it. With `skip_broken` the good lines are registered and the broken ones reported; without it every
    line is checked before anything is sent, and one broken line is enough for nothing to be sent."""

    report: str | None = None
    resume: bool = False
    skip_broken: bool = False
    connections: int = CONNECTIONS


@dataclass(frozen=True)
class Finished:
    """The sums of files, bytes and what became of them; and how many files were sent by this run, not by the stopped
    one that it went on with."""

    sums: dict[str, int]
    files_sent: int


def register_manifest(manifest: Manifest, run: Run, tell: Tell, progressed: Progressed) -> Finished:
    """Raises BrokenManifest, and what the server refuses.

    Harmless to repeat: what is registered is passed over. When it is stopped in any way, a run with `resume` goes on
    behind the last acknowledged batch.
    """
    with Source(manifest.path) as source:
        layout = manifest_layout(source, manifest)
        with Client.from_environment() as client:
            place, where, layout = _place(client, manifest, layout, source)
            # Asked first, so that a wrong directory or storage element costs no pass over the manifest.
            post(client, NOTHING, where)
        registration = _Registration(manifest, run, source, layout, Checker(place), where)
        return registration.carry_out(tell, progressed)


def progress_path(manifest: str, report: str | None) -> str | None:
    """Where a run keeps how far it is: beside the report, or else beside the manifest, if anything can be put there."""
    if report:
        return f"{report}.progress"
    kept = Path(manifest).is_file() and os.access(Path(manifest).absolute().parent, os.W_OK)
    return f"{manifest}.progress" if kept else None


class _Registration:
    def __init__(
        self, manifest: Manifest, run: Run, source: Source, layout: Layout, checker: Checker, where: dict[str, str]
    ) -> None:
        self.run, self.source, self.layout, self.checker, self.where = run, source, layout, checker, where
        self.file = JournalFile(progress_path(manifest.path, run.report))
        request = {
            **where, "format": layout.format.value, "strip": manifest.strip or "",
            "columns": ",".join(f"{column}={name}" for column, name in sorted(layout.columns.items())),
            "report": run.report or "", "broken lines": "skipped" if run.skip_broken else "refused",
        }  # fmt: skip
        self.fresh = Journal(manifest=source.identity(), request=request)

    def carry_out(self, tell: Tell, progressed: Progressed) -> Finished:
        found = self.file.read() if self.run.resume else None
        journal = checked_journal(found, self.fresh.manifest, self.fresh.request) if found else self.fresh
        with Report(self.run.report, tell, journal.sums, journal.report_bytes) as report:
            if not self.run.skip_broken and not journal.checked:
                journal.lines = self._check(report, progressed)
                journal.checked = True
            self.file.write(journal)
            before = report.sums["files"]
            self._send(journal, report, progressed)
            self.file.remove()
            return Finished(report.sums, report.sums["files"] - before)

    def _check(self, report: Report, progressed: Progressed) -> int:
        line = 0
        for checked in self._checked(0):
            line = checked.end_line
            self._tell_broken(checked.broken, report)
            progressed("check", line, None)
        if report.sums["broken"]:
            raise BrokenManifest(
                f"{report.sums['broken']:,} of the {line:,} lines of {self.source.name} are broken, and nothing was "
                "sent. Mend them, or register all others with --skip-broken."
            )
        return line

    def _send(self, journal: Journal, report: Report, progressed: Progressed) -> None:
        stop = threading.Event()
        answers = in_order(
            self._batches(journal.line), lambda client, batch: send(client, batch, self.where),
            connections=self.run.connections, stop=stop,
        )  # fmt: skip
        for answer in answers:
            report.sums["files"] += answer.rows
            report.sums["size_bytes"] += answer.size_bytes
            self._tell_broken(answer.broken, report)
            for counts in answer.counts:
                report.count(counts)
            journal.line, journal.sums, journal.report_bytes = answer.end_line, report.sums, report.settled_bytes()
            self.file.write(journal)
            progressed("register", answer.end_line, journal.lines)

    def _batches(self, after_line: int) -> Iterator[Batch]:
        for checked in self._checked(after_line):
            yield from batches(checked)

    def _checked(self, after_line: int) -> Iterator[Checked]:
        for rows in read_rows(self.source, self.layout, after_line):
            yield self.checker.check(rows)

    def _tell_broken(self, broken: list[Broken], report: Report) -> None:
        for fault in broken:
            report.problem(
                "broken", file=self.source.name, line=fault.line, column=fault.column, reason=fault.problem
            )  # fmt: skip


def manifest_layout(source: Source, manifest: Manifest) -> Layout:
    """How the manifest is written, by what was said of it and by its first lines. Raises BadInput."""
    wanted = manifest.columns
    with source.raw() as raw:
        head = raw.read(4)
    kind = manifest.format
    if kind is None:
        kind = Format.PARQUET if head == b"PAR1" else detect_format(source.name, source.head())
    if kind is Format.PARQUET:
        return parquet_layout(source, wanted)
    head = source.head()
    if kind is Format.NDJSON:
        return ndjson_layout(head, wanted, source.name)
    return (csv_layout if kind is Format.CSV else dump_layout)(head, wanted, source.name)


def _place(client: Client, manifest: Manifest, layout: Layout, source: Source) -> tuple[Place, dict[str, str], Layout]:
    """What the names mean, the query of every batch, and the layout, which now tells LFNs from paths."""
    elements = {e.name: e for e in client.get("/api/storage-elements", list[PublicStorageElement])}
    element = elements.get(manifest.se) if manifest.se else None
    if manifest.se and not element:
        known = ", ".join(sorted(elements)) or "none"
        raise NotFound(f"There is no storage element {manifest.se!r} for your VO; there are: {known}.")
    if not element and "se" not in layout.columns:
        raise BadInput(f"{source.name} does not say on which storage element its files are; give --se.")
    below = manifest.below.rstrip("/") if manifest.below else None
    directory = below or "/" + client.get("/api/auth/whoami", WhoAmI).vo
    strip = _prefixes(manifest.strip or (element.root if element else ""))
    if layout.format is Format.DUMP and not manifest.columns and _names_lfns(source, layout, directory, strip):
        layout = replace(layout, columns={"lfn" if c == "pfn" else c: at for c, at in layout.columns.items()})
    place = Place(
        directory=directory,
        relative=below is not None,
        se=manifest.se,
        elements=frozenset(elements),
        strip=strip,
        root=f"{element.root}, the root of {element.name}" if element else "",
    )
    where = {"directory": directory, **({"se": manifest.se} if manifest.se else {})}
    if below and "lfn" not in layout.columns:
        where["prefix"] = ""  # The list hangs elsewhere in the catalog; without a prefix bytes lie at the LFN's place.
    return place, where, layout


def _names_lfns(source: Source, layout: Layout, directory: str, strip: tuple[str, ...]) -> bool:
    """Whether the paths of a list are LFNs: the first ones all are of this VO, and not below the element's root."""
    rows = next(read_rows(source, layout), None)
    paths = rows.table["pfn"].slice(0, 100).to_pylist() if rows and "pfn" in rows.table.column_names else []
    return bool(paths) and all(p and p.startswith(directory + "/") and not p.startswith(strip) for p in paths)


def _prefixes(root: str) -> tuple[str, ...]:
    """The ways in which the beginning of a path is written: as given, and as the path of a URL; longest first."""
    if not root:
        return ()
    parts = urlsplit(root) if re.match(r"[a-z][a-z0-9+.-]*://", root) else None
    texts = {root.rstrip("/") + "/"}
    if parts:
        texts.add("/" + parts.path.strip("/") + "/" if parts.path.strip("/") else "/")
    return tuple(sorted(texts, key=len, reverse=True))
