"""The door of the benchmarks works, and each benchmark prints figures. What the figures say is not judged here."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.__main__ import BENCHMARKS
from bench.figures import Figure, Report
from bench.service import Service, running_service

ROOT = Path(__file__).parents[2]
FIELDS = set(Figure.__struct_fields__)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service(lambda _: None) as made:
        yield made


def test_list_names_every_benchmark() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "list"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(BENCHMARKS)


def test_an_unknown_name_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "run", "x"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 2


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_prints_figures(
    name: str, service: Service, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOPROXY", "off")  # A test fetches nothing: without the modules at hand there is no comparison.
    module = importlib.import_module(f"bench.{BENCHMARKS[name][0]}")
    module.measure(Report(name), service, "trial")
    figures = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert figures
    for figure in figures:
        assert set(figure) == FIELDS
        assert figure["bench"] == name
        assert (figure["ratio"] is None) == (figure["value"] is None or not figure["peer_value"])


def test_a_ratio_is_the_value_over_the_peer(capsys: pytest.CaptureFixture[str]) -> None:
    Report("trial").figure("rate", 3.0, "1/s", "another", 2.0)
    assert json.loads(capsys.readouterr().out)["ratio"] == 1.5
