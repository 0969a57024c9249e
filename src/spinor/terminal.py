"""What a command shows: tables and progress on a terminal, plain text in a pipe, models with --json, ids with -q.

Data goes to stdout, speech to stderr. Control characters in names never reach a terminal.
"""

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

from spinor.errors import BadInput
from spinor.quantities import shown_size

size = shown_size
F = TypeVar("F", bound=Callable[..., Any])


def output_options(command: F) -> F:
    """--json prints models, one a line; -q prints ids only."""
    command = click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Print ids only.")(command)


def say(text: str) -> None:
    """Speak to the person, not to the pipe."""
    click.echo(text, err=True)


def show(
    rows: Iterable[Any], columns: Sequence[str], *, id_field: str, as_json: bool = False, quiet: bool = False
) -> int:
    """Print models as a table (or JSON lines, or ids). Gives how many there were."""
    if as_json or quiet:
        count = 0
        for row in rows:
            count += 1
            click.echo(msgspec.json.encode(row).decode() if as_json else printable(str(getattr(row, id_field))))
        return count
    cells = [[cell(getattr(row, column), column) for column in columns] for row in rows]
    for line in table([heading(column) for column in columns], cells):
        click.echo(line)
    return len(cells)


def show_one(row: Any, *, as_json: bool = False, skip: Sequence[str] = ()) -> None:
    """Print one model, a field a line."""
    if as_json:
        click.echo(msgspec.json.encode(row).decode())
        return
    names = [
        name for name in row.__struct_fields__ if name not in skip and getattr(row, name) not in (None, "", [], {})
    ]
    width = max(map(len, map(heading, names)), default=0)
    for name in names:
        click.echo(f"{heading(name):<{width}}  {cell(getattr(row, name), name)}")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines; numbers to the right."""
    if not rows:
        return []
    widths = [max(len(h), *(len(r[i]) for r in rows)) for i, h in enumerate(headings)]
    right = [all(r[i].replace(".", "").isdigit() or r[i] in ("", "-") for r in rows) for i in range(len(headings))]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)).rstrip()

    return [line(headings), *(line(row) for row in rows)]


def heading(column: str) -> str:
    for ending in ("_bytes", "_s", "_at"):
        column = column.removesuffix(ending)
    return column.replace("_", " ")


def cell(value: Any, column: str = "") -> str:
    """A value for people: sizes with units, times in UTC, lists with commas."""
    if value is None or value == "":
        return "-"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    if column == "mode" and isinstance(value, int):
        return f"{value:04o}"
    if column.endswith("_bytes") and isinstance(value, int):
        return shown_size(value)
    if column.endswith("_s") and isinstance(value, int | float):
        return duration(value)
    if isinstance(value, list | tuple):
        return printable(", ".join(map(str, value))) or "-"
    if isinstance(value, dict):
        return printable(msgspec.json.encode(value).decode())
    return printable(str(value))


def printable(text: str) -> str:
    """The text with control characters shown escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def duration(seconds: float) -> str:
    """3725 -> 1h02m."""
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def read_words(words: Iterable[str]) -> list[str]:
    """The arguments, where `-` stands for the lines of standard input."""
    found: list[str] = []
    for word in words:
        if word == "-":
            found.extend(line for line in (raw.rstrip("\r\n") for raw in sys.stdin) if line)
        else:
            found.append(word)
    return found


def read_ids(words: Iterable[str], noun: str = "job") -> list[int]:
    """The ids given as arguments or on standard input (`-`); `10-19` is a range."""
    found: list[int] = []
    for word in read_words(words):
        first, dash, last = word.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise BadInput(
                f"{printable(word)!r} is not a {noun} id; ids are whole numbers, ranges like 10-19, or - for stdin."
            )
        found.extend(range(int(first), int(last or first) + 1))
    return found


class Progress:
    """A bar with rate and time left on a terminal; silence in a pipe.

    `unit` is what is counted; the total may be unknown at first and set later.
    """

    def __init__(self, label: str, total: int | None = None, unit: str = "") -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.note = ""
        self._started = time.monotonic()
        self._drawn = 0.0
        self._live = sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._draw()
            click.echo(err=True)

    def add(self, count: int = 1) -> None:
        self.set(self.done + count)

    def set(self, done: int, note: str = "") -> None:
        self.done, self.note = done, note or self.note
        if self._live and time.monotonic() - self._drawn > 0.1:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        elapsed = max(self._drawn - self._started, 1e-6)
        rate = self.done / elapsed
        parts = [self.label, f"{self.done:,}" + (f"/{self.total:,}" if self.total else "") + f" {self.unit}".rstrip()]
        if self.total:
            filled = min(24, 24 * self.done // self.total)
            parts.insert(1, "━" * filled + "╌" * (24 - filled))
            if rate and self.done < self.total:
                parts.append(f"{duration((self.total - self.done) / rate)} left")
        parts.append(f"{rate:,.0f}/s")
        if self.note:
            parts.append(self.note)
        click.echo("\r\x1b[K" + "  ".join(parts), nl=False, err=True)
