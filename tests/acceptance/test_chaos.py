"""The short forms of `make chaos`: some minutes of faults, then every promise is looked at."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled() -> None:
    outcome, told = chaos("first-storey", "--seed", "7", "--minutes", "0.6")
    assert (outcome["lost"], outcome["doubled"]) == (0, 0)
    assert outcome["faults"] >= 5, told
    assert outcome["operations"] >= 20, told


@pytest.mark.peer("slurm")
@pytest.mark.peer("network")
@pytest.mark.timeout(1200)
def test_a_crowd_of_jobs_ends_once_each_on_slurm_and_here() -> None:
    outcome, told = chaos("jobs", "--seed", "11", "--minutes", "5", "--jobs", "2000")
    assert (outcome["lost"], outcome["doubled"]) == (0, 0)
    assert outcome["faults"] >= 20, told
    assert outcome["operations"] >= 2000, told


def chaos(*words: str) -> tuple[dict[str, Any], str]:
    argv = [sys.executable, "-m", "bench.chaos", "run", *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert outcome["violations"] == [], done.stderr
    assert done.returncode == 0
    return outcome, done.stderr
