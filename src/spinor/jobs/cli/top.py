"""`spinor job top`: what runs and waits now, by user, site and computing element, and how fast it moves."""

import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.values import SECONDS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from spinor.client import Client

_TABLES = ("owner", "site", "computing_element")
_WAITING = frozenset({"submitting", "received", "checking", "scouting", "staging", "waiting", "rescheduled"})
_RUNNING = frozenset({"matched", "running", "stalled", "completing"})
_WINDOW_S = 60.0
_ROWS = 15
_NOBODY = "-"

Counts = dict[str, int]  # Jobs by status.


@dataclass
class Snapshot:
    """The counts at one moment: of all jobs, and by the values of each field."""

    at: float
    by: dict[str, dict[str, Counts]]

    @property
    def total(self) -> Counts:
        found: Counts = defaultdict(int)
        for counts in next(iter(self.by.values()), {}).values():
            for status, count in counts.items():
                found[status] += count
        return dict(found)


@dataclass
class Rates:
    """Jobs that ended a minute, from the snapshots of the last minute."""

    snapshots: deque[Snapshot] = field(default_factory=deque)

    def add(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)
        while len(self.snapshots) > 2 and self.snapshots[1].at < snapshot.at - _WINDOW_S:
            self.snapshots.popleft()

    def a_minute(self, by: str, value: str, status: str) -> float | None:
        first, last = self.snapshots[0], self.snapshots[-1]
        if last.at <= first.at:
            return None
        change = last.by[by].get(value, {}).get(status, 0) - first.by[by].get(value, {}).get(status, 0)
        return max(0.0, 60 * change / (last.at - first.at))


@click.command()
@click.option("--where", default="", metavar="QUERY", help="Only jobs that this filter finds.")
@click.option("--by", default=",".join(_TABLES), show_default=True, metavar="FIELD,...", help="One table for each.")
@click.option("--interval", type=SECONDS, default=2.0, show_default=True, metavar="DURATION", help="Between two looks.")
@click.option("--once", is_flag=True, help="Look once and leave, as it does where there is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON, and leave.")
def top(where: str, by: str, interval: float, once: bool, as_json: bool) -> None:
    """Watch what runs and waits, by user, site and computing element; q or Ctrl-C leaves."""
    import msgspec
    from rich.console import Console

    from spinor.client import Client

    fields = [name.strip() for name in by.split(",") if name.strip()] or list(_TABLES)
    with Client.from_environment() as client:
        first = look(client, where, fields)
        if as_json:
            click.echo(msgspec.json.encode({"total": first.total, **first.by}).decode())
        elif once or not sys.stdout.isatty() or Console().is_dumb_terminal:
            rates = Rates()
            rates.add(first)
            Console(width=None if sys.stdout.isatty() else 120).print(picture(first, rates))
        else:
            _watch(client, where, fields, interval, first)


def look(client: "Client", where: str, fields: list[str]) -> Snapshot:
    from spinor.jobs.models import JobSummary, SummariseJobs

    found: dict[str, dict[str, Counts]] = {}
    for name in fields:
        answer = client.post("/api/jobs/summary", SummariseJobs(where=where, by=[name, "status"]), JobSummary)
        counts: dict[str, Counts] = defaultdict(dict)
        for group in answer.groups:
            value = _NOBODY if group[name] in (None, "") else str(group[name])
            counts[value][str(group["status"])] = int(group["count"])
        found[name] = dict(counts)
    return Snapshot(time.monotonic(), found)


def _watch(client: "Client", where: str, fields: list[str], interval: float, first: Snapshot) -> None:
    from contextlib import suppress

    from rich.live import Live

    rates = Rates()
    rates.add(first)
    with suppress(KeyboardInterrupt), _Keys() as keys, Live(picture(first, rates), screen=True) as live:
        while keys.wait(interval) != "q":
            snapshot = look(client, where, fields)
            rates.add(snapshot)
            live.update(picture(snapshot, rates))


class _Keys:
    """Single keys of the terminal, without waiting for Return."""

    def __enter__(self) -> "_Keys":
        import termios
        import tty

        self._input = sys.stdin.fileno() if sys.stdin.isatty() else None
        if self._input is not None:
            self._before = termios.tcgetattr(self._input)
            tty.setcbreak(self._input)
        return self

    def __exit__(self, *_: object) -> None:
        import termios

        if self._input is not None:
            termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)

    def wait(self, seconds: float) -> str:
        """The key that was pressed meanwhile, or nothing."""
        import os
        import select

        if self._input is None:
            time.sleep(seconds)
            return ""
        if select.select([self._input], [], [], seconds)[0]:
            return os.read(self._input, 1).decode(errors="replace")
        return ""


def picture(snapshot: Snapshot, rates: Rates) -> "RenderableType":
    """One screen: the sums, and a table for each field."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    total = snapshot.total
    line = Text.assemble(
        ("jobs ", "bold"),
        (f"{_sum(total, _RUNNING):,} running", "cyan"), "  ",
        (f"{_sum(total, _WAITING):,} waiting", "yellow"), "  ",
        (f"{total.get('done', 0):,} done", "green"), "  ",
        (f"{total.get('failed', 0):,} failed", "red"), "  ",
        f"{total.get('killed', 0):,} killed",
    )  # fmt: skip
    tables = [_table(name, snapshot.by[name], rates) for name in snapshot.by]
    return Group(line, Text(), Columns(tables, padding=(0, 3)))


def _table(name: str, values: Mapping[str, Counts], rates: Rates) -> Any:
    from rich.table import Table
    from rich.text import Text

    from spinor.terminal import heading, printable

    made = Table(box=None, padding=(0, 1), header_style="bold", title_justify="left")
    made.add_column(heading(name), overflow="ellipsis", no_wrap=True, max_width=32)
    for column, style in (("run", "cyan"), ("wait", "yellow"), ("done", "green"), ("failed", "red"), ("done/min", "")):
        made.add_column(column, justify="right", style=style)
    ordered = sorted(values, key=lambda value: (-_sum(values[value], _RUNNING), -_sum(values[value], _WAITING), value))
    for value in ordered[:_ROWS]:
        counts, rate = values[value], rates.a_minute(name, value, "done")
        cells = [_sum(counts, _RUNNING), _sum(counts, _WAITING), counts.get("done", 0), counts.get("failed", 0)]
        shown = Text(printable(value))  # A name is no mark-up.
        made.add_row(shown, *(f"{count:,}" for count in cells), "-" if rate is None else f"{rate:,.0f}")
    if len(ordered) > _ROWS:
        made.add_row(f"… {len(ordered) - _ROWS} more", "", "", "", "", "")
    return made


def _sum(counts: Counts, statuses: frozenset[str]) -> int:
    return sum(count for status, count in counts.items() if status in statuses)
