"""The short form of `make chaos NAME=first-storey`: half a minute of faults, then every promise is looked at."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled() -> None:
    words = [sys.executable, "-m", "bench.chaos", "run", "first-storey", "--seed", "7", "--minutes", "0.6"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["violations"] == [], done.stderr
    assert (outcome["lost"], outcome["doubled"], done.returncode) == (0, 0, 0)
    assert outcome["faults"] >= 5, done.stderr
    assert outcome["operations"] >= 20, done.stderr
