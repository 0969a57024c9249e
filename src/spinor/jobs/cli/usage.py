"""`spinor job usage` and `spinor job attempts`: what jobs use while they run, and what each of their attempts was."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.ids import choosing, chosen, for_each
from spinor.terminal import table

if TYPE_CHECKING:
    from spinor.jobs.models import Usage, UsagePoint

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_ATTEMPT = (
    "attempt", "status", "error_class", "site", "computing_element", "node", "cores", "started_at", "ended_at",
    "exit_code", "cpu_s", "max_rss_bytes",
)  # fmt: skip
_POINT = ("at", "wall_s", "cpu_s", "rss_bytes", "disk_bytes", "read_bytes", "written_bytes")


@click.command()
@choosing
@click.option("--attempt", type=click.IntRange(min=1), help="Of this attempt; the newest unless told.")
@click.option("--table", "as_table", is_flag=True, help="Every measurement as a line, instead of a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def usage(attempt: int | None, as_table: bool, as_json: bool, **names: Any) -> int:
    """Show what jobs used over time: cores, memory, disk, input and output."""
    import msgspec

    from spinor.client import Client
    from spinor.jobs.models import Usage

    shown = 0

    def one(job_id: int) -> None:
        nonlocal shown
        query = {"attempt": attempt} if attempt else None
        found = client.get(f"/api/jobs/{job_id}/usage", Usage, query)
        if as_json:
            click.echo(msgspec.json.encode(found).decode())
            return
        if shown:
            click.echo()
        shown += 1
        click.echo(f"job {job_id}, attempt {found.attempt}")
        for line in _lines(found) if as_table else picture(found):
            click.echo(f"  {line}")

    with Client.from_environment() as client:
        return for_each(client, chosen(**names), one)


def _lines(found: "Usage") -> list[str]:
    from spinor.terminal import cell, heading

    rows = [[cell(getattr(point, name), name) for name in _POINT] for point in found.points]
    return table([heading(name) for name in _POINT], rows)


def picture(found: "Usage") -> list[str]:
    """One line for each quantity: its course, its last and largest value, and what was asked for."""
    from spinor.terminal import cell

    points = found.points
    if not points:
        return ["Nothing has been measured."]
    rows = []
    for name, values, column, asked in (
        ("cores", _rate(points, "cpu_s"), "x", found.cores),
        ("memory", [point.rss_bytes for point in points], "x_bytes", found.memory_bytes),
        ("disk", [point.disk_bytes for point in points], "x_bytes", found.disk_bytes),
        ("read/s", _rate(points, "read_bytes"), "x_bytes", None),
        ("written/s", _rate(points, "written_bytes"), "x_bytes", None),
    ):
        whole = [round(value, 2) if column == "x" else int(value) for value in values]
        last, most = cell(whole[-1], column), cell(max(whole), column)
        rows.append([name, sparkline(values), last, most, "-" if asked is None else cell(asked, column)])
    return table(["", "course", "last", "most", "asked"], rows)


def _rate(points: "Sequence[UsagePoint]", name: str) -> list[float]:
    """How much of it a second, between each measurement and the one before."""
    found: list[float] = []
    wall_s, amount = 0.0, 0.0
    for point in points:
        passed_s = point.wall_s - wall_s
        found.append((getattr(point, name) - amount) / passed_s if passed_s > 0 else 0.0)
        wall_s, amount = point.wall_s, getattr(point, name)
    return [max(0.0, value) for value in found]


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """The course of values, the largest of them as a full block; many are drawn together."""
    if len(values) > width:
        step = len(values) / width
        values = [max(values[int(n * step) : max(int(n * step) + 1, int((n + 1) * step))]) for n in range(width)]
    most = max(values, default=0.0)
    if most <= 0:
        return _BLOCKS[0] * len(values)
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, int(value / most * (len(_BLOCKS) - 1) + 0.5))] for value in values)


@click.command()
@choosing
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON, one a line.")
def attempts(as_json: bool, **names: Any) -> int:
    """List every attempt of a job: where it ran, when, how it ended, and what it used."""
    import msgspec

    from spinor.client import Client
    from spinor.jobs.models import Attempt
    from spinor.terminal import cell, heading

    shown = 0

    def one(job_id: int) -> None:
        nonlocal shown
        found = client.get(f"/api/jobs/{job_id}/attempts", list[Attempt])
        if as_json:
            for each in found:
                click.echo(msgspec.json.encode({"job_id": job_id, **msgspec.to_builtins(each)}).decode())
            return
        if shown:
            click.echo()
        shown += 1
        click.echo(f"job {job_id}" + ("" if found else ": it has not run yet"))
        rows = [[cell(getattr(each, name), name) for name in _ATTEMPT] for each in found]
        for line in table([heading(name) for name in _ATTEMPT], rows):
            click.echo(line)

    with Client.from_environment() as client:
        return for_each(client, chosen(**names), one)
