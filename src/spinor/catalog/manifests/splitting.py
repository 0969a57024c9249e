"""Lines to columns of text. A block is split at once; only one with a fault is looked at line by line."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from spinor.catalog.manifests.formats import COLUMNS, Format, Layout, named_columns
from spinor.catalog.manifests.rows import Broken, Rows
from spinor.catalog.manifests.source import Block, Source
from spinor.errors import BadInput
from spinor.terminal import printable

_NOTHING_KNOWN = pa.array(["-", "N/A", "None", "null"])  # How dumps write that there is no checksum.
_NOT_UTF8 = "is not valid UTF-8; write the file in UTF-8 (for Latin-1: iconv -f latin1 -t utf-8)"


def read_rows(source: Source, layout: Layout, after_line: int = 0) -> Iterator[Rows]:
    """Every record behind a line, as columns of text with their lines. Raises BadInput if the file itself is broken."""
    if layout.format is Format.PARQUET:
        yield from _parquet(source, layout, after_line)
        return
    split = _splitter(layout)
    start = max(after_line, int(layout.header))
    for block in source.blocks(start, quoted=layout.format is Format.CSV):
        yield split(block)


def _splitter(layout: Layout) -> Callable[[Block], Rows]:
    if layout.format is Format.NDJSON:
        return _Objects(layout).split
    return _Listing(layout).split if layout.pattern else _Delimited(layout).split


class _Delimited:
    """CSV and lists with separators."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.quoted = layout.format is Format.CSV
        used = [layout.names[at] if isinstance(at, int) else at for at in layout.columns.values()]
        self.places = [list(layout.names).index(name) for name in used]
        self.columns = list(layout.columns)
        self.read_options = pa.csv.ReadOptions(column_names=list(layout.names), block_size=64 << 20)
        self.convert_options = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(used, pa.string()), include_columns=used, null_values=[""],
            strings_can_be_null=True, quoted_strings_can_be_null=True,
        )  # fmt: skip

    def split(self, block: Block) -> Rows:
        quotes = self.quoted and b'"' in block.data
        options = pa.csv.ParseOptions(
            delimiter=self.layout.separator, quote_char='"' if self.quoted else False, newlines_in_values=quotes,
        )  # fmt: skip
        try:
            table = pa.csv.read_csv(
                pa.BufferReader(block.data), self.read_options, options, self.convert_options
            ).rename_columns(self.columns)
        except pa.ArrowInvalid:
            return self._slowly(block)
        if table.num_rows != block.lines:  # Empty lines, or line ends inside quotes: which row is where?
            return self._slowly(block)
        lines = np.arange(block.first_line, block.first_line + block.lines)
        return Rows(self._without_marks(table), lines, block.first_line + block.lines - 1)

    def _slowly(self, block: Block) -> Rows:
        rows: list[Sequence[str]] = []
        lines: list[int] = []
        broken: list[Broken] = []
        for line, fields in self._records(block):
            if isinstance(fields, str):
                broken.append(Broken(line, "", fields))
            elif fields and len(fields) != len(self.layout.names):
                broken.append(Broken(line, "", self._miscounted(fields)))
            elif fields:
                rows.append(fields)
                lines.append(line)
        table = pa.table({
            column: pa.array([row[place] or None for row in rows], pa.string())
            for column, place in zip(self.columns, self.places, strict=True)
        })  # fmt: skip
        end_line = block.first_line + block.lines - 1
        return Rows(self._without_marks(table), np.array(lines, np.int64), end_line, broken)

    def _records(self, block: Block) -> Iterator[tuple[int, Sequence[str] | str]]:
        """Line and fields; instead of these a sentence, if there is a fault."""
        if not self.quoted:
            for number, line in enumerate(_lines(block.data), block.first_line):
                text = _decoded(line.removesuffix(b"\r"))
                yield number, _NOT_UTF8 if text is None else self._fields(text)
            return
        lines = _lines(block.data)
        at = 0
        while at < len(lines):
            # Begun anew behind a record of several lines that is none, lest a quote that is not closed eats good ones.
            at = yield from self._quoted_records(lines, at, block.first_line)

    def _quoted_records(
        self, lines: list[bytes], at: int, first_line: int
    ) -> Generator[tuple[int, Sequence[str] | str], None, int]:
        texts = (lines[n].decode(errors="surrogateescape") + "\n" for n in range(at, len(lines)))
        reader = csv.reader(texts, delimiter=self.layout.separator, strict=True)
        while True:
            begin = at + reader.line_num
            number = first_line + begin
            try:
                fields = next(reader)
            except StopIteration:
                return len(lines)
            except csv.Error as error:
                yield number, f"is not CSV: {error}; a quote inside a quoted field is written twice"
                return begin + 1
            yield number, fields if all(_is_utf8(text) for text in fields) else _NOT_UTF8
            if at + reader.line_num > begin + 1 and len(fields) != len(self.layout.names):
                return begin + 1

    def _fields(self, text: str) -> Sequence[str]:
        if not text.strip() or text.startswith("# "):
            return ()
        if self.layout.separator == " ":
            return text.rsplit(None, len(self.layout.names) - 1)
        return text.split(self.layout.separator)

    def _miscounted(self, fields: Sequence[str]) -> str:
        mark = {"\t": "tabs", " ": "blanks"}.get(self.layout.separator, f"{self.layout.separator!r}")
        return (
            f"has {len(fields)} columns, separated by {mark}, where there should be {len(self.layout.names)}"
            + ("; a value with the separator inside goes in quotes" if self.quoted else "")
            + f": {printable(self.layout.separator.join(fields))[:100]}"
        )

    def _without_marks(self, table: Any) -> Any:
        if self.quoted or "adler32" not in table.column_names:
            return table
        column = table["adler32"]
        missing = pc.is_in(column, value_set=_NOTHING_KNOWN)
        return table.set_column(
            table.column_names.index("adler32"), "adler32", pc.if_else(missing, pa.scalar(None, pa.string()), column)
        )


class _Listing:
    """A list whose columns an expression tells apart. Lines of directories are passed over."""

    def __init__(self, layout: Layout) -> None:
        self.pattern = re.compile(layout.pattern)

    def split(self, block: Block) -> Rows:
        paths, sizes, lines, broken = [], [], [], []
        for number, line in enumerate(_lines(block.data), block.first_line):
            text = _decoded(line.removesuffix(b"\r"))
            if text is None:
                broken.append(Broken(number, "", _NOT_UTF8))
            elif match := self.pattern.match(text):
                if not text.startswith("d"):
                    paths.append(match["path"])
                    sizes.append(match["size_bytes"])
                    lines.append(number)
            elif text.strip():
                broken.append(Broken(number, "", f"is no line of a long listing: {printable(text)[:100]}"))
        table = pa.table({"pfn": pa.array(paths, pa.string()), "size_bytes": pa.array(sizes, pa.string())})
        return Rows(table, np.array(lines, np.int64), block.first_line + block.lines - 1, broken)


class _Objects:
    """A JSON object a line."""

    def __init__(self, layout: Layout) -> None:
        self.columns = list(layout.columns)
        kinds: dict[str, Any] = {"metadata": dict[str, str | int | float | bool | None] | None}
        fields = [
            (column, kinds.get(column, str | int | None), msgspec.field(name=str(name), default=None))
            for column, name in layout.columns.items()
        ]
        self.decoder = msgspec.json.Decoder(msgspec.defstruct("Line", fields, gc=False))

    def split(self, block: Block) -> Rows:
        broken: list[Broken] = []
        try:
            rows = self.decoder.decode_lines(block.data)
            lines = np.arange(block.first_line, block.first_line + block.lines)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            rows = []
        if len(rows) != block.lines:
            rows, numbers = [], []
            for number, line in enumerate(_lines(block.data), block.first_line):
                try:
                    if line.strip():
                        rows.append(self.decoder.decode(line))
                        numbers.append(number)
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    broken.append(Broken(number, "", f"is not a JSON object of this kind: {_shortened(error)}"))
            lines = np.array(numbers, np.int64)
        table = pa.table({column: self._column(rows, column) for column in self.columns})
        return Rows(table, lines, block.first_line + block.lines - 1, broken)

    def _column(self, rows: list[Any], column: str) -> Any:
        values = [getattr(row, column) for row in rows]
        if column == "metadata":
            return pa.array([None if v is None else msgspec.json.encode(v).decode() for v in values], pa.string())
        return pa.array([str(v) if isinstance(v, int) else v for v in values], pa.string())


def parquet_layout(source: Source, wanted: dict[str, str] | None) -> Layout:
    """By the names of its columns. Without `wanted` there is no need for any of them."""
    with source.raw() as raw:
        names = _parquet_file(raw, source.name).schema_arrow.names
    columns = {} if wanted is None else named_columns(names, wanted, source.name)
    return Layout(Format.PARQUET, columns, names, unused=[name for name in names if name not in columns.values()])


def ndjson_layout(head: bytes, wanted: dict[str, str], name: str) -> Layout:
    """By the keys of the first objects; a column that only later lines have goes by its own name."""
    names: dict[str, None] = {}
    for line in _lines(head)[:100]:
        try:
            names.update(dict.fromkeys(msgspec.json.decode(line, type=dict[str, msgspec.Raw])))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue  # It is reported with its line when it is read.
    for given in wanted.values():
        names[given] = None
    columns = named_columns(list(names), wanted, name)
    unused = [name for name in names if name not in columns.values()]
    columns |= {column: column for column in COLUMNS if column not in columns and column not in ("lfn", "pfn")}
    return Layout(Format.NDJSON, columns, list(names), unused=unused)


def _parquet(source: Source, layout: Layout, after_line: int) -> Iterator[Rows]:
    names = [str(name) for name in layout.columns.values()]
    with source.raw() as raw:
        file = _parquet_file(raw, source.name)
        row, count = 0, file.metadata.num_rows
        try:
            for piece in file.iter_batches(batch_size=50_000, columns=list(dict.fromkeys(names))):
                end = row + piece.num_rows
                if end > after_line:
                    skip = max(0, after_line - row)
                    table = pa.table({c: piece[str(n)] for c, n in layout.columns.items()}).slice(skip)
                    yield Rows(table, np.arange(row + skip + 1, end + 1), end)
                row = end
        except (pa.ArrowException, OSError) as error:
            raise BadInput(
                f"{source.name} is damaged behind row {row:,} of {count:,}: {str(error)[:200]}; make or fetch it again."
            ) from None


def _parquet_file(raw: Any, name: str) -> Any:
    from pyarrow import parquet  # Imported only where there is such a file: it takes its time.

    try:
        return parquet.ParquetFile(raw)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{name} is no Parquet file: {str(error)[:200]}.") from None


def _lines(data: bytes) -> list[bytes]:
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shortened(error: Exception) -> str:
    return printable(str(error))[:200]
