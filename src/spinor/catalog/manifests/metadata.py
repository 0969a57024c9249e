"""Metadata in bulk: from a table, or from whatever gives LFNs and their values, by `POST /api/files/metadata/batch`."""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa

from spinor.catalog import rules
from spinor.catalog.manifests.batches import ARROW, encoded
from spinor.catalog.manifests.checking import plain
from spinor.catalog.manifests.formats import Format, Layout, detect_format
from spinor.catalog.manifests.report import Report
from spinor.catalog.manifests.rows import Broken, Rows
from spinor.catalog.manifests.sending import CONNECTIONS, in_order
from spinor.catalog.manifests.source import Source
from spinor.catalog.manifests.splitting import parquet_layout, read_rows
from spinor.catalog.manifests.values import DoesNotFit, fitting, guessed
from spinor.catalog.models import BatchRefusal, MetadataKey, MetadataType, MetadataValue
from spinor.client import Client
from spinor.errors import BadInput
from spinor.terminal import printable

BATCH_ROWS = 20_000
Types = Mapping[str, MetadataType]


class BrokenTable(BadInput):
    """Some lines of the table are broken; nothing was sent."""

    code = "broken-table"


class MetadataCounts(msgspec.Struct, frozen=True, kw_only=True):
    changed: int
    refused: list[BatchRefusal] = []


@dataclass(frozen=True)
class Table:
    """A table with a line per file: one column is its LFN, and each other one a metadata key.

    `keys` chooses and renames: column of the table -> key; empty for all columns under their own names.
    """

    path: str
    lfn_column: str = "lfn"
    below: str | None = None
    format: Format | None = None
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Values:
    """The values of some files, and which lines have none because they are broken."""

    files: list[tuple[str, dict[str, MetadataValue]]]
    broken: list[Broken]
    end_line: int


def declared_types(client: Client) -> Types:
    return {key.name: key.type for key in client.get("/api/files/metadata-keys", list[MetadataKey])}


def read_table(source: Source, table: Table, types: Types) -> Iterator[Values]:
    """The values of a table, block by block. An empty cell says nothing of its key. Raises BadInput."""
    layout = _layout(source, table)
    for rows in read_rows(source, layout):
        yield _values(rows, table, types, typed=layout.format is Format.PARQUET)


def import_table(
    source: Source, table: Table, report: Report, *, skip_broken: bool = False, connections: int = CONNECTIONS,
    progressed: Callable[[str, int], None] = lambda _label, _line: None,
) -> None:  # fmt: skip
    """Set what a table has. All lines are checked before anything is sent; with `skip_broken` the good ones are set.

    Harmless to repeat. Raises BrokenTable.
    """
    with Client.from_environment() as client:
        types = declared_types(client)
    if not skip_broken:
        line = 0
        for values in read_table(source, table, types):
            line = values.end_line
            _tell_broken(values.broken, source.name, report)
            progressed("check", line)
        if report.sums["broken"]:
            raise BrokenTable(
                f"{report.sums['broken']:,} of the {line:,} lines of {source.name} are broken, and nothing was sent. "
                "Mend them, or set the values of all others with --skip-broken."
            )

    def files() -> Iterator[tuple[str, dict[str, MetadataValue]]]:
        for values in read_table(source, table, types):
            _tell_broken(values.broken, source.name, report)
            yield from values.files

    send_metadata(files(), report, connections=connections, progressed=lambda count: progressed("set", count))


def send_metadata(
    files: Iterable[tuple[str, dict[str, MetadataValue]]], report: Report, *, connections: int = CONNECTIONS,
    progressed: Callable[[int], None] = lambda _count: None,
) -> None:  # fmt: skip
    """Set values of many files. Of one that comes twice, the values are set together."""

    def send(client: Client, batch: dict[str, dict[str, MetadataValue]]) -> tuple[int, MetadataCounts]:
        table = pa.table({
            "lfn": pa.array(list(batch), pa.string()),
            "metadata": pa.array([msgspec.json.encode(values).decode() for values in batch.values()], pa.string()),
        })  # fmt: skip
        answer = client.request(
            "POST", "/api/files/metadata/batch", encoded(table), headers={"content-type": ARROW}
        )  # fmt: skip
        return len(batch), msgspec.json.decode(answer[1], type=MetadataCounts)

    for count, counts in in_order(_batches(files), send, connections=connections, stop=threading.Event()):
        report.sums["files"] += count
        report.sums["changed"] = report.sums.get("changed", 0) + counts.changed
        for refused in counts.refused:
            report.problem("refused", lfn=refused.lfn, reason=refused.reason)
        progressed(report.sums["files"])


def _batches(
    files: Iterable[tuple[str, dict[str, MetadataValue]]],
) -> Iterator[dict[str, dict[str, MetadataValue]]]:
    batch: dict[str, dict[str, MetadataValue]] = {}
    for lfn, values in files:
        batch.setdefault(lfn, {}).update(values)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = {}
    if batch:
        yield batch


def _layout(source: Source, table: Table) -> Layout:
    with source.raw() as raw:
        parquet = raw.read(4) == b"PAR1"
    kind = table.format or (Format.PARQUET if parquet else detect_format(source.name, b""))
    if kind is Format.PARQUET:
        names = parquet_layout(source, None).names
        return Layout(Format.PARQUET, _columns(names, table, source.name), names)
    if kind is Format.NDJSON:
        raise BadInput(f"{source.name} is JSON lines by its name; a table of metadata is CSV or Parquet.")
    first = source.head().split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").rstrip("\r")
    separator = max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
    names = next(csv.reader([first], delimiter=separator), [])
    return Layout(Format.CSV, _columns(names, table, source.name), names, separator, header=True)


def _columns(names: Iterable[str], table: Table, what: str) -> dict[str, str | int]:
    """Key -> column; `lfn`, which no key can be called, is the column with the LFN."""
    names = list(names)
    for name in (table.lfn_column, *table.keys):
        if name not in names:
            shown = ", ".join(printable(name) for name in names)
            remedy = "" if name in table.keys else "; say which one has the LFN: --lfn-column NAME"
            raise BadInput(f"{what} has no column {printable(name)!r} (it has {shown}){remedy}.")
    chosen = table.keys or {name: name for name in names if name != table.lfn_column}
    keys = list(chosen.values())
    for column, key in chosen.items():
        if names.count(column) > 1 or keys.count(key) > 1:
            raise BadInput(f"{what}: {printable(key)!r} comes twice; choose columns with --keys COLUMN=KEY,...")
        if fault := rules.key_fault(key):
            raise BadInput(
                f"{what}: the column {printable(key)!r} {fault}; choose and rename columns with --keys COLUMN=KEY,..."
            )
    return {"lfn": table.lfn_column, **{key: column for column, key in chosen.items()}}


def _values(rows: Rows, table: Table, types: Types, *, typed: bool) -> Values:
    lines = rows.lines.tolist()
    faults: dict[int, Broken] = {}
    found: list[dict[str, MetadataValue]] = [{} for _ in lines]
    lfns = _lfns(rows, table, faults)
    for key in rows.table.column_names:
        if key == "lfn":
            continue
        kind = types.get(key)
        for row, value in enumerate(plain(rows.table[key]).to_pylist()):
            if value is None:
                continue
            try:
                fits = fitting(value, kind) if typed or kind else guessed(value)
            except DoesNotFit as fault:
                as_declared = ", as the key is declared" if kind else ""
                faults.setdefault(row, Broken(lines[row], key, f"{fault}{as_declared}"))
                continue
            if fits is not None:
                found[row][key] = fits
    files = [(lfns[row], values) for row, values in enumerate(found) if values and row not in faults]
    broken = sorted([*rows.broken, *faults.values()], key=lambda fault: fault.line)
    return Values(files, broken, rows.end_line)


def _lfns(rows: Rows, table: Table, faults: dict[int, Broken]) -> list[str]:
    below = table.below.rstrip("/") if table.below else None
    lfns: list[str] = []
    for row, lfn in enumerate(plain(rows.table["lfn"]).to_pylist()):
        path = lfn or ""
        if below and not path.startswith("/"):
            path = f"{below}/{path}"
        fault = "is missing" if not lfn else None
        if not fault and not path.startswith("/"):
            fault = f"{printable(path)!r} does not begin with /; give the directory below which it hangs with --below"
        if not fault and (error := rules.path_fault(path, path.split("/", 2)[1])):
            fault = error.message.rstrip(".")
        if fault:
            faults[row] = Broken(int(rows.lines[row]), table.lfn_column, fault)
        lfns.append(path)
    return lfns


def _tell_broken(broken: list[Broken], name: str, report: Report) -> None:
    for fault in broken:
        report.problem("broken", file=name, line=fault.line, column=fault.column, reason=fault.problem)
