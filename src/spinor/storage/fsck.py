"""`spinor file fsck`: the catalog against itself, and against what a storage element holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.catalog.fsck.asking import Asking
    from spinor.catalog.fsck.dumps import StoredFile
    from spinor.resources.models import PublicStorageElement

# What is no fault, and not told as one.
_NO_FAULT = {
    "catalog", "listing", "equal", "too-young", "removing", "known-unavailable", "repeated", "size-not-listed",
    "checksum-not-listed", "outside", "other-se", "directories", "files", "sieved",
}  # fmt: skip


@click.command()
@click.argument("path", required=False, metavar="[LFN_DIR]")
@click.option("--path", "below", metavar="LFN_DIR", help="Tell only of what is at or below this directory.")
@click.option("--invariants", is_flag=True, help="Prove that the catalog agrees with itself (default without --se).")
@click.option("--se", help="Compare with what this storage element holds, by --dump or --list.")
@click.option("--dump", "dumps", multiple=True, metavar="FILE", help="What the site says it holds; may come again.")
@click.option("--list", "walk", is_flag=True, help="Walk through the storage element instead.")
@click.option("--dump-time", metavar="TIME", help="When the dump was begun (RFC 3339); default: the file's time.")
@click.option("--margin", default="1h", metavar="TIME", help="How long a writer may take, and a dump (1h).")
@click.option("--prefix", "prefixes", multiple=True, help="What stands before paths below the root, besides the root.")
@click.option("--columns", default="", help="Which column of a dump is what: pfn=path,size_bytes=size, or pfn=1.")
@click.option("--unchecked", is_flag=True, help="Tell also of files of which nobody knows a checksum.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Where to (.ndjson or .parquet).")
@click.option("--repair", type=click.Path(dir_okay=False, path_type=Path), metavar="REPORT", help="Mend what it names.")
@click.option("--dark", type=click.Choice(["adopt", "delete", "keep"]), default="keep", help="Unnamed files (keep).")
@click.option("--lost", type=click.Choice(["mark", "remove", "keep"]), default="mark", help="Lost replicas (mark).")
@click.option("--adopt-below", default="", metavar="LFN_DIR", help="Adopted files become LFN_DIR/PFN (/PFN).")
@click.option("--delay", default="1d", metavar="TIME", help="How long dark files stay after --dark delete (1d).")
@click.option("--undo", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Take a repair back.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), help="Room for 100 bytes per file.")
@click.option("--json", "as_json", is_flag=True, help="Print the sums as JSON.")
def fsck(path: str | None, below: str | None, as_json: bool, **options: Any) -> int:
    """Prove that the catalog agrees with itself, below LFN_DIR if that is given, or with a storage element.

    \b
    spinor file fsck                                       the catalog against itself
    spinor file fsck --se disk --dump disk.txt.gz          and against a site's dump
    spinor file fsck --se disk --list                      and against a walk through it
    spinor file fsck --repair REPORT --dark delete         mend what a report names
    spinor file fsck --undo REPORT                         and take that back

    A check changes nothing; it writes a report. The exit code is 1 when it has findings.
    """
    from spinor.catalog.fsck.asking import Asking
    from spinor.client import Client

    path = _only(path, below)
    _refuse_together(path, options)
    with Client.from_environment() as client:
        asking = Asking(client, round(_seconds(options["delay"], "--delay")))
        if options["undo"]:
            return _undo(asking, options["undo"], as_json)
        if options["repair"]:
            return _repair(asking, options, as_json)
        if options["se"]:
            return _check(asking, path, options, as_json)
        return _prove(asking, path, options["report"], as_json)


def _only(path: str | None, below: str | None) -> str | None:
    if path is not None and below is not None and path != below:
        raise click.UsageError("Give the directory once.")
    return path if path is not None else below


def _refuse_together(path: str | None, options: Mapping[str, Any]) -> None:
    modes = [name for name in ("invariants", "se", "repair", "undo") if options[name]]
    if len(modes) > 1:
        raise click.UsageError(f"--{modes[0]} and --{modes[1]} do not go together.")
    if options["se"] and bool(options["dumps"]) == options["walk"]:
        raise click.UsageError("Say what the storage element holds: by --dump FILE, or by --list.")
    if not options["se"] and (options["dumps"] or options["walk"]):
        raise click.UsageError("Say by --se which storage element this is of.")
    if path is not None and (options["repair"] or options["undo"]):
        raise click.UsageError("A report is repaired as a whole; check below the directory for a smaller one.")


def _seconds(text: str, option: str) -> float:
    from spinor.quantities import duration_s

    try:
        return float(duration_s(text))
    except ValueError as error:
        raise click.UsageError(f"{option} {text}: {error}.") from None


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(f"--dump-time {text}: write it as 2026-11-27T08:00:00Z.") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _report_name(name: str) -> Path:
    return Path(f"fsck-{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.ndjson")


def _prove(asking: Asking, path: str | None, report: Path | None, as_json: bool) -> int:
    from spinor.catalog.fsck import proving
    from spinor.catalog.fsck.reports import Header, ReportWriter
    from spinor.terminal import Progress

    target = report or _report_name("invariants")
    header = Header(check=proving.CHECK, service=asking.client.url, vo=asking.vo, facts={"path": path})
    with Progress("prove", unit="files") as progress, ReportWriter(target, header) as written:

        def progressed(files: int, total: int | None) -> None:
            progress.total = total
            progress.set(files)

        footer = proving.prove(asking.client, written, path, progressed)
    return _tell(footer.counts, footer.findings, target, as_json)


def _check(asking: Asking, path: str | None, options: Mapping[str, Any], as_json: bool) -> int:
    from spinor.catalog.fsck.running import Check, Listing, check_storage
    from spinor.catalog.manifests.formats import parse_columns
    from spinor.terminal import Progress

    listing = Listing(
        dumps=options["dumps"], walk=_walk if options["walk"] else None, listed_at=_time(options["dump_time"]),
        prefixes=options["prefixes"], columns=parse_columns(options["columns"]),
    )  # fmt: skip
    target = options["report"] or _report_name(options["se"])
    wanted = Check(
        se=options["se"], listing=listing, report=target, path=path, work=options["work"],
        margin_s=_seconds(options["margin"], "--margin"), unchecked=options["unchecked"],
    )  # fmt: skip
    with Progress("storage", unit="files") as progress:

        def progressed(label: str, rows: int) -> None:
            progress.label = label
            progress.set(rows)

        footer = check_storage(asking, wanted, progressed)
    return _tell(footer.counts, footer.findings, target, as_json)


def _walk(element: PublicStorageElement) -> Iterable[StoredFile]:
    from spinor.resources.status.access import why_not
    from spinor.resources.status.models import Access
    from spinor.storage.plugin import StorageOutOfUse
    from spinor.storage.registry import open_element

    if why := why_not(element, Access.CHECK):
        raise StorageOutOfUse(f"{why[0].upper()}{why[1:]}; compare with a dump (--dump) meanwhile.", se=element.name)
    return open_element(element.plugin, element.root, {}).walk("")


def _repair(asking: Asking, options: Mapping[str, Any], as_json: bool) -> int:
    from spinor.catalog.fsck.repairing import Choices, DarkRepair, Left, LostRepair
    from spinor.catalog.fsck.running import repair
    from spinor.terminal import printable, say

    choices = Choices(
        dark=DarkRepair("leave" if options["dark"] == "keep" else options["dark"]),
        lost=LostRepair("leave" if options["lost"] == "keep" else options["lost"]),
        adopt_below=options["adopt_below"],
    )
    left: dict[str, int] = {}

    def tell_left(one: Left) -> None:
        sentence = f"{one.finding.kind}: {one.reason}"
        left[sentence] = left.get(sentence, 0) + 1

    log, counts = repair(asking, options["repair"], choices, tell_left)
    for sentence, count in left.items():
        say(f"left {count:,} {printable(sentence)}")
    return _tell_done(counts, log, as_json)


def _undo(asking: Asking, path: Path, as_json: bool) -> int:
    from spinor.catalog.fsck.running import undo

    return max(_tell_done(counts, log, as_json) for log, counts in undo(asking, path))


def _tell(counts: Mapping[str, int], findings: int, report: Path, as_json: bool) -> int:
    """The sums of a check; 1 when it found anything."""
    import msgspec

    from spinor.terminal import printable, say

    if as_json:
        facts = {"report": str(report), "findings": findings, "counts": dict(counts)}
        click.echo(msgspec.json.encode(facts).decode())
    else:
        for kind, count in counts.items():
            if count or kind in ("catalog", "listing", "files"):
                say(f"{count:>14,}  {kind.replace('_', ' ')}{'' if kind in _NO_FAULT else '  <-'}")
        say(f"{findings:,} findings in {printable(str(report))}" if findings else "nothing found")
    return int(findings > 0)


def _tell_done(counts: Mapping[str, int], log: Path, as_json: bool) -> int:
    """The sums of a repair; 1 when anything was refused."""
    import msgspec

    from spinor.terminal import printable, say

    if as_json:
        click.echo(msgspec.json.encode({"log": str(log), "counts": dict(counts)}).decode())
    else:
        for kind, count in counts.items():
            if count:
                say(f"{count:>14,}  {kind.replace('_', ' ')}")
        say(f"written down in {printable(str(log))}")
    return int(counts.get("refused", 0) > 0)
