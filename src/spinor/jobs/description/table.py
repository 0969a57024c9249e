"""A table -> parameters: one column is one parameter, one row one job."""

from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from spinor.jobs.description.faults import BadDescription
from spinor.jobs.description.placeholders import MAX_JOBS

Columns = dict[str, list[Any]]


class BadTable(BadDescription):
    """The parameter table is refused."""

    code = "bad-parameter-table"


def read_table(path: Path) -> Columns:
    """CSV, TSV, JSON lines or Parquet, by the name's ending. Raises BadTable with the row, FileNotFoundError."""
    readers: dict[str, Callable[[Path], Columns]] = {
        ".csv": lambda path: _delimited(path, ","),
        ".tsv": lambda path: _delimited(path, "\t"),
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".parquet": _parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _refusal(path, f"a table's name ends in {', '.join(readers)}")
    if not path.exists():
        raise FileNotFoundError(path)
    columns = reader(path)
    rows = len(next(iter(columns.values()), []))
    if not rows:
        raise _refusal(path, "there is no row in it; one row is one job")
    if rows > MAX_JOBS:
        raise _refusal(path, f"it has {rows:,} rows; {MAX_JOBS:,} are the most in one description")
    return columns


def _refusal(path: Path, problem: str, **facts: Any) -> BadTable:
    return BadTable(f"{path}: {problem}.", field="parameters", **facts)


def _delimited(path: Path, delimiter: str) -> Columns:
    """Values stay the text that was written, since 007 is not 7; a column of nothing but plain integers is integers."""
    import pyarrow as pa
    from pyarrow import csv

    read = csv.ReadOptions(use_threads=False)  # Only then an error says the row.
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        with csv.open_csv(path, read, parse) as reader:
            names = reader.schema.names
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise _refusal(path, f"two columns are called {twice[0]!r}; each is one parameter")
        text = dict.fromkeys(names, pa.string())
        convert = csv.ConvertOptions(column_types=text, strings_can_be_null=False, quoted_strings_can_be_null=False)
        table = csv.read_csv(path, read, parse, convert)
    except pa.ArrowInvalid as error:
        raise _refusal(path, f"it is not a table: {_first_line(error)}") from None
    return {name: _plainly(table.column(name)) for name in names}


def _plainly(column: Any) -> list[Any]:
    import pyarrow as pa

    try:
        numbers = column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.to_pylist()  # type: ignore[no-any-return]
    same = numbers.cast(pa.string()).equals(column)
    return (numbers if same else column).to_pylist()  # type: ignore[no-any-return]


def _json_lines(path: Path) -> Columns:
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
    columns: Columns = {}
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows = 0
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _refusal(path, f"line {n} is not a JSON object: {_first_line(error)}", line=n) from None
        if not rows:
            columns = {name: [] for name in row}
        if row.keys() != columns.keys():
            wrong = min(row.keys() ^ columns.keys())
            problem = "has no" if wrong in columns else "has a"
            raise _refusal(path, f"line {n} {problem} {wrong!r}, unlike the first line; all have the same keys", line=n)
        for name, values in columns.items():
            values.append(row[name])
        rows += 1
    return columns


def _parquet(path: Path) -> Columns:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if parquet.read_metadata(path).num_rows > MAX_JOBS:
            raise _refusal(path, f"it has more than {MAX_JOBS:,} rows, the most in one description")
        table = parquet.read_table(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _refusal(path, f"it is not Parquet: {_first_line(error)}") from None
    return {name: _json_values(path, name, table.column(name).to_pylist()) for name in table.column_names}


def _json_values(path: Path, name: str, values: list[Any]) -> list[Any]:
    found = []
    for n, value in enumerate(values):
        if isinstance(value, datetime | date | time):
            value = value.isoformat()
        elif isinstance(value, Decimal):
            value = str(value)
        elif isinstance(value, bytes | dict):
            raise _refusal(path, f"row {n + 1}: {name} is neither text, a number, true, false nor a list of these")
        found.append(value)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["it cannot be read"])[0][:200].rstrip(".")
