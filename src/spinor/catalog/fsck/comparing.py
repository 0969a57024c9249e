"""Compare the catalog with what a storage element says it holds, in both directions.

Both sides are streams of Arrow batches, spread by PFN over files (`partitions`), and joined part by part. Whole
columns are worked on; only findings become rows of Python, where somebody reads them.

What changes while the storage is listed must not be told as a fault. The listing has a time, and:

- a replica that was registered after it is too young to be missed;
- a file that was written after it is too young to be dark, as is one whose removal is pending;
- a dark file whose time is not known is at least as old as the listing. The catalog is read after the listing, so the
  file has been without a name for all the time between the two.

`margin_s` is how long a writer may take to register what it has written, and a listing from its time to its end: the
listing's time is put back by so much, and files whose time is not known are dark only if that long was between the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spinor.catalog.fsck import findings
from spinor.catalog.fsck.findings import REPORTED, Kind
from spinor.catalog.fsck.partitions import Parts, ahead, together

_AT = pa.timestamp("us", "UTC")
CATALOG = pa.schema(
    [
        ("pfn", pa.string()),
        ("lfn", pa.string()),
        ("size_bytes", pa.int64()),
        ("adler32", pa.int64()),
        ("status", pa.string()),
        ("created_at", _AT),  # When the replica was registered.
    ]
)
LISTING = pa.schema([("pfn", pa.string()), ("size_bytes", pa.int64()), ("adler32", pa.int64()), ("modified_at", _AT)])
LEAVING = pa.schema([("pfn", pa.string())])

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`listed_at`: when the listing began. Kinds that are not `reported` are only counted."""

    se: str
    listed_at: datetime
    margin_s: float = 0.0
    reported: frozenset[Kind] = REPORTED

    @property
    def young_from(self) -> datetime:
        return self.listed_at - timedelta(seconds=self.margin_s)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """The streams. The two of the catalog are opened when the listing has been read to its end.

    `removals` are the PFNs whose deletion from this storage element is pending.
    """

    listing: Batches
    catalog: Callable[[], Batches]
    removals: Callable[[], Batches] = field(default=lambda: ())


class Comparison:
    """One comparison. Iterate over `run` for tables of findings; `counts` is complete afterwards.

    Counts: `catalog` and `listing` rows, one for each kind of finding, and those that are no findings: `equal`,
    `too-young`, `removing`, `known-unavailable` (not there or not right, and marked so), `repeated` (lines of the
    listing that name a PFN again; the first one counts). Besides: `size-not-listed`, `checksum-not-listed`, which could
    not be compared.
    """

    def __init__(self, rules: Rules, work: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.rules = rules
        self.work = work
        self.now = now
        self.counts: Counter[str] = Counter({"catalog": 0, "listing": 0, "equal": 0})

    def run(self, sides: Sides) -> Iterator[pa.Table]:
        with (
            Parts(self.work / "listing", LISTING) as listing,
            Parts(self.work / "catalog", CATALOG) as catalog,
            Parts(self.work / "removals", LEAVING) as removals,
        ):
            listing.write_all(ahead(sides.listing))
            removals.write_all(shaped(ahead(sides.removals()), LEAVING))
            unnamed_s = (self.now() - self.rules.listed_at).total_seconds()
            catalog.write_all(shaped(ahead(sides.catalog()), CATALOG))
            self.counts["listing"], self.counts["catalog"] = listing.rows, catalog.rows
            for parts in together(listing, catalog):
                part = _Part(self.rules, self.counts, catalog.read(parts), listing.read(parts))
                yield from part.findings(_column(removals.read(parts), "pfn"), unnamed_s)


def shaped(batches: Batches, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The batches with these columns in this order and of these types; a column that is not there is null."""
    for batch in batches:
        columns = [
            batch.column(wanted.name).cast(wanted.type)
            if wanted.name in batch.schema.names
            else pa.nulls(batch.num_rows, wanted.type)
            for wanted in schema
        ]
        yield pa.record_batch(columns, schema=schema)


class _Part:
    """One part of both sides. `row` and `line` are numpy arrays of places in the catalog's and the listing's table."""

    def __init__(self, rules: Rules, counts: Counter[str], catalog: pa.Table, listing: pa.Table) -> None:
        self.rules = rules
        self.counts = counts
        removing = pc.fill_null(pc.equal(catalog.column("status"), "removing"), False)
        gone = catalog.filter(removing)
        counts["removing"] += gone.num_rows
        self.gone = _column(gone, "pfn")
        self.catalog = catalog.filter(pc.invert(removing)) if gone.num_rows else catalog
        self.listing = self._without_repeated(listing)

    def findings(self, leaving: pa.Array, unnamed_s: float) -> Iterator[pa.Table]:
        """`leaving` are PFNs whose removal is pending; `unnamed_s` is the time between the listing and the catalog."""
        row_pfn, line_pfn = _column(self.catalog, "pfn"), _column(self.listing, "pfn")
        first = _first_of_equal(row_pfn)
        found = pc.index_in(line_pfn, value_set=row_pfn)  # For a PFN that is there twice, its first row.
        dark = self.listing.filter(pc.is_null(found))
        yield from self._dark(dark, pa.concat_arrays([leaving, self.gone]), unnamed_s < self.rules.margin_s)
        row_of_line = np.asarray(pc.fill_null(found, -1))
        line_of_row = np.full(len(row_pfn), -1, np.int64)
        hits = np.flatnonzero(row_of_line >= 0)
        line_of_row[row_of_line[hits]] = hits
        if first is not None:
            yield from self._double(first)
            line_of_row = line_of_row[first]
        yield from self._lost(np.flatnonzero(line_of_row < 0))
        both = np.flatnonzero(line_of_row >= 0)
        yield from self._both(both, line_of_row[both])

    def _without_repeated(self, listing: pa.Table) -> pa.Table:
        first = _first_of_equal(_column(listing, "pfn"))
        if first is None:
            return listing
        kept = np.flatnonzero(first == np.arange(len(first)))
        self.counts["repeated"] += len(first) - len(kept)
        return listing.take(pa.array(kept))

    def _dark(self, listed: pa.Table, leaving: pa.Array, otherwise: bool) -> Iterator[pa.Table]:
        """`otherwise`: whether those whose time is not known are too young."""
        young = pc.fill_null(pc.greater_equal(listed.column("modified_at"), self._young_from()), otherwise)
        young = pc.or_(young, pc.is_in(listed.column("pfn"), value_set=leaving))
        yield from self._told(Kind.DARK, None, listed.filter(pc.invert(self._counted(young))))

    def _double(self, first: Any) -> Iterator[pa.Table]:
        again = np.bincount(first, minlength=len(first)) > 1
        yield from self._told(Kind.DOUBLE, self.catalog.take(pa.array(np.flatnonzero(again[first]))), None)

    def _lost(self, row: Any) -> Iterator[pa.Table]:
        missed = self.catalog.take(pa.array(row))
        available = pc.fill_null(pc.equal(missed.column("status"), "available"), True)
        self.counts["known-unavailable"] += len(row) - pc.sum(available, min_count=0).as_py()
        missed = missed.filter(available)
        young = self._counted(self._young(missed))
        yield from self._told(Kind.LOST, missed.filter(pc.invert(young)), None)

    def _both(self, row: Any, line: Any) -> Iterator[pa.Table]:
        """Of each pair the first of these that holds: another size, another checksum, returned, no checksum."""
        catalog, listed = self.catalog, self.listing
        row_sum, line_sum = _taken(catalog, "adler32", row), _taken(listed, "adler32", line)
        no_row_sum, no_line_sum = np.asarray(pc.is_null(row_sum)), np.asarray(pc.is_null(line_sum))
        listed_size = _taken(listed, "size_bytes", line)
        size = _true(pc.not_equal(_taken(catalog, "size_bytes", row), listed_size))
        self.counts["size-not-listed"] += listed_size.null_count
        self.counts["checksum-not-listed"] += int((no_line_sum & ~no_row_sum).sum())
        checksum = _true(pc.not_equal(row_sum, line_sum)) & ~size
        # Marked already, as a replica that is not there at all.
        known = (size | checksum) & _true(pc.equal(_taken(catalog, "status", row), "unavailable"))
        self.counts["known-unavailable"] += int(known.sum())
        wrong = size | checksum
        size, checksum = size & ~known, checksum & ~known
        young = wrong & ~known & _true(pc.greater_equal(_taken(catalog, "created_at", row), self._young_from()))
        young |= wrong & ~known & _true(pc.greater_equal(_taken(listed, "modified_at", line), self._young_from()))
        returned = ~wrong & _true(pc.equal(_taken(catalog, "status", row), "unavailable"))
        self.counts["too-young"] += int(young.sum())
        self.counts["equal"] += int((~wrong & ~returned & ~no_row_sum).sum())
        for kind, mask in (
            (Kind.SIZE, size & ~young),
            (Kind.CHECKSUM, checksum & ~young),
            (Kind.RETURNED, returned),
            (Kind.NO_CHECKSUM, ~wrong & ~returned & no_row_sum & ~no_line_sum),
            (Kind.UNCHECKED, ~wrong & ~returned & no_row_sum & no_line_sum),
        ):
            if kind not in self.rules.reported:
                self.counts[kind] += int(mask.sum())
            elif mask.any():
                at = np.flatnonzero(mask)
                yield from self._told(kind, catalog.take(pa.array(row[at])), listed.take(pa.array(line[at])))

    def _young_from(self) -> Any:
        return pa.scalar(self.rules.young_from, _AT)

    def _young(self, catalog: pa.Table) -> Any:
        return pc.fill_null(pc.greater_equal(catalog.column("created_at"), self._young_from()), False)

    def _counted(self, young: Any) -> Any:
        self.counts["too-young"] += pc.sum(young, min_count=0).as_py()
        return young

    def _told(self, kind: Kind, catalog: pa.Table | None, listed: pa.Table | None) -> Iterator[pa.Table]:
        columns: dict[str, Any] = {}
        if catalog is not None:
            columns |= {name: catalog.column(name) for name in catalog.schema.names}
        if listed is not None:
            columns |= {f"storage_{name}": listed.column(name) for name in listed.schema.names if name != "pfn"}
            columns["pfn"] = listed.column("pfn")
        rows = len(columns["pfn"])
        self.counts[kind] += rows
        if rows and kind in self.rules.reported:
            yield findings.table(columns, kind, self.rules.se)


def _first_of_equal(names: pa.Array) -> Any:
    """For each name the index of its first appearance; None when no name comes twice, which is cheaper to find out."""
    if pc.count_distinct(names).as_py() == len(names):
        return None
    return np.asarray(pc.index_in(names, value_set=names))


def _column(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()


def _taken(table: pa.Table, name: str, at: Any) -> pa.Array:
    return _column(table, name).take(pa.array(at))


def _true(mask: pa.Array) -> Any:
    """Null is not true."""
    return np.asarray(pc.fill_null(mask, False))
