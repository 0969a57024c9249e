"""Lines to columns: whatever the values and wherever a block ends, the rows and their lines are right."""

import csv
import io
import json
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from spinor.catalog.manifests import source
from spinor.catalog.manifests.formats import csv_layout, dump_layout
from spinor.catalog.manifests.source import Source
from spinor.catalog.manifests.splitting import ndjson_layout, read_rows

Row = tuple[str, str, str]
TEXT = st.text(alphabet="ab ,;|\t\"'ü😀\n\r\\", max_size=6)
ROWS = st.lists(st.tuples(TEXT.map(lambda text: "/" + text), st.sampled_from(["1", "22"]), TEXT), max_size=30)
BLOCK = st.integers(8, 300)


def read(text: str, kind: str, block_bytes: int, after_line: int = 0) -> tuple[list[list[str | None]], list[int]]:
    """All rows, and the line where each begins."""
    with tempfile.TemporaryDirectory() as directory, mock.patch.object(source, "BLOCK_BYTES", block_bytes):
        path = Path(directory) / "m"
        path.write_bytes(text.encode())
        with Source(str(path)) as opened:
            if kind == "csv":
                layout = csv_layout(opened.head(), {}, "m")
            elif kind == "ndjson":
                layout = ndjson_layout(opened.head(), {}, "m")
            else:
                layout = dump_layout(opened.head(), {"pfn": "1", "size_bytes": "2", "adler32": "3"}, "m")
            found: list[list[str | None]] = []
            lines: list[int] = []
            for rows in read_rows(opened, layout, after_line):
                assert rows.broken == []
                table = rows.table.to_pydict()
                columns = [table[name] for name in layout.columns if name in ("lfn", "pfn", "size_bytes", "adler32")]
                found += [list(row) for row in zip(*columns, strict=True)]
                lines += rows.lines.tolist()
    return found, lines


@settings(max_examples=200, deadline=None)
@given(ROWS, BLOCK, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.data())
def test_csv(rows: list[Row], block_bytes: int, ending: str, quoted: bool, data: st.DataObject) -> None:
    if not quoted:  # Python's writer leaves a bare CR without quotes, which no reader takes.
        rows = [(lfn.replace("\r", ""), size, rest.replace("\r", "")) for lfn, size, rest in rows]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ending, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["lfn", "size", "adler32"])
    starts: list[int] = []
    for row in rows:
        starts.append(text.getvalue().count("\n") + 1)
        writer.writerow(row)
    wanted: list[list[str | None]] = [[lfn, size, rest or None] for lfn, size, rest in rows]
    assert read(text.getvalue(), "csv", block_bytes) == (wanted, starts)
    if rows:
        # A run that goes on begins at the line of any row.
        skip = data.draw(st.integers(0, len(rows) - 1))
        rest = read(text.getvalue(), "csv", block_bytes, after_line=starts[skip] - 1)
        assert rest == (wanted[skip:], starts[skip:])


@settings(max_examples=100, deadline=None)
@given(ROWS, BLOCK, st.sets(st.integers(0, 30)))
def test_objects(rows: list[Row], block_bytes: int, empty: set[int]) -> None:
    text, starts = "", []
    for number, (lfn, size, rest) in enumerate(rows):
        text += "\n" if number in empty else ""
        starts.append(text.count("\n") + 1)
        text += json.dumps({"lfn": lfn, "size": int(size), "adler32": rest or None}) + "\n"
    if not rows:
        return
    wanted: list[list[str | None]] = [[lfn, size, rest or None] for lfn, size, rest in rows]
    assert read(text.removesuffix("\n"), "ndjson", block_bytes) == (wanted, starts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text(alphabet='ab /ü"\\', max_size=8), st.integers(0, 99)), min_size=1, max_size=30),
    BLOCK, st.sampled_from("|\t"), st.sets(st.integers(0, 30)),
)  # fmt: skip
def test_lists(rows: list[tuple[str, int]], block_bytes: int, mark: str, empty: set[int]) -> None:
    text, starts = "", []
    for number, (path, size) in enumerate(rows):
        text += "\n" if number in empty else ""
        starts.append(text.count("\n") + 1)
        text += f"/{path}{mark}{size}{mark}\n"
    wanted: list[list[str | None]] = [[f"/{path}", str(size), None] for path, size in rows]
    assert read(text, "dump", block_bytes) == (wanted, starts)
