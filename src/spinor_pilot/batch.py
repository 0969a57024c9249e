"""What a batch system says about the slot that it gave: Slurm, HTCondor, PBS, LSF, Grid Engine, and job features.

Job features are the files of HSF-TN-2016-02, which WLCG sites offer whatever their batch system is. Each of these words
is a limit; what nobody says is not limited by it.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Callable, Mapping, NamedTuple, Optional, TypeVar

_ASK_S = 15.0
Ask = Callable[[list[str]], str]
Number = TypeVar("Number", int, float)


class Told(NamedTuple):
    """None: not told."""

    system: str = ""
    cores: Optional[int] = None
    memory_bytes: Optional[int] = None
    disk_bytes: Optional[int] = None
    ends_at: Optional[float] = None  # Seconds since 1970.


def ask(command: list[str]) -> str:
    """What a program prints; empty when it fails, since the batch system need not be asked."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def told(environ: Mapping[str, str], ask: Ask = ask) -> Told:
    """The least of what the batch system and the job features say."""
    found = next((read(environ, ask) for name, read in _SYSTEMS.items() if name in environ), Told())
    features = _features(environ)
    return Told(
        found.system or features.system,
        _least(found.cores, features.cores),
        _least(found.memory_bytes, features.memory_bytes),
        _least(found.disk_bytes, features.disk_bytes),
        _least(found.ends_at, features.ends_at),
    )


def _slurm(environ: Mapping[str, str], ask: Ask) -> Told:
    # One of several tasks of a step has its own part of the node; otherwise all that the job has there is ours.
    tasks = _int(environ.get("SLURM_STEP_TASKS_PER_NODE", environ.get("SLURM_TASKS_PER_NODE", "1")))
    cores = _int(environ.get("SLURM_CPUS_ON_NODE"))
    if tasks and tasks > 1 and "SLURM_STEP_ID" in environ:
        cores = _int(environ.get("SLURM_CPUS_PER_TASK")) or 1
    memory = _int(environ.get("SLURM_MEM_PER_NODE"))
    per_cpu = _int(environ.get("SLURM_MEM_PER_CPU"))
    if not memory and per_cpu and cores:
        memory = per_cpu * cores
    ends = _int(environ.get("SLURM_JOB_END_TIME"))
    ends_at: Optional[float] = float(ends) if ends else _slurm_end(environ["SLURM_JOB_ID"], ask)
    return Told("slurm", cores, memory << 20 if memory else None, None, ends_at)


def _slurm_end(job: str, ask: Ask) -> Optional[float]:
    shown = re.search(
        r"\bEndTime=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)", ask(["scontrol", "--oneliner", "show", "job", job])
    )
    if shown:
        return time.mktime(time.strptime(shown[1], "%Y-%m-%dT%H:%M:%S"))
    left = _clock(ask(["squeue", "--noheader", "--jobs", job, "--format", "%L"]).strip())
    return None if left is None else time.time() + left


def _htcondor(environ: Mapping[str, str], _: Ask) -> Told:
    machine = _ad(environ.get("_CONDOR_MACHINE_AD", ""))
    job = _ad(environ.get("_CONDOR_JOB_AD", ""))
    memory, disk = _int(machine.get("Memory")), _int(machine.get("Disk"))
    began = _int(job.get("JobCurrentStartExecutingDate") or job.get("JobCurrentStartDate"))
    allowed = _int(job.get("AllowedExecuteDuration") or job.get("AllowedJobDuration"))
    return Told(
        "htcondor", _int(machine.get("Cpus")), memory << 20 if memory else None, disk << 10 if disk else None,
        float(began + allowed) if began and allowed else None,
    )  # fmt: skip


def _pbs(environ: Mapping[str, str], ask: Ask) -> Told:
    cores = _int(environ.get("NCPUS") or environ.get("PBS_NUM_PPN") or environ.get("PBS_NP"))
    text = ask(["qstat", "-f", environ["PBS_JOBID"]])
    said = dict(re.findall(r"^\s*([\w.]+) = (.*)$", text, re.MULTILINE))
    whole, used = _clock(said.get("Resource_List.walltime")), _clock(said.get("resources_used.walltime")) or 0
    if whole is None:
        whole = _int(environ.get("PBS_WALLTIME"))
    memory = _size(said.get("Resource_List.mem"))
    return Told("pbs", cores, memory, None, None if whole is None else time.time() + whole - used)


def _lsf(environ: Mapping[str, str], ask: Ask) -> Told:
    cores = _int(environ.get("LSB_DJOB_NUMPROC") or environ.get("LSB_MAX_NUM_PROCESSORS"))
    limit = environ.get("LSB_CG_MEMLIMIT", "")
    memory = int(limit, 16) if re.fullmatch(r"(0x)?[0-9A-Fa-f]+", limit) else None
    left = re.match(r"(\d+):(\d+)", ask(["bjobs", "-noheader", "-o", "time_left", environ["LSB_JOBID"]]).strip())
    ends_at = time.time() + int(left[1]) * 3600 + int(left[2]) * 60 if left else None
    return Told("lsf", cores, memory, None, ends_at)


def _grid_engine(environ: Mapping[str, str], _: Ask) -> Told:
    return Told("gridengine", _int(environ.get("NSLOTS")))


_SYSTEMS: dict[str, Callable[[Mapping[str, str], Ask], Told]] = {
    "SLURM_JOB_ID": _slurm, "_CONDOR_JOB_AD": _htcondor, "PBS_JOBID": _pbs, "LSB_JOBID": _lsf, "SGE_ROOT": _grid_engine,
}  # fmt: skip


def _features(environ: Mapping[str, str]) -> Told:
    job = environ.get("JOBFEATURES", "")
    if not job:
        return Told()
    began, wall = _int(_file(job, "jobstart_secs")), _int(_file(job, "wall_limit_secs"))
    ends = [_int(_file(job, "shutdowntime_job")), _int(_file(environ.get("MACHINEFEATURES", ""), "shutdowntime"))]
    ends.append(began + wall if began and wall else None)
    return Told(
        "job features", _int(_file(job, "allocated_cpu")), _int(_file(job, "max_rss_bytes")),
        _int(_file(job, "scratch_limit_bytes")), _least(*(float(end) if end else None for end in ends)),
    )  # fmt: skip


def _file(directory: str, name: str) -> str:
    try:
        return Path(directory, name).read_text(encoding="ascii", errors="replace").strip() if directory else ""
    except OSError:
        return ""


def _ad(path: str) -> dict[str, str]:
    """The plain values of a ClassAd file; expressions are left out."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines() if path else []
    except OSError:
        return {}
    pairs = (line.partition(" = ") for line in lines)
    return {name.strip(): value.strip().strip('"') for name, _, value in pairs if value}


def _int(text: Optional[str]) -> Optional[int]:
    found = re.match(r"\s*(\d+)", text or "")
    return int(found[1]) if found else None


def _size(text: Optional[str]) -> Optional[int]:
    found = re.fullmatch(r"(\d+)([kmgt]?)b?", (text or "").strip().lower())
    return int(found[1]) << 10 * " kmgt".index(found[2] or " ") if found else None


def _clock(text: Optional[str]) -> Optional[int]:
    """Seconds of `days-hours:minutes:seconds`, of which only the end need be there."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(?:(\d+):)?(\d+)", (text or "").strip())
    if not found:
        return None
    days, *rest = (int(part or 0) for part in found.groups())
    hours, minutes, seconds = rest
    if found[2] is not None and found[3] is None:  # The pattern gives the first of two to the hours.
        hours, minutes = 0, hours
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


def _least(*values: Optional[Number]) -> Optional[Number]:
    known = [value for value in values if value is not None]
    return min(known) if known else None
