"""DIRAC's command for task queues."""

from typing import TYPE_CHECKING, Any

from spinor.compat.jobs.program import Given, Program, Switch, Usage
from spinor.compat.jobs.words import client, filled_table, say
from spinor.terminal import printable

if TYPE_CHECKING:
    from spinor.jobs.models import TaskQueue

_FIELDS = ("TaskQueue", "Jobs", "CPUTime", "Owner", "OwnerGroup", "Sites", "Platforms", "Priority")


def _facts(queue: "TaskQueue") -> dict[str, Any]:
    """What the jobs want, by DIRAC's names. The work is in HS23 seconds; without any, the wall time in seconds."""
    wants = queue.wants
    known = {
        "TaskQueue": queue.task_queue_id,
        "Jobs": queue.waiting,
        "CPUTime": round(wants.cpu_work_hs23_s or wants.wall_s),
        "Owner": queue.owner,
        "OwnerGroup": queue.group,
        "Sites": wants.sites,
        "BannedSites": wants.banned_sites,
        "GridCEs": wants.computing_elements,
        "Platforms": [wants.platform] if wants.platform else [],
        "JobTypes": [wants.job_type.capitalize()],
        "Tags": wants.tags,
        "MinRAM": round(wants.memory_bytes / 1e6),
        "NumberOfProcessors": wants.cores,
        "Priority": queue.priority,
    }
    return {name: value for name, value in known.items() if value not in (None, [], "")}


def _text(value: Any, *, whole: bool) -> str:
    if isinstance(value, list):
        return printable(", ".join(value) if whole or len(value) == 1 else f"{value[0]}...")
    return printable(str(value))


def _show(given: Given) -> int:
    from spinor.jobs.cli.queues import read_queues

    number = given.value("taskQueue")
    if number is not None and not number.isdecimal():
        raise Usage(f"{printable(number)!r} is no number of a task queue")
    with client() as connected:
        found = [_facts(queue) for queue in read_queues(connected, {})]
    chosen = [facts for facts in found if number is None or facts["TaskQueue"] == int(number)]
    if given.has("verbose"):
        for facts in chosen:
            say(f"\n==> TQ {facts['TaskQueue']}")
            rows = [(name, _text(value, whole=True)) for name, value in sorted(facts.items()) if name != "TaskQueue"]
            for line in filled_table(("Key", "Value"), rows):
                say(line)
        return 0
    cells = [[_text(facts.get(name, "-"), whole=False) for name in _FIELDS] for facts in chosen]
    for line in filled_table(_FIELDS, cells):
        say(line)
    return 0


SHOW = Program(
    "Show details of the task queues in which jobs wait",
    _show,
    switches=(
        Switch("v", "verbose", "give max details about task queues"),
        Switch("t", "taskQueue=", "show this task queue only"),
    ),
)
