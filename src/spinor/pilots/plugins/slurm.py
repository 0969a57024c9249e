"""Pilots as jobs of a Slurm cluster, by its commands: on this machine, or on a login node through SSH.

Jobs are submitted held, and released when it is certain that there is one of each: see `slurm_jobs.settle`. A round
takes two or three calls of a machine for any number of pilots; each is one script that comes in by standard input.
"""

import asyncio
import base64
import contextlib
import re
import secrets
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementSettings, ElementUnavailable, PilotLaunch, Submitted
from spinor.pilots.plugins.machines import Ran, fetch, put, said
from spinor.pilots.plugins.options import options_of, wrong
from spinor.pilots.plugins.slurm_jobs import (
    LAUNCH,
    Job,
    Names,
    RemotePath,
    Wishes,
    is_passing,
    left_file,
    mebibytes,
    minutes,
    notice_s,
    numbers,
    output_file,
    outputs,
    parcel_file,
    script_of,
    settle,
    state_of,
)  # fmt: skip
from spinor.pilots.plugins.ssh_machine import Access, HostName, machine_for

FLAG = re.compile(r"--([a-z][a-z-]*)(=[^\0\n\r]*)?")
# What the plugin says itself, and what would change which jobs there are or where their output goes.
OURS = frozenset({
    "array", "batch", "begin", "chdir", "comment", "dependency", "error", "export", "export-file", "gid", "help",
    "hold", "input", "job-name", "kill-on-invalid-dep", "no-requeue", "open-mode", "output", "parsable", "quiet",
    "requeue", "signal", "test-only", "time", "uid", "usage", "version", "wait", "wrap",
})  # fmt: skip
POLL_S = 0.5
SINCE_DAYS = 2  # How far back accounting is asked for a pilot that a worker lost sight of.

# A job gets the environment that sbatch has, and that is this. (With a list of variables, or with none, Slurm would run
# a login shell on the node first, and hold the job when that takes long.)
_CLEAN = 'exec env -i HOME="$HOME" USER="$USER" LOGNAME="$LOGNAME" PATH="$PATH" ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"}'
_SHELL = ("/bin/sh", "-c", f"{_CLEAN} /bin/sh")
_SUBMIT = """
script=$(cat <<'{end}'
{script}
{end}
)
submit() {{
    number=$1
    shift
    said=$(printf '%s\\n' "$script" | sbatch "$@" 2>&1)
    code=$?
    printf '%s %s %s\\n' "$number" "$code" "$(printf %s "$said" | base64 | tr -d '\\n')"
}}
umask 077
mkdir -p -m 700 {directory} || exit 74
find {directory} -maxdepth 1 -name 'spinor-*' -mtime +7 -delete </dev/null 2>/dev/null
find {directory} -maxdepth 1 -name 'spinor-*.tar*' -mtime +0 -delete </dev/null 2>/dev/null
{calls}
"""


class Options(Wishes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    host: HostName | None = None  # The login node; without it, commands run on this machine.
    ssh: Access | None = None
    bin: RemotePath | None = None  # Where Slurm's commands are, when not on the PATH.
    slurm_conf: RemotePath | None = None
    extra: tuple[str, ...] = ()  # Further options of sbatch.


class SlurmComputing:
    """A Slurm cluster. A pilot is called by the number of its job."""

    name: ClassVar[str] = "slurm"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options_of(element, Options)
        for number, option in enumerate(self.options.extra):
            flag = FLAG.fullmatch(option)
            if flag is None:
                raise wrong(element, f"extra[{number}]: {option!r} is not of the form --name or --name=value")
            if flag[1] in OURS:
                raise wrong(element, f"extra[{number}]: --{flag[1]} is said by the plugin itself")
        if self.options.ssh is not None and self.options.host is None:
            raise wrong(element, "host is missing, to which ssh should go")
        self._machine = machine_for(element, self.options.ssh, self.options.host or "", {})
        self._names = Names(element)

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        if not pilots:
            return []
        names = {self._names.of(launch): launch for launch in pilots}
        there = {job.name for job in await self._queued()}
        missing = [(name, launch) for name, launch in names.items() if name not in there]
        refused = await self._sbatch(missing) if missing else {}
        chosen = await self._settle(job for job in await self._queued() if job.name in names)
        answers = []
        for name, launch in names.items():
            number = str(chosen[name].job_id) if name in chosen else None
            error = "" if number else refused.get(launch.pilot_id, "the job is gone again")
            answers.append(Submitted(pilot_id=launch.pilot_id, external_id=number, error=error))
        return answers

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        if not pilot_ids:
            return {}
        wanted = set(pilot_ids)
        jobs = [job for job in await self._queued() if self._names.pilot(job.name) in wanted]
        chosen = await self._settle(jobs)
        # Of several marks the newest counts: an earlier service of this address had a pilot of that number, too.
        found = {self._names.pilot(job.name): job for job in sorted(chosen.values())}
        if wanted - found.keys():
            ended = await self._accounted([f"--starttime=now-{SINCE_DAYS}days"])
            found = {self._names.pilot(job.name): job for job in ended} | found
        return {pilot: str(job.job_id) for pilot, job in found.items() if pilot is not None and pilot in wanted}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        if not external_ids:
            return {}
        wanted = set(numbers(external_ids))
        jobs = {job.job_id: job for job in await self._queued()}
        states = {str(number): state_of(jobs[number]) for number in wanted & jobs.keys()}
        hopeless = [number for number in wanted & jobs.keys() if jobs[number].is_hopeless]
        if hopeless:
            await self._run(_scancel(hopeless))
        lost = sorted(wanted - jobs.keys())
        if lost:
            ended = await self._accounted([f"--jobs={','.join(map(str, lost))}"])
            over = {job.job_id: state_of(job) for job in ended}
            # What the controller has no more is over, also when accounting has not heard of its end.
            for number in lost:
                is_told = over.get(number) in (ElementState.DONE, ElementState.FAILED)
                states[str(number)] = over[number] if is_told else ElementState.VANISHED
        return states

    async def cancel(self, external_ids: Sequence[str]) -> None:
        """The pilot alone gets a SIGTERM, so that it ends its payloads in order; then Slurm ends the whole job."""
        alive = await self._alive(set(numbers(external_ids)))
        if not alive:
            return
        parcels = [parcel_file(self.options.directory, name) for name in alive.values()]
        await self._run(
            f"{_scancel(alive, '--state=PENDING')}\n{_scancel(alive, '--batch', '--signal=TERM')}\n"
            f"{shlex.join(['rm', '-f', '--', *parcels])}"
        )
        end = time.monotonic() + self.options.grace_s
        while alive and time.monotonic() < end:
            await asyncio.sleep(POLL_S)
            alive = await self._alive(set(alive))
        if alive:
            await self._run(_scancel(alive))

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        return await outputs(self._machine, self.options.directory, await self._known(set(numbers(external_ids))))

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        """Slurm is not asked: it may be away, or remember the job no more, when the file is there."""
        if not numbers([external_id]):
            return False
        left = left_file(self.options.directory, external_id, name)
        if not await fetch(self._machine, left, target):
            return False
        with contextlib.suppress(SpinorError):  # What has come counts, and what is left there is swept some day.
            await self._run(shlex.join(["rm", "-f", "--", left]))
        return True

    # ---------------------------------------------------------------------------------------------------- submitting

    async def _sbatch(self, missing: Sequence[tuple[str, PilotLaunch]]) -> dict[int, str]:
        """Submit held jobs; what sbatch says of those that it refuses, by pilot."""
        leaves = missing[0][1].leaves
        bundle = b"" if leaves else await asyncio.to_thread(missing[0][1].bundle.read_bytes)
        calls = []
        for name, launch in missing:
            if leaves:
                await put(self._machine, parcel_file(self.options.directory, name), launch.bundle)
            calls.append(f"{LAUNCH}={shlex.quote(launch.launch_file().decode())}; export {LAUNCH}")
            calls.append(shlex.join(["submit", str(launch.pilot_id), *self._words(name, launch)]) + " </dev/null")
        directory = shlex.quote(self.options.directory)
        ran = await self._run(
            _SUBMIT.format(
                end=f"END-{secrets.token_hex(8)}", script=script_of(self.options, bundle, leaves),
                directory=directory, calls="\n".join(calls),
            )
        )  # fmt: skip
        refused = {}
        for line in ran.lines:
            pilot_id, code, packed = line.split(" ", 2)
            if code != "0":
                refused[int(pilot_id)] = " ".join(base64.b64decode(packed).decode("utf-8", "replace").split())
        if refused and all(is_passing(words) for words in refused.values()):
            raise ElementUnavailable(f"Slurm on {self._machine.name} takes no jobs: {next(iter(refused.values()))}")
        return refused

    def _words(self, name: str, launch: PilotLaunch) -> list[str]:
        wishes = self.options
        words = [
            "--parsable", "--hold", "--no-requeue", f"--job-name={name}", f"--comment=a pilot for {launch.url}",
            "--export=ALL", "--chdir=/", "--input=/dev/null", "--open-mode=append",
            f"--output={output_file(wishes.directory, name)}", "--nodes=1", "--ntasks=1",
            f"--cpus-per-task={launch.cores}", f"--time={minutes(launch)}", f"--signal=B:TERM@{notice_s(launch)}",
        ]  # fmt: skip
        if wishes.memory:
            words.append(f"--mem={mebibytes(launch)}M")
        if wishes.exclusive:
            words.append("--exclusive")
        for flag in ("partition", "account", "qos", "constraint", "reservation", "gres"):
            if getattr(wishes, flag):
                words.append(f"--{flag}={getattr(wishes, flag)}")
        return [*words, *wishes.extra]

    async def _settle(self, jobs: Iterable[Job]) -> dict[str, Job]:
        settled = settle(jobs)
        lines = [_scancel(settled.cancel)] if settled.cancel else []
        lines += [f"scontrol release {','.join(map(str, settled.release))} </dev/null"] if settled.release else []
        if lines:
            ran = await self._run("\n".join(lines))
            if ran.code != 0:
                raise ElementUnavailable(f"Slurm on {self._machine.name} does not release its jobs: {said(ran)}")
        return settled.chosen

    # -------------------------------------------------------------------------------------------------------- looking

    async def _queued(self) -> list[Job]:
        """This service's jobs in the controller's memory: all that wait and run, and those that ended lately."""
        ran = await self._run(
            "squeue --noheader --user=\"$(id -u)\" --states=all --format='%A|%T|%j|%r' </dev/null || exit 75"
        )
        if ran.code != 0:
            raise ElementUnavailable(f"squeue on {self._machine.name} fails: {said(ran)}")
        return self._jobs(line.split("|", 3) for line in ran.lines)

    async def _accounted(self, which: Sequence[str]) -> list[Job]:
        """Jobs that accounting knows of; none when there is no accounting, or it does not answer."""
        words = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobIDRaw,State,JobName%80", *which]
        ran = await self._run(f"{shlex.join(words)} </dev/null")
        return self._jobs([*line.split("|", 2), ""] for line in ran.lines)

    def _jobs(self, rows: Iterable[Sequence[str]]) -> list[Job]:
        """Rows of number, state (perhaps "CANCELLED by 1000"), name, reason."""
        return [
            Job(int(row[0]), row[2], (row[1].split()[0],), row[3])
            for row in rows
            if len(row) == 4 and row[0].isdecimal() and row[1] and self._names.pilot(row[2]) is not None
        ]

    async def _known(self, wanted: set[int]) -> list[Job]:
        """Jobs of these numbers, also those that only accounting remembers."""
        if not wanted:
            return []
        jobs = {job.job_id: job for job in await self._queued() if job.job_id in wanted}
        if wanted - jobs.keys():
            ended = await self._accounted([f"--jobs={','.join(map(str, sorted(wanted - jobs.keys())))}"])
            jobs = {job.job_id: job for job in ended if job.job_id in wanted} | jobs
        return list(jobs.values())

    async def _alive(self, wanted: set[int]) -> dict[int, str]:
        """Those that have not ended, and their names."""
        if not wanted:
            return {}
        over = (ElementState.DONE, ElementState.FAILED)
        jobs = [job for job in await self._queued() if job.job_id in wanted]
        return {job.job_id: job.name for job in jobs if state_of(job) not in over}

    async def _run(self, script: str) -> Ran:
        before = []
        if self.options.bin:
            before.append(f'export PATH={shlex.quote(self.options.bin)}:"$PATH"')
        if self.options.slurm_conf:
            before.append(f"export SLURM_CONF={shlex.quote(self.options.slurm_conf)}")
        # The shell carries out what it has read, and a link may be lost in the middle of a script: so it gets one
        # command, which it has to read to the end first.
        ran = await self._machine.run(_SHELL, "\n".join(["{", *before, script, "}", ""]).encode())
        if ran.code == 127:
            raise ElementUnavailable(f"Slurm's commands are not on the PATH of {self._machine.name}: {said(ran)}")
        return ran


def _scancel(job_ids: Iterable[int], *words: str) -> str:
    return f"{shlex.join(['scancel', '--quiet', *words, *map(str, job_ids)])} </dev/null"
