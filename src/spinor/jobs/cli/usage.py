"""`spinor job usage` and `spinor job attempts`: what jobs used over time, and where they ran."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from spinor.jobs.cli.ids import choosing, chosen, for_each
from spinor.terminal import cell, duration, heading, say, show_one, size, table

if TYPE_CHECKING:
    from spinor.jobs.models import Attempt, Usage, UsagePoint

_ATTEMPT_COLUMNS = (
    "attempt", "status", "error_class", "site", "computing_element", "node", "cores", "started_at", "ended_at",
    "exit_code", "cpu_s", "wall_s", "max_rss_bytes",
)  # fmt: skip
_POINT_COLUMNS = ("at", "wall_s", "cpu_s", "rss_bytes", "disk_bytes", "read_bytes", "written_bytes")
_WIDTH, _HEIGHT = 60, 6  # Of a plot, in characters, each of which has 2 x 4 dots.
_LISTED = 20


@click.command()
@choosing
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; the newest unless told.")
@click.option("--plot/--no-plot", default=None, help="Draw curves; on a terminal unless told.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all points as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print the model as JSON.")
def usage(attempt: int | None, plot: bool | None, as_csv: bool, as_json: bool, **names: Any) -> int:
    """Show what jobs used over time: processor, memory, disk, input and output."""
    from spinor.client import Client
    from spinor.jobs.client import find_ids
    from spinor.jobs.models import ChosenJobs, Usage

    with Client.from_environment() as client:
        ids = find_ids(client, chosen(**names))

        def one(job_id: int) -> None:
            found = client.get(f"/api/jobs/{job_id}/usage", Usage, {"attempt": attempt} if attempt else None)
            if as_json:
                show_one(found, as_json=True)
                return
            if len(ids) > 1:
                click.echo(f"==> job {job_id} <==")
            if as_csv:
                _print_csv(found.points)
            else:
                _show(found, plot)

        return for_each(client, ChosenJobs(job_ids=ids), one)


def _show(found: "Usage", plot: bool | None) -> None:
    import sys

    if not found.points:
        say(f"Nothing is known of attempt {found.attempt} of job {found.job_id}; its pilot tells soon after its start.")
        return
    if plot or (plot is None and sys.stdout.isatty()):
        for line in plots(found):
            click.echo(line)
        click.echo()
    step = -(-len(found.points) // _LISTED)
    points = found.points[::-1][::step][::-1]  # The newest is among them.
    rows = [[cell(getattr(point, column), column) for column in _POINT_COLUMNS] for point in points]
    for line in table([heading(column) for column in _POINT_COLUMNS], rows):
        click.echo(line)
    if step > 1:
        say(f"These are {len(points)} of {len(found.points)} points; --csv prints all.")


def _print_csv(points: Sequence["UsagePoint"]) -> None:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_POINT_COLUMNS)
    writer.writerows([point.at.isoformat(), *(getattr(point, name) for name in _POINT_COLUMNS[1:])] for point in points)
    click.echo(text.getvalue(), nl=False)


@click.command()
@choosing
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def attempts(as_json: bool, **names: Any) -> int:
    """List every attempt of jobs: where it ran, when, and how it ended."""
    import msgspec

    from spinor.client import Client
    from spinor.jobs.client import find_ids
    from spinor.jobs.models import Attempt, ChosenJobs

    with Client.from_environment() as client:
        ids = find_ids(client, chosen(**names))

        def one(job_id: int) -> None:
            found = client.get(f"/api/jobs/{job_id}/attempts", list[Attempt])
            if as_json:
                for each in found:
                    click.echo(msgspec.json.encode({"job_id": job_id, **msgspec.to_builtins(each)}).decode())
                return
            if len(ids) > 1:
                click.echo(f"==> job {job_id} <==")
            _list(found)

        return for_each(client, ChosenJobs(job_ids=ids), one)


def _list(found: "Sequence[Attempt]") -> None:
    rows = [[cell(getattr(each, column), column) for column in _ATTEMPT_COLUMNS] for each in found]
    for line in table([heading(column) for column in _ATTEMPT_COLUMNS], rows):
        click.echo(line)
    for each in found:
        if each.output_refused:
            say(f"Attempt {each.attempt}: its output sandbox was refused. {cell(each.output_refused)}")


class Curve(NamedTuple):
    title: str
    times: list[float]
    values: list[float]
    top: str  # The highest value in words.


def plots(found: "Usage") -> list[str]:
    """A small plot of each quantity that was measured, against wall time."""
    points = found.points
    times = [point.wall_s for point in points]
    # Used per second between two points, in cores.
    busy = [0.0] + [
        max(0.0, after.cpu_s - before.cpu_s) / max(1e-9, after.wall_s - before.wall_s)
        for before, after in itertools.pairwise(points)
    ]
    curves = [Curve(f"cores in use (of {found.cores})", times, busy, f"{max(busy):.2g}")]
    for title, name, asked in (
        ("memory", "rss_bytes", found.memory_bytes),
        ("disk", "disk_bytes", found.disk_bytes),
        ("read", "read_bytes", 0),
        ("written", "written_bytes", 0),
    ):
        values = [float(getattr(point, name)) for point in points]
        if any(values):
            curves.append(Curve(title + (f" (of {size(asked)})" if asked else ""), times, values, size(max(values))))
    lines: list[str] = []
    for curve in curves:
        lines += [f"{curve.title}, at most {curve.top}", *braille(curve.times, curve.values)]
    return [*lines, f"0{duration(times[-1]).rjust(_WIDTH - 1)}"]


# The dots of a braille character, from its top: the left ones and the right ones.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def braille(times: Sequence[float], values: Sequence[float], width: int = _WIDTH, height: int = _HEIGHT) -> list[str]:
    """The values from 0 to their highest, as columns of dots up to each value; each holds until the next time."""
    columns, rows = width * 2, height * 4
    end, top = max(times[-1], 1e-9), max(max(values), 1e-9)
    cells = [[0] * width for _ in range(height)]
    at = 0
    for x in range(columns):
        while at + 1 < len(times) and times[at + 1] <= end * (x + 1) / columns:
            at += 1
        filled = round(values[at] / top * rows)
        for y in range(filled):
            cells[height - 1 - y // 4][x // 2] |= _DOTS[x % 2][3 - y % 4]
    return ["".join(chr(0x2800 + dots) for dots in row) for row in cells]
