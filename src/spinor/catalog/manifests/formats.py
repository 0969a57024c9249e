"""What kind of manifest this is, and which of its columns mean what: by its name and its first lines."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from spinor.errors import BadInput
from spinor.terminal import printable


class Format(StrEnum):
    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"
    DUMP = "dump"  # A list of what a storage element holds.


# What a file can have -> other names for it, in the order in which they are looked for.
COLUMNS: dict[str, tuple[str, ...]] = {
    "lfn": ("logical_file_name", "path", "file"),
    "pfn": ("physical_file_name", "url", "surl"),
    "size_bytes": ("size", "bytes", "filesize", "file_size"),
    "adler32": ("checksum", "adler", "adler_32"),
    "sha256": ("sha_256",),
    "guid": ("uuid",),
    "se": ("storage_element", "rse"),
    "created_at": ("created", "creation_date", "creationdate"),
    "metadata": (),
}
_ENDINGS = {
    ".csv": Format.CSV, ".tsv": Format.CSV, ".ndjson": Format.NDJSON, ".jsonl": Format.NDJSON, ".json": Format.NDJSON,
    ".parquet": Format.PARQUET, ".pq": Format.PARQUET, ".dump": Format.DUMP, ".list": Format.DUMP,
}  # fmt: skip
_COMPRESSION = {".gz", ".zst", ".zstd", ".bz2", ".lz4"}
_NUMBER = re.compile(rb"[0-9]{1,19}")
_HEX = re.compile(rb"(?:adler32:)?[0-9a-fA-F]{1,8}|-|N/A|None|null|", re.IGNORECASE)
_EIGHT = re.compile(rb"(?:adler32:)?[0-9a-f]{8}|-|N/A|None|null", re.IGNORECASE)
# `xrdfs HOST ls -l -R PATH` of XRootD 5 and 4.
LONG_LISTINGS = (
    r"^[-d]\S*\s+\S+\s+\S+\s+(?P<size_bytes>\d+)\s+\d{4}-\d\d-\d\d\s+\d\d:\d\d:\d\d\s+(?P<path>.+)$",
    r"^[-d]\S*\s+\d{4}-\d\d-\d\d\s+\d\d:\d\d:\d\d\s+(?P<size_bytes>\d+)\s+(?P<path>.+)$",
)


@dataclass(frozen=True)
class Layout:
    """How the records are written. `columns` says where each fact is: the name in the file, or its place from 0."""

    format: Format
    columns: Mapping[str, str | int]
    names: Sequence[str] = ()  # Every column of the file; of a dump, made-up ones.
    separator: str = ","
    header: bool = False
    pattern: str = ""  # Of a listing whose columns only an expression tells apart.
    unused: list[str] = field(default_factory=list)


def detect_format(name: str, head: bytes) -> Format:
    path = PurePath(name.lower())
    while path.suffix in _COMPRESSION:
        path = path.with_suffix("")
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if path.suffix in _ENDINGS and _ENDINGS[path.suffix] is not Format.PARQUET:
        return _ENDINGS[path.suffix]
    first = head.lstrip().split(b"\n", 1)[0]
    if first.startswith(b"{"):
        return Format.NDJSON
    words = {word.strip().strip('"').lower() for word in re.split(r"[,;|\t]", first.decode(errors="replace"))}
    known = {name for column, others in COLUMNS.items() for name in (column, *others)}
    return Format.CSV if len(words & known) > 1 else Format.DUMP


def parse_columns(text: str) -> dict[str, str]:
    """`lfn=path,size_bytes=size`: what a file can have = how the manifest calls it (or which column it is, from 1)."""
    wanted = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        column, mark, name = pair.partition("=")
        if not mark or not name or column not in COLUMNS:
            raise BadInput(f"--columns: {printable(pair)!r} is not NAME=COLUMN; names are {', '.join(COLUMNS)}.")
        wanted[column] = name
    return wanted


def named_columns(names: Sequence[str], wanted: Mapping[str, str], what: str) -> dict[str, str | int]:
    """Where each fact is in a file whose columns have these names."""
    lower = {name.strip().lower(): name for name in reversed(names)}
    found: dict[str, str | int] = {}
    for column, others in COLUMNS.items():
        if column in wanted:
            if wanted[column] not in names:
                raise BadInput(f"--columns: {what} has no column {wanted[column]!r}; it has {', '.join(names)}.")
            found[column] = wanted[column]
            continue
        name = next((lower[n] for n in (column, *others) if n in lower and lower[n] not in wanted.values()), None)
        if name is not None:
            found[column] = name
    check_needed(found, what, names)
    return found


def check_needed(found: Mapping[str, object], what: str, names: Sequence[str]) -> None:
    shown = f"it has {', '.join(printable(name) for name in names)}" if names else "it has none that is known"
    if "lfn" not in found and "pfn" not in found:
        raise BadInput(
            f"{what} has no column lfn ({shown}); say which one it is: --columns lfn=NAME, or its "
            "number where there is no header."
        )
    if "size_bytes" not in found:
        raise BadInput(
            f"{what} has no column size_bytes ({shown}), and a file cannot be registered without its size; say which "
            "one it is (--columns size_bytes=NAME), or make the list with sizes (`xrdfs HOST ls -l -R PATH`)."
        )


def csv_layout(head: bytes, wanted: Mapping[str, str], name: str, separator: str = "") -> Layout:
    first = head.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").rstrip("\r")
    separator = separator or max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
    names = next(csv.reader([first], delimiter=separator), [])
    if wanted and all(value.isdecimal() for value in wanted.values()):
        return _by_place(Layout(Format.CSV, {}, names, separator), wanted, name)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise BadInput(f"{name}, line 1: the column {printable(min(twice))!r} comes twice; rename one of them.")
    columns = named_columns(names, wanted, name)
    unused = [name for name in names if name not in columns.values()]
    return Layout(Format.CSV, columns, names, separator, header=True, unused=unused)


def dump_layout(head: bytes, wanted: Mapping[str, str], name: str) -> Layout:
    """Guess what the columns of a list are by its first lines."""
    sample = [line.rstrip(b"\r") for line in head.split(b"\n") if line.strip() and not line.startswith(b"# ")][:50]
    if not sample:
        return Layout(Format.DUMP, {"pfn": 0, "size_bytes": 1}, ["0", "1"], "\t")
    for pattern in LONG_LISTINGS:
        if not wanted and all(re.match(pattern.encode(), line) for line in sample):
            return Layout(Format.DUMP, {"pfn": 1, "size_bytes": 0}, ["0", "1"], pattern=pattern)
    mark = next((mark for mark in (b"|", b"\t", b",") if all(mark in line for line in sample)), b" ")
    rows = [line.split(mark) if mark != b" " else _blank_separated(line) for line in sample]
    count = min(map(len, rows))
    layout = Layout(Format.DUMP, {}, [str(n) for n in range(count)], mark.decode())
    if wanted:
        return _by_place(layout, wanted, name)
    if mark == b"|" and count == 4:  # What DIRAC's getSEDump writes.
        return _with(layout, {"se": 0, "lfn": 1, "adler32": 2, "size_bytes": 3})
    place = next((n for n in range(count) if b"/" in rows[0][n]), 0)
    columns: dict[str, str | int] = {"pfn": place}
    for n in (n for n in range(count) if n != place):
        values = [row[n] for row in rows]
        if "size_bytes" not in columns and all(_NUMBER.fullmatch(value) for value in values):
            columns["size_bytes"] = n
        elif "adler32" not in columns and all(_HEX.fullmatch(value) for value in values):
            columns["adler32"] = n
    check_needed(columns, name, [f"{n + 1}: {rows[0][n].decode(errors='replace')}" for n in range(count)])
    return _with(layout, columns)


def _blank_separated(line: bytes) -> list[bytes]:
    """A path, which may have blanks inside, then maybe a size, then maybe a checksum."""
    words = line.rsplit(None, 2)
    if len(words) == 3 and _EIGHT.fullmatch(words[2]) and _NUMBER.fullmatch(words[1]):
        return words
    return line.rsplit(None, 1)


def _by_place(layout: Layout, wanted: Mapping[str, str], name: str) -> Layout:
    columns: dict[str, str | int] = {}
    for column, place in wanted.items():
        if not place.isdecimal() or not 1 <= int(place) <= len(layout.names):
            raise BadInput(
                f"--columns: {column}={printable(place)} is no column of {name}, which has {len(layout.names)} and no "
                "names for them; count from 1."
            )
        columns[column] = int(place) - 1
    check_needed(columns, name, [])
    return _with(layout, columns)


def _with(layout: Layout, columns: dict[str, str | int]) -> Layout:
    names = [str(n) for n in range(len(layout.names))]
    return Layout(layout.format, columns, names, layout.separator, pattern=layout.pattern)
