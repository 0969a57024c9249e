"""Dumps as storage sites write them, and walks."""

import bz2
import csv
import gzip
import io
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.catalog.fsck.dumps import BadDump, Dump, walked
from spinor.catalog.fsck.roots import Roots
from spinor.catalog.manifests.formats import parse_columns
from spinor.catalog.manifests.source import Source
from spinor.errors import BadInput
from spinor.storage.plugin import Stored
from spinor.storage.plugins.file import FileStorage

ROOT = ("/data/disk", "root://door.example:1094//data/disk", "https://door.example/data/disk")
AT = datetime(2026, 11, 27, 6, tzinfo=UTC)
Facts = tuple[Any, ...]


class Read:
    """What was read of a dump."""

    def __init__(self, path: Path | str, columns: str = "", se: str = "disk") -> None:
        self.refused: list[tuple[str, str]] = []
        with Source(str(path)) as source:
            self.dump = Dump(
                source, se, Roots(ROOT), lambda name, why: self.refused.append((name, why)), parse_columns(columns)
            )
            self.rows: list[Facts] = [
                tuple(row.values()) for batch in self.dump for row in batch.to_pylist()
            ]  # fmt: skip


def read(tmp_path: Path, content: str | bytes, name: str = "dump", columns: str = "") -> list[Facts]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Read(path, columns).rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a/x\nb/é 界.dat\n", [("a/x", None, None, None), ("b/é 界.dat", None, None, None)]),
        ("a/x\r\nb/y\r\n", [("a/x", None, None, None), ("b/y", None, None, None)]),
        ("a/x\n\nb/y", [("a/x", None, None, None), ("b/y", None, None, None)]),
        ("a/x\nb, c/y\n", [("a/x", None, None, None), ("b, c/y", None, None, None)]),
        ('a/"x\n', [('a/"x', None, None, None)]),
        ("a/x 5\nb/y z 6\n", [("a/x", 5, None, None), ("b/y z", 6, None, None)]),
        ("a/x\t5\nb/y\t6\n", [("a/x", 5, None, None), ("b/y", 6, None, None)]),
        ("a/x,5,00000abc\nb/y,6,ffffffff\n", [("a/x", 5, 0xABC, None), ("b/y", 6, 0xFFFFFFFF, None)]),
        ("a/x|5|0000000a\nb/y|6|-\n", [("a/x", 5, 10, None), ("b/y", 6, None, None)]),
        ("a/x\tadler32:00000abc\t5\n", [("a/x", 5, 0xABC, None)]),
        ("/data/disk/a/x 5\n/data/disk//b///y 6\n", [("a/x", 5, None, None), ("b/y", 6, None, None)]),
        ("./a/x\n././b/y\n", [("a/x", None, None, None), ("b/y", None, None, None)]),
        ("root://door.example:1094//data/disk/a%20x\n", [("a%20x", None, None, None)]),
        ("https://door.example/data/disk/a%20x%C3%A9\n", [("a xé", None, None, None)]),
    ],
)
def test_lists(tmp_path: Path, content: str, rows: list[Facts]) -> None:
    assert read(tmp_path, content) == rows


def test_names_that_end_like_sizes(tmp_path: Path) -> None:
    content = "run 1\nrun 2\n"
    assert read(tmp_path, content) == [("run", 1, None, None), ("run", 2, None, None)]
    assert read(tmp_path, content, columns="pfn=1") == [("run 1", None, None, None), ("run 2", None, None, None)]


@pytest.mark.parametrize(
    ("name", "content", "columns", "rows"),
    [
        ("d.csv", "pfn,size\na/x,5\n\"b,\"\"y\",6\n", "", [("a/x", 5, None, None), ('b,"y', 6, None, None)]),
        ("d.csv", "path;size;checksum;mtime\n/data/disk/x;5;abc;1795759200\n", "", [("x", 5, 0xABC, AT)]),
        ("d.csv", "name,bytes,at\nx,5,2026-11-27T06:00:00Z\n", "pfn=name,created_at=at", [("x", 5, None, AT)]),
        ("d.ndjson", '{"pfn":"a\\nb","size_bytes":5}\n{"size_bytes":6,"pfn":"c","adler32":"0a"}\n', "",
         [("a\nb", 5, None, None), ("c", 6, 10, None)]),
        # What DIRAC's getSEDump writes: LFNs, which are the PFNs below the root.
        ("d", "disk|/data/disk/x|00000abc|5\n", "", [("x", 5, 0xABC, None)]),
        # A replica dump of Rucio.
        ("d", "disk\tuser\tx\t00000abc\t5\t2026-11-27 06:00:00\ta/b/x\t2026-11-27 06:00:00\tA\n",
         "pfn=7,size_bytes=5,adler32=4", [("a/b/x", 5, 0xABC, None)]),
    ],
)  # fmt: skip
def test_tables(tmp_path: Path, name: str, content: str, columns: str, rows: list[Facts]) -> None:
    assert read(tmp_path, content, name, columns) == rows


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"path": ["/data/disk/x", "y"], "size": [5, None], "adler32": [1, None], "mtime": [AT, None]})
    pq.write_table(table, tmp_path / "d.parquet")
    assert Read(tmp_path / "d.parquet").rows == [("x", 5, 1, AT), ("y", None, None, None)]


def test_compressed(tmp_path: Path) -> None:
    content = b"".join(b"run/event-%d 5\n" % n for n in range(100_000))
    half = content.index(b"\n", len(content) // 2) + 1
    for packed in (
        gzip.compress(content),
        gzip.compress(content[:half]) + gzip.compress(content[half:]),  # As `cat a.gz b.gz` makes it.
        bz2.compress(content),
        pa.compress(content, codec="zstd", asbytes=True),
    ):
        rows = read(tmp_path, packed)
        assert (len(rows), rows[-1]) == (100_000, ("run/event-99999", 5, None, None))


def test_a_compressed_dump_that_is_broken_off(tmp_path: Path) -> None:
    content = b"".join(b"run/event-%d %d\n" % (n, n * n) for n in range(100_000))
    for packed in (gzip.compress(content), pa.compress(content, codec="zstd", asbytes=True)):
        with pytest.raises(BadInput, match="dump"):
            read(tmp_path, packed[: len(packed) // 2])


@pytest.mark.parametrize(
    ("name", "content", "line", "sentence"),
    [
        ("d", "a/x 5\n" * 200 + "a/y\n" + "a/x 5\n", 201, "columns"),
        ("d", "a/x 5\n" * 200 + "a/y -5\n" + "a/x 5\n", 201, "size"),
        ("d", "a/x,5,00000abc\n" * 200 + "a/y,5,0000xabc\n", 201, "8 hex digits"),
        ("d.csv", "pfn,size\n" + "a,5\n" * 200_000 + "a,5,6\n", 200_002, "columns"),
        ("d.csv", 'pfn,size\n"a,5\n', 2, "CSV"),
        ("d.csv", "pfn,size,mtime\na,5,yesterday\n", 2, "time"),
        ("d.csv", "pfn,size\n,5\n", 2, "missing"),
        ("d.ndjson", '{"pfn":"a","size":5}\n{"pfn":"b"\n', 2, "JSON"),
        ("d.ndjson", '{"pfn":"a","size":5}\n{"size":5}\n', 2, "missing"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, name: str, content: str, line: int, sentence: str) -> None:
    with pytest.raises(BadDump) as caught:
        read(tmp_path, content, name)
    assert caught.value.facts == {"file": name, "line": line}
    assert f"{name}, line {line:,}: " in caught.value.message
    assert sentence in caught.value.message
    assert "\n" not in caught.value.message


def test_names_that_are_not_utf8_are_told_and_passed_over(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"a/x\na/\xff\na/y\n")
    got = Read(tmp_path / "d")
    assert [row[0] for row in got.rows] == ["a/x", "a/y"]
    assert got.refused == [("line 2 of d", "the name is not valid UTF-8")]


def test_what_is_no_file_of_this_storage_element_is_counted(tmp_path: Path) -> None:
    (tmp_path / "d").write_text(
        "/data/disk/x\n/data/diskless/x\nroot://other//data/disk/y\n/data/disk/a/\n/data/disk/\n"
    )
    got = Read(tmp_path / "d")
    assert [row[0] for row in got.rows] == ["x"]
    assert got.dump.passed_over == {"outside": 2, "directories": 2}
    assert got.dump.first_outside == "/data/diskless/x"
    (tmp_path / "d").write_text("disk|x|00000abc|5\ntape|y|00000abc|5\n")
    got = Read(tmp_path / "d")
    assert ([row[0] for row in got.rows], got.dump.passed_over) == (["x"], {"other-se": 1})
    with pytest.raises(BadDump, match="no line of elsewhere"):
        Read(tmp_path / "d", se="elsewhere")


def test_a_dump_of_another_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDump, match="--prefix"):
        read(tmp_path, "/eos/x\n/eos/y\n")


def test_a_table_without_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--columns"):
        read(tmp_path, "size,adler32\n5,00000abc\n", "d.csv")


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=5)
FILES = st.tuples(
    NAMES.filter(lambda name: name not in (".", "..")), st.integers(0, 2**63 - 1), st.none() | st.integers(0, 2**32 - 1)
)


@settings(deadline=None, max_examples=150)
@given(st.lists(FILES, min_size=1, max_size=8), st.sampled_from(["csv", "ndjson", "parquet"]))
def test_every_name_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, int, int | None]], form: str
) -> None:
    path = tmp_path_factory.mktemp("dump") / f"d.{form}"
    columns = ("pfn", "size_bytes", "adler32")
    told = [(f"top/{name}", size, None if adler32 is None else f"{adler32:08x}") for name, size, adler32 in files]
    if form == "csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *told])
    elif form == "ndjson":
        path.write_bytes(msgspec.json.Encoder().encode_lines([dict(zip(columns, row, strict=True)) for row in told]))
    else:
        pq.write_table(pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in told]), path)
    assert Read(path).rows == [(f"top/{name}", size, adler32, None) for name, size, adler32 in files]


def test_an_empty_dump(tmp_path: Path) -> None:
    assert read(tmp_path, "") == []


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"a/x 5\n")

    monkeypatch.setattr(sys, "stdin", Stdin)
    got = Read("-")
    assert got.rows == [("a/x", 5, None, None)]
    with pytest.raises(BadDump, match="--dump-time"):
        got.dump.listed_at()


def test_a_dump_has_the_time_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("a\n")
    written_at = datetime.fromtimestamp((tmp_path / "d").stat().st_mtime, UTC)
    assert Read(tmp_path / "d").dump.listed_at() == written_at


def test_a_walk_through_a_storage(tmp_path: Path) -> None:
    for name in (b"a/x", b"a/b/\xc3\xa9", b"a/\xff"):
        path = Path(sys.getfilesystemencoding() and (bytes(tmp_path) + b"/" + name).decode(errors="surrogateescape"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    refused: list[str] = []
    listing = list(walked(FileStorage(str(tmp_path), {}).walk(""), lambda name, _: refused.append(name)))
    rows = [row for batch in listing for row in batch.to_pylist()]
    assert {(row["pfn"], row["size_bytes"], row["adler32"]) for row in rows} == {("a/x", 5, None), ("a/b/é", 5, None)}
    assert all(row["modified_at"].tzinfo for row in rows)
    assert refused == ["a/\\xff"]


def test_a_long_walk_comes_in_batches() -> None:
    files: Sequence[Stored] = [Stored(path=f"f{n}", size_bytes=n, modified_at_s=math.nan) for n in range(70_000)]
    listing = list(walked(files, lambda *_: None))
    assert sum(batch.num_rows for batch in listing) == 70_000
    assert len(listing) == 3
    assert listing[2].column("modified_at").null_count == listing[2].num_rows


def test_roots_are_cut_off_once_and_the_longest_first() -> None:
    roots = Roots(["/data", "/data/disk/", "/é"])
    names, inside = roots.relative(pa.array(["/data/disk/data/x", "/data/y", "/é/z", "/dat", "r", "s://h/x"]))
    assert names.to_pylist()[:3] == ["data/x", "y", "z"]
    assert inside.tolist() == [True, True, True, False, True, False]
