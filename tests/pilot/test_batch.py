"""What batch systems say about a slot: their variables as their manuals give them, and answers of their programs."""

import time
from pathlib import Path

import pytest

from spinor_pilot import batch

HOUR = 3600


def answers(**said: str):  # type: ignore[no-untyped-def]
    return lambda command: said.get(command[0], "")


def test_nothing_is_said_without_a_batch_system() -> None:
    assert batch.told({}, answers()) == batch.Told()


def test_slurm_by_its_variables() -> None:
    environ = {
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_MEM_PER_NODE": "16000",
        "SLURM_JOB_END_TIME": "1800000000",
    }
    told = batch.told(environ, answers())
    assert told == batch.Told("slurm", 8, 16_000 << 20, None, 1_800_000_000)


def test_slurm_by_memory_per_core_and_one_task_of_several() -> None:
    environ = {
        "SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "2000", "SLURM_STEP_ID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "4", "SLURM_CPUS_PER_TASK": "2",
    }  # fmt: skip
    told = batch.told(environ, answers())
    assert (told.cores, told.memory_bytes) == (2, 4000 << 20)


def test_slurm_is_asked_for_the_end_when_it_is_not_told() -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1_800_000_000))
    shown = answers(scontrol=f"JobId=7 StartTime=2026-01-01T00:00:00 EndTime={end} Deadline=N/A")
    assert batch.told({"SLURM_JOB_ID": "7"}, shown).ends_at == 1_800_000_000
    told = batch.told({"SLURM_JOB_ID": "7"}, answers(squeue="1-01:00:00\n"))
    assert told.ends_at is not None
    assert abs(told.ends_at - time.time() - 25 * HOUR) < 60
    assert batch.told({"SLURM_JOB_ID": "7"}, answers(squeue="UNLIMITED\n")).ends_at is None


def test_htcondor_by_its_ads(tmp_path: Path) -> None:
    machine, job = tmp_path / ".machine.ad", tmp_path / ".job.ad"
    machine.write_text(
        'Cpus = 4\nMemory = 8192\nDisk = 1000000\nTotalCpus = 64.0\nName = "slot1@node"\nStart = (x > 3)\n'
    )
    job.write_text("JobCurrentStartDate = 1700000000\nAllowedJobDuration = 7200\nRequestCpus = 4\n")
    told = batch.told({"_CONDOR_MACHINE_AD": str(machine), "_CONDOR_JOB_AD": str(job)}, answers())
    assert told == batch.Told("htcondor", 4, 8192 << 20, 1_000_000 << 10, 1_700_007_200)


def test_pbs_is_asked() -> None:
    text = "Job Id: 7\n    resources_used.walltime = 01:00:00\n    Resource_List.mem = 4gb\n"
    text += "    Resource_List.walltime = 03:00:00\n"
    told = batch.told({"PBS_JOBID": "7", "NCPUS": "2"}, answers(qstat=text))
    assert (told.cores, told.memory_bytes) == (2, 4 << 30)
    assert told.ends_at is not None
    assert abs(told.ends_at - time.time() - 2 * HOUR) < 60


def test_lsf_and_grid_engine() -> None:
    told = batch.told(
        {"LSB_JOBID": "7", "LSB_DJOB_NUMPROC": "3", "LSB_CG_MEMLIMIT": "0x40000000"}, answers(bjobs="2:30 L\n")
    )
    assert (told.cores, told.memory_bytes) == (3, 1 << 30)
    assert told.ends_at is not None
    assert abs(told.ends_at - time.time() - 2.5 * HOUR) < 60
    assert batch.told({"SGE_ROOT": "/opt/sge", "NSLOTS": "5"}, answers()).cores == 5


def test_job_features_limit_what_the_batch_system_says(tmp_path: Path) -> None:
    files = {
        "allocated_cpu": "2",
        "wall_limit_secs": "3600",
        "jobstart_secs": "1700000000",
        "max_rss_bytes": "1000000000",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text}\n")
    environ = {
        "JOBFEATURES": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_JOB_END_TIME": "1800000000",
    }
    told = batch.told(environ, answers())
    assert told == batch.Told("slurm", 2, 1_000_000_000, None, 1_700_003_600)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("3:05", 185), ("1:00:00", 3600), ("2-00:00:01", 172_801), ("", None), ("NONE", None)],
)
def test_clocks(text: str, seconds: int | None) -> None:
    assert batch._clock(text) == seconds
