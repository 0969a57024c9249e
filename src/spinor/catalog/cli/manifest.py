"""`spinor file register-manifest`: register what a table or a storage dump names."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.catalog.manifests.registering import Finished


@click.command("register-manifest")
@click.argument("manifest", metavar="FILE")
@click.option("--se", help="The storage element that has the bytes, of lines that name none.")
@click.option("--below", metavar="LFN_DIR", help="The directory below which relative names and paths hang.")
@click.option("--format", "kind", type=click.Choice(["csv", "ndjson", "parquet", "dump"]), help="Default: looked at.")
@click.option("--columns", default="", help="Which column is what: lfn=path,size_bytes=size, or lfn=1,size_bytes=2.")
@click.option("--strip", help="What stands in front of a path below the element's root; default: that root.")
@click.option("--skip-broken", is_flag=True, help="Register the good lines, and report the broken ones.")
@click.option("--resume", is_flag=True, help="Go on behind the last acknowledged batch of a run that was stopped.")
@click.option("--jobs", type=click.IntRange(1, 16), default=2, help="Requests in flight.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write what is broken, was refused or differs here.")
@click.option("--json", "as_json", is_flag=True, help="Print the same and the sums as JSON, one a line, sums last.")
def register_manifest(manifest: str, as_json: bool, **options: Any) -> int:
    """Register the files that FILE (- is stdin) names, whose bytes are in place; nothing is copied or moved.

    \b
    FILE is CSV with a header, JSON lines, Parquet, or a list of what a storage element holds:
    a path or LFN a line, its size, and maybe its adler32, separated by blanks, tabs, commas or |
    (DIRAC's SE|LFN|checksum|size too), or `xrdfs HOST ls -l -R PATH`. It may be compressed (gzip,
    zstd, bz2, lz4). Columns: lfn or pfn, size_bytes; and if there are: adler32 sha256 guid pfn se
    created_at metadata.

    All lines are checked before anything is sent; when one is broken, nothing is sent (exit code 2). Running it again
    is harmless. The exit code is 1 when anything was refused, differs, or was skipped.
    """
    from spinor.catalog.manifests import registering
    from spinor.catalog.manifests.formats import Format, parse_columns
    from spinor.catalog.manifests.report import PROBLEMS
    from spinor.terminal import Progress, say

    wanted = registering.Manifest(
        manifest, se=options["se"], below=options["below"], format=Format(options["kind"]) if options["kind"] else None,
        columns=parse_columns(options["columns"]), strip=options["strip"],
    )  # fmt: skip
    run = registering.Run(
        report=options["report"], resume=options["resume"], skip_broken=options["skip_broken"],
        connections=options["jobs"],
    )  # fmt: skip
    teller = Teller(as_json)
    started = time.monotonic()
    settled = 0
    with Progress("register", unit="lines") as progress:

        def progressed(label: str, line: int, total: int | None) -> None:
            nonlocal settled
            settled = line if label == "register" else 0
            progress.label, progress.total = label, total
            progress.set(line)

        try:
            finished = registering.register_manifest(wanted, run, teller.tell, progressed)
        except BaseException:
            if settled:
                kept = registering.progress_path(manifest, options["report"])
                again = "the same with --resume goes on there" if kept else "running it again passes over that"
                say(f"stopped; up to line {settled:,} all is registered, and {again}")
            raise
    _finish(finished, time.monotonic() - started, as_json=as_json)
    return int(any(finished.sums[kind] for kind in PROBLEMS))


class Teller:
    """Tells of the first problems of each kind; all of them go to the report, and with --json to standard output."""

    SAID = 10

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def tell(self, kind: str, number: int, facts: dict[str, Any]) -> None:
        import msgspec

        from spinor.terminal import printable, say

        if self.as_json:
            click.echo(msgspec.json.encode({"problem": kind, **facts}).decode())
        elif number <= self.SAID:
            say(f"{kind}: {printable(_explained(facts))}")
        elif number == self.SAID + 1:
            say(f"{kind}: more; --report FILE writes all of them down")


def _explained(facts: dict[str, Any]) -> str:
    if "line" in facts:
        column = f", column {facts['column']}" if facts["column"] else ""
        return f"{facts['file']}, line {facts['line']}{column}: {facts['reason']}"
    if "reason" in facts:
        return f"{facts['lfn']}: {facts['reason']}"
    return f"{facts['lfn']}: {facts['field']} is {facts['catalog']} in the catalog, {facts['given']} here"


def _finish(finished: Finished, wall_s: float, *, as_json: bool) -> None:
    import msgspec

    from spinor.terminal import duration, say, size

    sums = finished.sums
    if as_json:
        click.echo(msgspec.json.encode({**sums, "wall_s": round(wall_s, 3)}).decode())
        return
    counts = ", ".join(f"{count:,} {kind}" for kind, count in sums.items() if kind not in ("files", "size_bytes"))
    say(f"{sums['files']:,} files, {size(sums['size_bytes'])}: {counts}")
    say(f"{duration(wall_s)}, {finished.files_sent / max(wall_s, 1e-6):,.0f} files/s")
