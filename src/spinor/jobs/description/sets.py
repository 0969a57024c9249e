"""Descriptions that are submitted together and wait for each other."""

from collections.abc import Sequence

from spinor.jobs.description.faults import fault, nearest, shown
from spinor.jobs.description.placeholders import size_of
from spinor.jobs.models import JobSpec

MAX_DESCRIPTIONS = 10_000


def check_set(specs: Sequence[JobSpec]) -> None:
    """Names, sizes and cycles of normalised descriptions. Raises BadDescription that names the first wrong `after`."""
    if not any(spec.after for spec in specs):
        return
    by_name: dict[str, list[int]] = {}
    for n, spec in enumerate(specs):
        by_name.setdefault(spec.name, []).append(n)
    edges: list[list[int]] = [[] for _ in specs]
    for n, spec in enumerate(specs):
        for k, after in enumerate(spec.after):
            if after.name:
                field = f"specs[{n}].after[{k}]" if len(specs) > 1 else f"after[{k}]"
                before = _named(after.name, by_name, n, field)
                edges[n].append(before)
                if after.each and size_of(specs[before]) != size_of(spec):
                    own, other = size_of(spec), size_of(specs[before])
                    problem = f"needs two arrays of one size; {shown(spec.name)} has {own:,} jobs"
                    raise fault(f"{field}.each", f"{problem}, {shown(after.name)} has {other:,}", spec=n)
    cycle = _cycle(edges)
    if cycle:
        names = " waits for ".join(shown(specs[n].name) for n in [*cycle, cycle[0]][:12])
        field = f"specs[{cycle[0]}].after" if len(specs) > 1 else "after"
        raise fault(field, f"no job of a circle could ever start: {names}", spec=cycle[0])


def _named(name: str, by_name: dict[str, list[int]], own: int, field: str) -> int:
    found = by_name.get(name, [])
    if not found:
        near = nearest(name, by_name)
        hint = f"did you mean {shown(near)}?" if near else f"there is {', '.join(map(shown, list(by_name)[:10]))}"
        problem = f"no description of this submission is called {shown(name)}; {hint}"
        raise fault(f"{field}.name", problem, spec=own)
    if len(found) > 1:
        problem = f"{len(found)} descriptions of this submission are called {shown(name)}; give each a name of its own"
        raise fault(f"{field}.name", problem, spec=own)
    return found[0]


def _cycle(edges: Sequence[Sequence[int]]) -> list[int]:
    """A circle in the order of waiting; empty when there is none. Without recursion: chains may be long."""
    done: set[int] = set()
    for start in range(len(edges)):
        path: list[int] = []
        on_path: dict[int, int] = {}
        stack: list[tuple[int, int]] = [(start, 0)]
        while stack:
            node, k = stack.pop()
            if k == 0:
                if node in on_path:
                    return path[on_path[node] :]
                if node in done:
                    continue
                on_path[node] = len(path)
                path.append(node)
            if k < len(edges[node]):
                stack += [(node, k + 1), (edges[node][k], 0)]
            else:
                done.add(node)
                del on_path[path.pop()]
    return []
