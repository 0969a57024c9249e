"""What a splitter gives, and what is said of a line that is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Broken:
    """A line that cannot be used, with the remedy."""

    line: int
    column: str
    problem: str


@dataclass
class Rows:
    """Columns as they are written (texts, in Parquet also numbers and bytes), and the line where each row begins."""

    table: Any  # pyarrow.Table
    lines: Any  # numpy.ndarray of int64
    end_line: int  # The last line that these rows, and what is broken among them, come from.
    broken: list[Broken] = field(default_factory=list)
