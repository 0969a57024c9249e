"""Checked rows: legal names, sizes and checksums as numbers, each row's directory below the common one."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinor.catalog import rules
from spinor.catalog.manifests.columns import KINDS
from spinor.catalog.manifests.rows import Broken, Rows
from spinor.terminal import printable

_BAD_PART = r"(?:^|/)\.{0,2}(?:/|$)|\x00"
_SHOWN = 120


@dataclass(frozen=True)
class Place:
    """What the names of a manifest mean."""

    directory: str  # Absolute; every row's path hangs below it.
    relative: bool  # Whether names without a slash in front hang there too.
    se: str | None = None  # Of rows that name none.
    elements: Set[str] = frozenset()
    strip: tuple[str, ...] = ()  # What stands in front of a path on the storage element.
    root: str = ""  # For the sentence that a path is not below it.


@dataclass
class Checked:
    """`table` has the columns of `register-batch`, except that `path` and `name` are `lfn` below the directory."""

    table: Any
    lines: Any
    end_line: int
    broken: list[Broken]


class Checker:
    def __init__(self, place: Place) -> None:
        self.place = place

    def check(self, rows: Rows) -> Checked:
        table = {name: plain(rows.table[name]) for name in rows.table.column_names}
        faults = _Faults(rows)
        columns = {"lfn": self._relative(table, faults)}
        for column, kind in KINDS.items():
            if column in table:
                columns[column] = self._values(column, table[column], faults, kind)
        self._legal(columns["lfn"], faults)
        if "lfn" in table and "pfn" in table:
            columns["pfn"] = self._below_root(table["pfn"], faults, "pfn")
        if "se" in table:
            columns["se"] = self._element(table["se"], faults)
        elif self.place.se is None and len(rows.lines):
            faults.add(np.ones(len(rows.lines), bool), "se", lambda _: "is missing; give --se or a column se")
        found = pa.table(columns)
        if faults.found:
            found = found.filter(pa.array(faults.good))
        broken = sorted([*rows.broken, *faults.broken], key=lambda fault: fault.line)
        return Checked(found, rows.lines[faults.good], rows.end_line, broken)

    def _relative(self, table: dict[str, Any], faults: _Faults) -> Any:
        top, place = self.place.directory + "/", self.place
        column = "lfn" if "lfn" in table else "pfn"
        values = table[column]
        faults.missing(values, column)
        if column == "pfn":
            values = self._below_root(values, faults, "pfn")
            if place.relative:
                return values
            values = pc.binary_join_element_wise("/", values, "")
        below = _mask(pc.starts_with(values, top))
        if below.all():
            return pc.utf8_slice_codeunits(values, len(top))
        absolute = _mask(pc.starts_with(values, "/"))
        if not place.relative:
            faults.add(~absolute, column, lambda row: (
                f"{_shown(values[row])} does not begin with /; give the directory below which it hangs with --below"
            ))  # fmt: skip
        faults.add(absolute & ~below, column, lambda row: f"{_shown(values[row])} is not below {place.directory}")
        return pc.if_else(pa.array(below), pc.utf8_slice_codeunits(values, len(top)), values)

    def _below_root(self, values: Any, faults: _Faults, column: str) -> Any:
        """Paths on the storage element relative to its root."""
        for strip in self.place.strip:
            under = pc.starts_with(values, strip)
            if _mask(under).any():
                rest = pc.utf8_ltrim(pc.utf8_slice_codeunits(values, len(strip)), "/")
                values = pc.if_else(under, rest, values)
        foreign = _mask(pc.or_(pc.starts_with(values, "/"), pc.match_substring(values, "://")))
        faults.add(foreign, column, lambda row: (
            f"{_shown(values[row])} is not below {self.place.root or 'a root that is known'}; say with --strip what "
            "stands in front of the path below the storage element's root"
        ))  # fmt: skip
        if column == "pfn":
            bad = _mask(pc.match_substring_regex(values, _BAD_PART)) & ~foreign
            faults.add(bad, column, lambda row: f"{_shown(values[row])} has a part that is empty, . or ..")
        return values

    def _values(self, column: str, values: Any, faults: _Faults, kind: Any) -> Any:
        found, bad = kind.read(values)
        if bad is not None:
            faults.add(bad, column, lambda row: f"{_shown(values[row])} {kind.remedy}")
        if column == "size_bytes":
            faults.missing(found, column)
        return found

    def _legal(self, values: Any, faults: _Faults) -> None:
        lengths = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
        bad = _mask(pc.match_substring_regex(values, _BAD_PART))
        long = lengths > rules.MAX_NAME_BYTES
        vo = self.place.directory.split("/", 2)[1]

        def fault(row: int) -> str | None:
            found = rules.path_fault(f"{self.place.directory}/{values[row].as_py()}", vo)
            return found.message.rstrip(".") if found else None

        for row in np.flatnonzero(long & ~bad):
            bad[row] = fault(int(row)) is not None
        faults.add(bad, "lfn", lambda row: fault(row) or "is no legal name")

    def _element(self, values: Any, faults: _Faults) -> Any:
        names = pc.unique(values).to_pylist()
        known = ", ".join(sorted(self.place.elements)) or "none"
        wrong = [name for name in names if name is not None and name not in self.place.elements]
        if wrong:
            bad = _mask(pc.is_in(values, value_set=pa.array(wrong, pa.string())))
            faults.add(bad, "se", lambda row: (
                f"{_shown(values[row])} is no storage element of your VO; there are: {known}"
            ))  # fmt: skip
        if None in names:
            if self.place.se is None:
                faults.missing(values, "se")
            values = pc.fill_null(values, self.place.se or "")
        return values.dictionary_encode()


class _Faults:
    """Which rows are still good, and what is wrong with the others: the first fault of each."""

    def __init__(self, rows: Rows) -> None:
        self.lines = rows.lines
        self.good = np.ones(len(rows.lines), bool)
        self.broken: list[Broken] = []

    @property
    def found(self) -> bool:
        return bool(self.broken)

    def add(self, bad: Any, column: str, reason: Callable[[int], str]) -> None:
        for row in np.flatnonzero(bad & self.good):
            self.broken.append(Broken(int(self.lines[row]), column, reason(int(row))))
        self.good &= ~bad

    def missing(self, values: Any, column: str) -> None:
        if values.null_count:
            bad = pc.is_null(values).to_numpy(zero_copy_only=False)
            self.add(bad, column, lambda _: "is missing")


def plain(column: Any) -> Any:
    """One array, of ordinary strings where it holds texts."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type) or pa.types.is_null(array.type):
        array = array.cast(pa.string())
    return array


def _mask(values: Any) -> Any:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def _shown(value: Any) -> str:
    text = value.as_py()
    text = text.hex() if isinstance(text, bytes) else str(text)
    return repr(printable(text) if len(text) <= _SHOWN else printable(text[:_SHOWN]) + "…")
