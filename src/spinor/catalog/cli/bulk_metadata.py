"""`spinor file metadata import` and `extract`: values of many files, from a table or from what files hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from spinor.catalog.manifests.metadata import Types
    from spinor.catalog.manifests.report import Report
    from spinor.catalog.models import MetadataValue


@click.command("import")
@click.argument("table", metavar="TABLE")
@click.option("--lfn-column", default="lfn", show_default=True, help="The column that has the LFN.")
@click.option("--below", metavar="LFN_DIR", help="The directory below which relative names hang.")
@click.option("--keys", default="", help="Set only these columns, maybe under other keys: run,SITE=site.")
@click.option("--format", "kind", type=click.Choice(["csv", "parquet"]), help="Default: looked at.")
@click.option("--skip-broken", is_flag=True, help="Set the values of good lines, and report the broken ones.")
@click.option("--dry-run", is_flag=True, help="Print what would be set, and set nothing.")
@click.option("--jobs", type=click.IntRange(1, 16), default=2, help="Requests in flight.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write what is broken or was refused here.")
@click.option("--json", "as_json", is_flag=True, help="Print problems and sums as JSON, one a line, sums last.")
def import_values(table: str, as_json: bool, **options: Any) -> int:
    """Set metadata of many files from TABLE (CSV or Parquet; - is stdin): a line per file, a column per key.

    A value of a declared key is read as its type; of another key, as a number or true/false where it looks like one.
    An empty cell leaves its key alone. All lines are checked before anything is sent; when one is broken, nothing is
    sent (exit code 2). The exit code is 1 when anything was refused or skipped.
    """
    from spinor.catalog.cli.manifest import Teller
    from spinor.catalog.manifests import metadata
    from spinor.catalog.manifests.formats import Format
    from spinor.catalog.manifests.report import Report
    from spinor.catalog.manifests.source import Source
    from spinor.client import Client
    from spinor.terminal import Progress

    wanted = metadata.Table(
        table, options["lfn_column"], options["below"], Format(options["kind"]) if options["kind"] else None,
        _renamed(options["keys"]),
    )  # fmt: skip
    started = time.monotonic()
    with Source(table) as source, Report(options["report"], Teller(as_json).tell, {}) as report:
        if options["dry_run"]:
            with Client.from_environment() as client:
                types = metadata.declared_types(client)
            for values in metadata.read_table(source, wanted, types):
                for fault in values.broken:
                    report.problem(
                        "broken", file=source.name, line=fault.line, column=fault.column, reason=fault.problem
                    )  # fmt: skip
                _print(iter(values.files), as_json=as_json)
            return 0 if report.clean else 1
        with Progress("set", unit="files") as progress:

            def progressed(label: str, count: int) -> None:
                progress.label = label
                progress.set(count)

            metadata.import_table(
                source, wanted, report, skip_broken=options["skip_broken"], connections=options["jobs"],
                progressed=progressed,
            )  # fmt: skip
        return _finish(report, time.monotonic() - started, as_json=as_json)


@click.command()
@click.argument("pairs", nargs=-1, metavar="LFN=LOCALFILE...")
@click.option("--from", "listing", type=click.Path(dir_okay=False, allow_dash=True), help="Read LFN=LOCALFILE lines.")
@click.option("--keys", default="", help="Take only these names, maybe as other keys: RUN=run,DATE-OBS=observed.")
@click.option("--dry-run", is_flag=True, help="Print what would be set, and set nothing.")
@click.option("--report", type=click.Path(dir_okay=False), help="Write what cannot be read or was refused here.")
@click.option("--json", "as_json", is_flag=True, help="Print problems and sums as JSON, one a line, sums last.")
def extract(pairs: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Set metadata of LFNs by what local files say of themselves.

    \b
    FITS        cards of the primary header, without those of its structure
    HDF5        attributes of the root (needs the package h5py)
    JSON, YAML  scalars at the top
    Parquet, Arrow  metadata of the schema
    """
    from spinor.catalog.cli.manifest import Teller
    from spinor.catalog.manifests import metadata
    from spinor.catalog.manifests.report import Report
    from spinor.client import Client

    if not pairs and not options["listing"]:
        raise click.UsageError("Give LFN=LOCALFILE words, or a file of them with --from.")
    words = [*pairs, *_lines(options["listing"])]
    started = time.monotonic()
    with Report(options["report"], Teller(as_json).tell, {}) as report:
        with Client.from_environment() as client:
            types = metadata.declared_types(client)
        found = _extracted(words, _renamed(options["keys"]), types, report)
        if options["dry_run"]:
            _print(found, as_json=as_json)
            return 0 if report.clean else 1
        metadata.send_metadata(found, report)
        return _finish(report, time.monotonic() - started, as_json=as_json)


def _extracted(
    words: list[str], keys: dict[str, str], types: Types, report: Report
) -> Iterator[tuple[str, dict[str, MetadataValue]]]:
    from spinor.catalog.extraction import extract as extract_values
    from spinor.errors import SpinorError
    from spinor.terminal import printable

    for number, word in enumerate(words, 1):
        lfn, mark, path = word.partition("=")
        try:
            if not mark or not lfn.startswith("/") or not path:
                reason = "is not LFN=LOCALFILE"
            elif isinstance(values := _chosen(extract_values(Path(path)), keys, types), str):
                reason = values
            else:
                if values:
                    yield lfn, values
                continue
        except (SpinorError, OSError) as error:
            reason = f"{error.strerror}: {printable(path)}" if isinstance(error, OSError) else str(error)
        report.problem("broken", file=printable(word), line=number, column="", reason=reason)


def _chosen(found: dict[str, MetadataValue], keys: dict[str, str], types: Types) -> dict[str, MetadataValue] | str:
    """The values under their keys; a sentence, if one does not fit its key."""
    from spinor.catalog.manifests.values import DoesNotFit, fitting

    values = {}
    for name, value in found.items():
        if not keys or name in keys:
            key = keys.get(name, name)
            try:
                fits = fitting(value, types.get(key))
            except DoesNotFit as error:
                return f"{name}: {error}, as the key {key} is declared; choose names with --keys"
            if fits is not None:
                values[key] = fits
    return values


def _lines(listing: str | None) -> list[str]:
    if listing is None:
        return []
    with click.open_file(listing, encoding="utf-8") as file:
        return [line.rstrip("\r\n") for line in file if line.strip()]


def _renamed(text: str) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    return {name: key or name for name, _, key in pairs}


def _print(files: Iterator[tuple[str, dict[str, MetadataValue]]], *, as_json: bool) -> None:
    import msgspec

    from spinor.terminal import cell, printable

    for lfn, values in files:
        if as_json:
            click.echo(msgspec.json.encode({"lfn": lfn, "metadata": values}).decode())
        else:
            click.echo(f"{printable(lfn)}  " + "  ".join(f"{key}={cell(value)}" for key, value in values.items()))


def _finish(report: Report, wall_s: float, *, as_json: bool) -> int:
    import msgspec

    from spinor.terminal import duration, say

    sums = {"files": 0, "changed": 0, "broken": 0, "refused": 0}
    sums = {kind: report.sums.get(kind, 0) for kind in sums}
    if as_json:
        click.echo(msgspec.json.encode({**sums, "wall_s": round(wall_s, 3)}).decode())
    else:
        say(", ".join(f"{count:,} {kind}" for kind, count in sums.items()) + f"; {duration(wall_s)}")
    return 0 if report.clean else 1
