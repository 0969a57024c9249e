"""The comparison of a storage's listing with the catalog, held against the same done by dictionaries."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.catalog.fsck import findings, partitions
from spinor.catalog.fsck.comparing import CATALOG, LEAVING, LISTING, Comparison, Rules, Sides
from spinor.catalog.fsck.findings import Finding, Kind
from spinor.catalog.fsck.partitions import PARTS, NoRoomToCompare, Parts, part_numbers

LISTED_AT = datetime(2026, 11, 27, 6, tzinfo=UTC)
OLD, NEW = LISTED_AT - timedelta(days=3), LISTED_AT + timedelta(seconds=1)
EVERY = frozenset(Kind)


class Row(NamedTuple):
    pfn: str
    lfn: str = "/vo/f"
    size_bytes: int = 1
    adler32: int | None = 7
    status: str = "available"
    created_at: datetime | None = OLD


class Line(NamedTuple):
    pfn: str
    size_bytes: int | None = 1
    adler32: int | None = 7
    modified_at: datetime | None = None


def batches(rows: Sequence[tuple[Any, ...]], schema: pa.Schema, size: int = 3) -> list[pa.RecordBatch]:
    def batch(piece: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
        columns = zip(zip(*piece, strict=True), schema, strict=True)
        return pa.record_batch([pa.array(values, field.type) for values, field in columns], schema=schema)

    return [batch(rows[n : n + size]) for n in range(0, len(rows), size)]


def compared(
    work: Path, catalog: Sequence[Row], listing: Sequence[Line], removals: Iterable[str] = (), margin_s: float = 0
) -> tuple[list[Finding], Counter[str]]:
    rules = Rules(se="disk", listed_at=LISTED_AT, margin_s=margin_s, reported=EVERY)
    comparison = Comparison(rules, work, lambda: LISTED_AT + timedelta(seconds=20))
    sides = Sides(
        listing=batches(listing, LISTING),
        catalog=lambda: batches(catalog, CATALOG),
        removals=lambda: batches([(pfn,) for pfn in removals], LEAVING),
    )
    found = [finding for table in comparison.run(sides) for finding in findings.rows(table)]
    return found, comparison.counts


def one(work: Path, row: Row | None, line: Line | None, **more: Any) -> str:
    """The only finding's kind, or what was counted in its place."""
    found, counts = compared(work, [row] if row else [], [line] if line else [], **more)
    assert all(counts[kind] == sum(finding.kind == kind for finding in found) for kind in Kind)
    if found:
        return found[0].kind
    besides = {"catalog", "listing", "size-not-listed", "checksum-not-listed"}
    (kind,) = {kind for kind, count in counts.items() if count} - besides
    return kind


@pytest.mark.parametrize(
    ("row", "line", "kind"),
    [
        (Row("a"), Line("a"), "equal"),
        (Row("a"), Line("a", size_bytes=None), "equal"),
        (Row("a"), Line("a", adler32=None), "equal"),
        (Row("a"), Line("a", size_bytes=2, adler32=8), "size"),
        (Row("a"), Line("a", adler32=8), "checksum"),
        (Row("a"), Line("a", size_bytes=None, adler32=8), "checksum"),
        (Row("a", adler32=None), Line("a"), "no-checksum"),
        (Row("a", adler32=None), Line("a", adler32=None), "unchecked"),
        (Row("a", status="unavailable"), Line("a"), "returned"),
        (Row("a", status="unavailable"), Line("a", adler32=8), "known-unavailable"),
        (Row("a", status="suspect"), Line("a", adler32=8), "checksum"),
        (Row("a", status="unavailable"), None, "known-unavailable"),
        (Row("a", status="removing"), Line("a"), "removing"),
        (Row("a", status="removing"), None, "removing"),
        (Row("a"), None, "lost"),
        (Row("a", created_at=None), None, "lost"),
        (Row("a", created_at=NEW), None, "too-young"),
        (Row("a", created_at=LISTED_AT), None, "too-young"),
        (Row("a", created_at=NEW), Line("a", size_bytes=2), "too-young"),
        (Row("a"), Line("a", size_bytes=2, modified_at=NEW), "too-young"),
        (Row("a", created_at=NEW), Line("a"), "equal"),
        (None, Line("a"), "dark"),
        (None, Line("a", modified_at=OLD), "dark"),
        (None, Line("a", modified_at=NEW), "too-young"),
    ],
)
def test_one_file(tmp_path: Path, row: Row | None, line: Line | None, kind: str) -> None:
    if row and row.status == "removing" and line:
        # The bytes are on their way out: neither dark nor anything else.
        _, counts = compared(tmp_path, [row], [line])
        assert (counts["removing"], counts["too-young"], counts["dark"]) == (1, 1, 0)
    else:
        assert one(tmp_path, row, line) == kind


def test_bytes_whose_removal_is_pending_are_not_dark(tmp_path: Path) -> None:
    assert one(tmp_path, None, Line("a"), removals=["b", "a"]) == "too-young"


def test_a_margin_puts_the_listings_time_back(tmp_path: Path) -> None:
    row = Row("a", created_at=LISTED_AT - timedelta(seconds=50))
    (tmp_path / "narrow").mkdir()
    (tmp_path / "wide").mkdir()
    assert one(tmp_path / "narrow", row, None, margin_s=49) == "lost"
    assert one(tmp_path / "wide", row, None, margin_s=50) == "too-young"


def test_a_file_whose_time_is_not_known_is_dark_once_the_margin_is_over(tmp_path: Path) -> None:
    (tmp_path / "over").mkdir()
    (tmp_path / "under-way").mkdir()
    assert one(tmp_path / "over", None, Line("a"), margin_s=20) == "dark"
    assert one(tmp_path / "under-way", None, Line("a"), margin_s=21) == "too-young"


def test_a_finding_has_what_both_sides_say(tmp_path: Path) -> None:
    (found,), _ = compared(tmp_path, [Row("d/é", "/vo/x", 5, 0xABC)], [Line("d/é", 6, 0xFFFFFFFF, OLD)])
    assert found == Finding(
        kind="size", lfn="/vo/x", se="disk", pfn="d/é", size_bytes=5, adler32="00000abc", status="available",
        created_at=OLD, storage_size_bytes=6, storage_adler32="ffffffff", storage_modified_at=OLD,
    )  # fmt: skip


def test_the_catalog_is_opened_when_the_listing_is_read(tmp_path: Path) -> None:
    told = []

    def listing() -> Iterable[pa.RecordBatch]:
        yield from batches([Line("a"), Line("b")], LISTING, 1)
        told.append("listing")

    def catalog() -> Iterable[pa.RecordBatch]:
        told.append("catalog")
        return []

    rules = Rules(se="disk", listed_at=LISTED_AT)
    tables = Comparison(rules, tmp_path).run(Sides(listing=listing(), catalog=catalog))
    assert sum(table.num_rows for table in tables) == 2
    assert told == ["listing", "catalog"]


def test_what_a_stream_raises_is_raised(tmp_path: Path) -> None:
    def listing() -> Iterable[pa.RecordBatch]:
        yield from batches([Line("a")], LISTING)
        raise NoRoomToCompare

    sides = Sides(listing=listing(), catalog=list)
    with pytest.raises(NoRoomToCompare):
        list(Comparison(Rules(se="disk", listed_at=LISTED_AT), tmp_path).run(sides))


def test_a_full_disk_is_told_with_the_remedy(tmp_path: Path) -> None:
    directory = tmp_path / "full"
    with pytest.raises(NoRoomToCompare, match="--work"):
        with Parts(directory, LEAVING) as parts:
            for part in range(PARTS):
                (directory / f"{part}.arrow").symlink_to("/dev/full")
            parts.write_all(batches([(f"{n}",) for n in range(20_000)], LEAVING, 5000))


def test_parts_are_of_like_size() -> None:
    names = [f"data/run{n // 1000:06d}/event-{n:09d}.hdf5" for n in range(128_000)]
    sizes = np.bincount(part_numbers(pa.array(names)), minlength=PARTS)
    assert len(sizes) == PARTS
    assert sizes.min() > 500
    assert sizes.max() < 2000


def test_a_name_has_the_same_part_wherever_it_stands() -> None:
    names = ["", "a", "", "é/b", "", "x" * 300, ""]
    parts = part_numbers(pa.array(names)).tolist()
    assert parts == [int(part_numbers(pa.array([name], pa.string()))[0]) for name in names]
    assert parts[1:] == part_numbers(pa.array(names)[1:]).tolist()


NAMES = st.text(st.sampled_from("ab/é界\U0001f600 ,\t\"'%"), min_size=1, max_size=3)
SUMS = st.none() | st.integers(0, 2) | st.just(2**32 - 1)
ROWS = st.builds(
    Row, NAMES, st.sampled_from(["/vo/a", "/vo/b"]), st.integers(0, 2), SUMS,
    st.sampled_from(["available", "available", "unavailable", "removing"]), st.sampled_from([None, OLD, OLD, NEW]),
)  # fmt: skip
LINES = st.builds(Line, NAMES, st.none() | st.integers(0, 2), SUMS, st.sampled_from([None, OLD, NEW]))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(ROWS, max_size=30), st.lists(LINES, max_size=30), st.sets(NAMES, max_size=3), st.sampled_from([1, 10**6])
)
def test_equals_the_same_by_dictionaries(
    tmp_path_factory: pytest.TempPathFactory, catalog: list[Row], listing: list[Line], removals: set[str], joined: int
) -> None:
    with mock.patch.object(partitions, "_JOINED_ROWS", joined):
        found, counts = compared(tmp_path_factory.mktemp("work"), catalog, listing, removals)
    wanted, sums = naive(catalog, listing, removals)
    assert Counter((finding.kind, finding.pfn, finding.lfn) for finding in found) == wanted
    assert +counts == +sums


def naive(
    catalog: list[Row], listing: list[Line], removals: set[str]
) -> tuple[Counter[tuple[str, str, str | None]], Counter[str]]:
    found: Counter[tuple[str, str, str | None]] = Counter()
    sums = Counter(catalog=len(catalog), listing=len(listing))
    there: dict[str, Line] = {}
    for line in listing:
        sums["repeated"] += line.pfn in there
        there.setdefault(line.pfn, line)
    rows = [row for row in catalog if row.status != "removing"]
    sums["removing"] = len(catalog) - len(rows)
    leaving = removals | {row.pfn for row in catalog if row.status == "removing"}
    named = Counter(row.pfn for row in rows)
    for pfn, line in there.items():
        if pfn not in named:
            young = pfn in leaving or line.modified_at == NEW
            found["dark", pfn, None] += not young
            sums["too-young" if young else "dark"] += 1
    for row in rows:
        if named[row.pfn] > 1:
            found["double", row.pfn, row.lfn] += 1
            sums["double"] += 1
        line_there = there.get(row.pfn)
        if line_there:
            sums["size-not-listed"] += line_there.size_bytes is None
            sums["checksum-not-listed"] += line_there.adler32 is None and row.adler32 is not None
        kind = judged(row, line_there)
        sums[kind] += 1
        if kind in EVERY:
            found[kind, row.pfn, row.lfn] += 1
    return +found, sums


def judged(row: Row, line: Line | None) -> str:
    if line is None:
        if row.status == "unavailable":
            return "known-unavailable"
        return "too-young" if row.created_at == NEW else "lost"
    size = line.size_bytes is not None and line.size_bytes != row.size_bytes
    checksum = None not in (line.adler32, row.adler32) and line.adler32 != row.adler32
    if size or checksum:
        if row.status == "unavailable":
            return "known-unavailable"
        if NEW in (row.created_at, line.modified_at):
            return "too-young"
        return "size" if size else "checksum"
    if row.status == "unavailable":
        return "returned"
    if row.adler32 is None:
        return "unchecked" if line.adler32 is None else "no-checksum"
    return "equal"
