"""`spinor job stats`: how jobs went, how well they used what they asked for, and what to ask for next time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from spinor.jobs.cli.ids import choosing, chosen
from spinor.jobs.cli.values import SECONDS
from spinor.terminal import table

if TYPE_CHECKING:
    from spinor.client import Client
    from spinor.jobs.models import JobRow, JobSpec

BY = ("site", "computing_element", "owner", "group")
_MEMORY_STEP = 100_000_000
_MARGIN = 1.25  # What the largest of the jobs used, and a quarter more.


@dataclass
class Group:
    """Jobs of one array: they asked for the same."""

    spec: "JobSpec"
    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)

    def add(self, row: "JobRow") -> None:
        self.statuses[row.status.value] += 1
        if row.started_at:
            self.waited_s.append((row.started_at - row.submitted_at).total_seconds())
        if row.ended_at and row.wall_s:
            self.wall_s.append(row.wall_s)
            self.cpu_s.append(row.cpu_s or 0.0)
        if row.max_rss_bytes:
            self.rss_bytes.append(row.max_rss_bytes)

    @property
    def efficiency(self) -> float | None:
        """CPU time over wall time of all its cores."""
        wall_s = sum(self.wall_s) * self.spec.cores
        return sum(self.cpu_s) / wall_s if wall_s else None


@click.command()
@choosing
@click.option("--by", type=click.Choice(BY), default="site", show_default=True, help="Without jobs: a line for each.")
@click.option("--last", type=SECONDS, default=7 * 86_400.0, help="Without jobs: what ended since then, as 12h (7d).")
@click.option("--everybody", is_flag=True, help="Without jobs: those of your whole VO, not yours alone.")
@click.option("--json", "as_json", is_flag=True, help="Print models as JSON: one array a line, or one summary.")
def stats(by: str, last: float, everybody: bool, as_json: bool, **names: Any) -> None:
    """Sum jobs up: without any named, yours of the last week by site, with what waits and runs now.

    For jobs that are named, by array: how they ended, CPU efficiency, memory and time asked and used, what to ask for.
    """
    import msgspec

    from spinor.client import Client
    from spinor.terminal import say

    if not any(names.values()):
        from spinor.jobs.cli.overview import show_overview

        show_overview(by, last, everybody=everybody, as_json=as_json)
        return
    with Client.from_environment() as client:
        groups = _groups(client, chosen(**names))
    if not groups:
        say("There are no such jobs.")
    for n, (array_id, group) in enumerate(groups.items()):
        if as_json:
            click.echo(msgspec.json.encode(_facts(array_id, group)).decode())
            continue
        if n:
            click.echo()
        _show(array_id, group)


def _groups(client: "Client", asked: Any) -> dict[int, Group]:
    from spinor.jobs.client import find_rows
    from spinor.jobs.models import Job

    found: dict[int, Group] = {}
    for row in find_rows(client, asked):
        if row.array_id not in found:
            spec = client.get(f"/api/jobs/{row.job_id}", Job).description
            found[row.array_id] = Group(spec, row.name)
        found[row.array_id].add(row)
    return found


def _facts(array_id: int, group: Group) -> dict[str, Any]:
    return {
        "array_id": array_id,
        "name": group.name,
        "jobs": sum(group.statuses.values()),
        "statuses": dict(group.statuses),
        "cores": group.spec.cores,
        "cpu_s": sum(group.cpu_s),
        "wall_s": sum(group.wall_s),
        "efficiency": group.efficiency,
        "memory_asked_bytes": as_number(group.spec.memory_bytes, "bytes"),
        "memory_used_bytes": quantiles(group.rss_bytes),
        "wall_asked_s": as_number(group.spec.wall_s, "s"),
        "wall_used_s": quantiles(group.wall_s),
        "waited_s": quantiles(group.waited_s),
        "hints": hints(group),
    }


def _show(array_id: int, group: Group) -> None:
    from spinor.terminal import cell

    facts = _facts(array_id, group)
    counts = ", ".join(f"{count:,} {status}" for status, count in group.statuses.most_common())
    click.echo(f"array {array_id} {cell(group.name)}: {facts['jobs']:,} jobs ({counts})")
    rows = [
        ["memory", cell(facts["memory_asked_bytes"], "x_bytes"), *_cells(facts["memory_used_bytes"], "x_bytes")],
        ["wall time", cell(facts["wall_asked_s"], "x_s"), *_cells(facts["wall_used_s"], "x_s")],
        ["time before it started", "-", *_cells(facts["waited_s"], "x_s")],
    ]
    for line in table(["", "asked", "median", "95%", "most"], rows):
        click.echo(f"  {line}")
    if group.efficiency is not None:
        used = f"{cell(facts['cpu_s'], 'x_s')} of {cell(facts['wall_s'] * group.spec.cores, 'x_s')}"
        cores = f" ({group.spec.cores} cores each)" if group.spec.cores > 1 else ""
        click.echo(f"  CPU efficiency {group.efficiency:.0%}: {used}{cores}")
    for hint in facts["hints"]:
        click.echo(f"  hint: {hint}")


def _cells(values: dict[str, float] | None, column: str) -> list[str]:
    from spinor.terminal import cell

    return [cell(values[name], column) if values else "-" for name in ("median", "p95", "most")]


def quantiles(values: Iterable[float]) -> dict[str, float] | None:
    """Median, 95th percentile and largest; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"median": at(0.5), "p95": at(0.95), "most": ordered[-1]}


def hints(group: Group) -> list[str]:
    """What to ask for instead, where what was asked for is far from what was used."""
    from spinor.terminal import duration, size

    found: list[str] = []
    asked_bytes, asked_s = as_number(group.spec.memory_bytes, "bytes"), as_number(group.spec.wall_s, "s")
    if group.rss_bytes:
        wanted = -(-int(max(group.rss_bytes) * _MARGIN) // _MEMORY_STEP) * _MEMORY_STEP
        if wanted < asked_bytes / 2 or max(group.rss_bytes) > asked_bytes * 0.95:
            found.append(f"memory_bytes: {size(wanted).replace(' ', '')} would do (asked: {size(asked_bytes)}).")
    if group.wall_s:
        wanted_s = max(60, -(-int(max(group.wall_s) * _MARGIN) // 60) * 60)
        if wanted_s < asked_s / 2 or max(group.wall_s) > asked_s * 0.95:
            found.append(f"wall_s: {duration(wanted_s)} would do (asked: {duration(asked_s)}).")
    efficiency = group.efficiency
    if efficiency is not None and group.spec.cores > 1 and efficiency * group.spec.cores <= group.spec.cores / 2:
        cores = max(1, round(efficiency * group.spec.cores + 0.49))
        found.append(f"cores: {cores} would do (asked: {group.spec.cores}; {efficiency:.0%} of them worked).")
    return found


def as_number(value: int | str, kind: str) -> int:
    from spinor import quantities

    if isinstance(value, int):
        return value
    return quantities.size_bytes(value) if kind == "bytes" else int(quantities.duration_s(value))
