"""What the two ways to Slurm, its commands and its REST service, have in common: wishes, names, states and the script.

The script of a pilot's job is the same for all pilots of an element: what belongs to one of them, its secret above all,
is in the variable SPINOR_LAUNCH of its job's environment. Slurm shows a job's script to everybody of the same account
(`scontrol write batch_script`) and may keep it in its accounting database; the environment it shows to nobody. The job
makes a file of mode 0600 of it, and goes on as a process that has the variable no more.
"""

import base64
import hashlib
import math
import re
import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
from msgspec import Meta

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementSettings, PilotLaunch
from spinor.pilots.plugins.machines import Machine, run_script
from spinor.pilots.plugins.options import PilotOptions

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.,:;&|*()\[\]@+/=-]{0,1000}$")]
RemotePath = Annotated[str, Meta(pattern=r"^/[^\0\n%\\]*$", max_length=1000)]
Line = Annotated[str, Meta(pattern=r"^[^\0\n\r]*$", max_length=10_000)]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

OUTPUT_BYTES = 64 * 1024
LAUNCH = "SPINOR_LAUNCH"
LEAST_NOTICE_S = 30


class Wishes(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of both plugins: what jobs ask Slurm for, and how they begin."""

    directory: RemotePath  # Of the jobs' outputs, on a file system that nodes share. Of mode 0700.
    partition: Word = ""
    account: Word = ""
    qos: Word = ""
    constraint: Word = ""
    reservation: Word = ""
    gres: Word = ""
    exclusive: bool = False
    memory: bool = True  # Whether jobs ask for memory; some sites give it by the core.
    python: Line = "python3"
    shell: Annotated[str, Meta(pattern=r"^/[A-Za-z0-9_./ -]*$")] = "/bin/sh"
    setup: list[Line] = msgspec.field(default_factory=list)  # Lines of the job's script before the pilot.
    environment: dict[Variable, Line] = msgspec.field(default_factory=dict)
    grace_s: Annotated[float, Meta(ge=0, le=30)] = 5.0

    def __post_init__(self) -> None:
        if LAUNCH in self.environment:
            raise ValueError(f"environment: {LAUNCH} is the plugin's own")


class Job(NamedTuple):
    """A job of this service, as Slurm tells of it."""

    job_id: int
    name: str
    states: tuple[str, ...]
    reason: str = ""

    @property
    def is_held(self) -> bool:
        """By ourselves, when it was submitted."""
        return "PENDING" in self.states and self.reason == "JobHeldUser"

    @property
    def is_hopeless(self) -> bool:
        return "PENDING" in self.states and self.reason in HOPELESS


class Row(TypedDict, total=False):
    """What we read of a job in the REST service's list of all jobs, which tells a hundred times as much."""

    job_id: Any
    name: Any
    job_state: Any
    state_reason: Any


class Listing(TypedDict, total=False):
    jobs: list[Row] | None
    errors: list[dict[str, Any]] | None


W, R, D, F = ElementState.WAITING, ElementState.RUNNING, ElementState.DONE, ElementState.FAILED
# Every state and flag of the pages of squeue and sacct, up to release 25.05. Of several the first one here counts.
STATES: Mapping[str, ElementState] = {
    # Not over yet, whatever else is said.
    "COMPLETING": R, "STAGE_OUT": R, "SIGNALING": R, "UPDATE_DB": R,
    "CONFIGURING": W, "POWER_UP_NODE": W, "REQUEUED": W, "REQUEUE_FED": W, "REQUEUE_HOLD": W, "RESV_DEL_HOLD": W,
    "SPECIAL_EXIT": W, "PENDING": W, "EXPEDITING": W,
    "STOPPED": R, "SUSPENDED": R, "RESIZING": R, "RUNNING": R,
    # Over.
    "COMPLETED": D,
    "BOOT_FAIL": F, "CANCELLED": F, "DEADLINE": F, "FAILED": F, "LAUNCH_FAILED": F, "NODE_FAIL": F, "OUT_OF_MEMORY": F,
    "PREEMPTED": F, "RECONFIG_FAIL": F, "REVOKED": F, "TIMEOUT": F,
}  # fmt: skip
# With these a job waits until an operator changes something, and that is not what the factory should wait for.
HOPELESS = frozenset({
    "PartitionTimeLimit", "PartitionNodeLimit", "PartitionConfig", "BadConstraints", "AccountNotAllowed",
    "InvalidAccount", "QOSNotAllowed", "InvalidQOS", "InvalidGRES", "ReservationDeleted", "QOSTimeLimit",
    "MaxMemPerLimit", "MaxCpuPerAccount", "AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit",
    "QOSMaxCpuPerJobLimit", "QOSMaxMemoryPerJob", "AssocMaxCpuPerJobLimit", "AssocMaxMemPerJob",
})  # fmt: skip


def state_of(job: Job) -> ElementState:
    """The state that the factory knows. A word of a later release changes nothing."""
    if job.is_hopeless:
        return ElementState.FAILED
    return next((state for word, state in STATES.items() if word in job.states), ElementState.UNKNOWN)


# ------------------------------------------------------------------------------------------------------------- names


class Names:
    """How jobs are called: `spinor-<pilot>-<service><mark>`.

    Several services may run pilots under one account, and a service that was set up anew counts from one again. So the
    name says whose it is, and by the mark, made of the secret, which pilot of that number.
    """

    def __init__(self, element: ElementSettings) -> None:
        self._service = hashlib.sha256(f"{element.url} {element.name}".encode()).hexdigest()[:6]
        self._pattern = re.compile(rf"spinor-([0-9]{{1,18}})-{self._service}[0-9a-f]{{8}}")

    def of(self, launch: PilotLaunch) -> str:
        mark = hashlib.sha256(f"slurm {launch.pilot_id} {launch.secret}".encode()).hexdigest()[:8]
        return f"spinor-{launch.pilot_id}-{self._service}{mark}"

    def pilot(self, name: str) -> int | None:
        """Whose job this is; None when it is none of ours."""
        found = self._pattern.fullmatch(name)
        return int(found[1]) if found else None


class Settled(NamedTuple):
    """What is to be done about jobs that were submitted held, so that of two of the same name one runs."""

    chosen: dict[str, Job]  # By name: the one that runs, or ran.
    release: list[int]
    cancel: list[int]


def settle(jobs: Iterable[Job]) -> Settled:
    """Two workers at once may have submitted the same pilot, each a held job. Both see that the first one counts."""
    chosen: dict[str, Job] = {}
    release, cancel = [], []
    for job in sorted(jobs):
        if job.name not in chosen:
            chosen[job.name] = job
            if job.is_held:
                release.append(job.job_id)
        elif job.is_held:
            cancel.append(job.job_id)
    return Settled(chosen, release, cancel)


def numbers(external_ids: Sequence[str]) -> list[int]:
    """Those that can be numbers of jobs."""
    return [int(each) for each in external_ids if re.fullmatch("[0-9]{1,10}", each)]


# ------------------------------------------------------------------------------------------------------------- script

_SCRIPT = """#!{shell}
# A pilot of Spinor. What it needs to know is in {launch}, which no process after this one shall have.
umask 077
export PATH="${{PATH:-/usr/local/bin:/usr/bin:/bin}}"
if [ -n "${{{launch}}}" ]; then
{setup}
    place=$(mktemp -d "${{TMPDIR:-/tmp}}/spinor-pilot.XXXXXXXXXX") || exit 73
    printf %s "${{{launch}}}" >"$place/launch.json" || exit 73
    exec env -u {launch} SPINOR_PLACE="$place" /bin/sh "$0"
fi
place=$SPINOR_PLACE
unset SPINOR_PLACE
trap 'rm -rf "$place"' EXIT
cd "$place" || exit 73
{unpack}
{python} -I -B spinor-pilot.pyz launch.json </dev/null &
pilot=$!
trap 'kill -TERM $pilot' TERM
while :; do
    wait $pilot
    code=$?
    [ $code -gt 128 ] && kill -0 $pilot 2>/dev/null || break
done
{leave}
exit $code
"""
_UNPACK = """base64 -d >spinor-pilot.pyz <<'END-OF-PILOT' || exit 73
{bundle}
END-OF-PILOT"""
# A parcel may be larger than any script of Slurm, and it is nobody else's. It goes from where it was put to the node.
_TAKE = 'mv -- {directory}/"$SLURM_JOB_NAME.pyz" spinor-pilot.pyz || exit 73'
_LEAVE = """if [ -f {name} ]; then
    left={directory}/spinor-"$SLURM_JOB_ID".{name}
    cp -- {name} "$left.new" && mv -f -- "$left.new" "$left" || code=73
fi"""


def script_of(wishes: Wishes, bundle: bytes, leaves: str = "") -> str:
    """The job's script, equal for all pilots of an element. With no bundle in it, each job has its own beside it."""
    variables = [f"export {name}={shlex.quote(value)}" for name, value in wishes.environment.items()]
    packed = "\n".join(textwrap.wrap(base64.b64encode(bundle).decode(), 76))
    directory = shlex.quote(wishes.directory)
    return _SCRIPT.format(
        shell=wishes.shell,
        launch=LAUNCH,
        setup="\n".join(f"    {line}" for line in [*variables, *wishes.setup]),
        unpack=_UNPACK.format(bundle=packed) if bundle else _TAKE.format(directory=directory),
        leave=_LEAVE.format(directory=directory, name=shlex.quote(leaves)) if leaves else "",
        python=shlex.quote(wishes.python),
    )


def minutes(launch: PilotLaunch) -> int:
    return max(1, math.ceil(launch.wall_s / 60))


def mebibytes(launch: PilotLaunch) -> int:
    return max(1, math.ceil(launch.memory_bytes / 2**20))


def notice_s(launch: PilotLaunch) -> int:
    """So long before its end a job hears of it by SIGTERM."""
    return max(LEAST_NOTICE_S, math.ceil(launch.grace_s) + 10)


def is_passing(words: str) -> bool:
    """Whether what Slurm says of a submission will pass by itself."""
    passing = (
        "unable to contact", "timed out", "temporarily", "zero bytes", "connection refused", "connection reset",
        "transport endpoint", "communication", "too many jobs", "backup controller",
    )  # fmt: skip
    return any(part in words.lower() for part in passing)


# ------------------------------------------------------------------------------------------------------------- output

_OUTPUT = "printf '%s ' {number}; tail -c {most} -- {file} 2>/dev/null </dev/null | base64 | tr -d '\\n'; echo"


def output_file(directory: str, name: str) -> str:
    return f"{directory}/{name}.out"


def parcel_file(directory: str, name: str) -> str:
    """Where the bundle of a job is that has its own."""
    return f"{directory}/{name}.pyz"


def left_file(directory: str, external_id: str, name: str) -> str:
    """Where a job leaves a file: by its number, which we know also when Slurm has forgotten the job."""
    return f"{directory}/spinor-{external_id}.{name}"


async def outputs(machine: Machine, directory: str, jobs: Sequence[Job]) -> dict[str, str]:
    """What jobs have said, from their files; of those that never began, what Slurm says of them."""
    if not jobs:
        return {}
    by_number = {str(job.job_id): job for job in jobs}
    lines = [
        _OUTPUT.format(number=number, most=OUTPUT_BYTES, file=shlex.quote(output_file(directory, job.name)))
        for number, job in by_number.items()
    ]
    texts = {}
    for line in (await run_script(machine, "\n".join([*lines, ""]))).lines:
        number, _, packed = line.partition(" ")
        text = base64.b64decode(packed).decode("utf-8", "replace")
        job = by_number[number]
        texts[number] = text or f"Slurm says of job {number}: {' '.join([*job.states, job.reason])}\n"
    return texts
