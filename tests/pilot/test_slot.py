"""The slot's parts, and who has them; GPUs; the benchmark; whether a node is fit."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from spinor_pilot import benchmark, cgroups, fitness, gpus
from spinor_pilot.faults import SiteFault
from spinor_pilot.slot import Slot

GB = 1_000_000_000
LAUNCH = {"cores": 4, "memory_bytes": 8 * GB, "wall_s": 3600}

NVIDIA = """#!/bin/sh
echo "0, GPU-aaaa, NVIDIA A100-SXM4-40GB, 40960"
echo "1, GPU-bbbb, NVIDIA A100-SXM4-80GB, 81920"
echo "2, GPU-cccc, NVIDIA T4, 15360"
"""


def job(**changes: Any) -> dict[str, Any]:
    return {"cores": 1, "memory_bytes": GB, "disk_bytes": GB, **changes}


@pytest.fixture
def with_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(NVIDIA)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slot:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    return Slot(LAUNCH, tmp_path)


def test_an_offer_is_what_is_left(slot: Slot) -> None:
    before = slot.offer([])
    first, second = slot.take(job(cores=2)), slot.take(job())
    assert (first.cpus, second.cpus) == ((0, 1), (2,))
    left = slot.offer([])
    assert before["cores"] - left["cores"] == 3
    assert before["memory_bytes"] - left["memory_bytes"] == 2 * GB
    assert left["wall_s"] <= 3600 - 60
    slot.give_back(first)
    slot.give_back(first)
    assert slot.offer([])["cores"] == before["cores"] - 1
    third = slot.take(job(cores=3))
    assert set(third.cpus).isdisjoint(second.cpus)


def test_a_slot_of_a_shared_node_binds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert Slot(LAUNCH, tmp_path).take(job()).cpus == ()


@pytest.mark.usefixtures("with_gpus")
def test_each_payload_has_its_own_gpus(slot: Slot) -> None:
    assert [gpu["memory_bytes"] >> 30 for gpu in slot.offer([])["gpus"]] == [40, 80, 15]
    share = slot.take(job(gpus=1, gpu_model="a100", gpu_memory_bytes=30 << 30))
    assert [gpu.name for gpu in share.gpus] == ["GPU-aaaa"]
    assert "nvidia0" in share.gpus[0].devices
    assert len(slot.offer([])["gpus"]) == 2
    with pytest.raises(SiteFault, match="2 of this slot are free"):
        slot.take(job(gpus=2, gpu_model="A100"))
    slot.give_back(share)
    assert len(slot.take(job(gpus=2, gpu_model="A100")).gpus) == 2


@pytest.mark.usefixtures("with_gpus")
@pytest.mark.parametrize(
    ("visible", "names"), [("1", ["1"]), ("GPU-cc,0", ["GPU-cccc", "0"]), ("", []), ("-1", []), (None, 3)]
)
def test_the_batch_systems_choice_of_gpus_is_kept(visible: str | None, names: Any) -> None:
    found = gpus.found({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert (len(found) if visible is None else [gpu.name for gpu in found]) == names


def test_the_benchmark_is_measured_once_per_node(tmp_path: Path) -> None:
    cache = tmp_path / "hs23"
    first = benchmark.hs23_per_core(2, 0.1, cache)
    assert first > 0
    assert benchmark.hs23_per_core(2, 0.1, cache) == first
    assert benchmark.hs23_per_core(1, 0.1, None) > 0
    assert benchmark.hs23_per_core(1, 0, cache) == 0
    cache.unlink()
    cache.symlink_to(tmp_path / "other")
    assert benchmark.hs23_per_core(2, 0.1, cache) > 0


def checks(found: list[dict[str, str]]) -> list[str]:
    return [problem["check"] for problem in found]


def test_a_fit_node_has_no_diagnosis(tmp_path: Path) -> None:
    assert fitness.diagnosis(tmp_path, {}, 3.0) == []


def test_each_fault_of_a_node_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert fitness.diagnosis(tmp_path, {"reach": [f"davs://127.0.0.1:{port}/x", f"127.0.0.1:{port}"]}, None) == []
    wanted = {"reach": [f"root://127.0.0.1:{port}/"], "cvmfs": ["no.such.repository"]}
    found = fitness.diagnosis(tmp_path / "gone", wanted, -90.0)
    assert checks(found) == ["disk", "clock", "cvmfs", "storage"]
    assert "90 s ahead of the server's" in found[1]["detail"]
    monkeypatch.setattr(fitness, "LEAST_DISK_BYTES", 1 << 60)
    monkeypatch.setattr(fitness, "LEAST_MEMORY_BYTES", 1 << 60)
    assert checks(fitness.diagnosis(tmp_path, {}, None)) == ["disk", "memory"]


def test_control_groups_of_version_2_are_passed_on_when_they_are_delegated(tmp_path: Path) -> None:
    """With files in place of the kernel's: what is written where. A kernel with version 2 alone was not at hand."""
    group = tmp_path / "sys/fs/cgroup/user.slice/pilot"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/user.slice/pilot\n")
    mount = tmp_path / "sys/fs/cgroup"
    (tmp_path / "proc/self/mountinfo").write_text(f"30 23 0:26 / {mount} rw shared:4 - cgroup2 cgroup2 rw\n")
    for name, text in {
        "cgroup.controllers": "cpu io memory pids\n",
        "cgroup.subtree_control": "",
        "cgroup.procs": "7\n",
    }.items():
        (group / name).write_text(text)
    found = cgroups.found(str(tmp_path))
    assert found.versions() == {"memory": 2, "pids": 2, "cpu": 2}
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    assert (group / "spinor-pilot/cgroup.procs").read_text() == "7"
    (wanted,) = found.wanted("5.1", cgroups.Limits(1000, 2000, 30, 2))
    assert Path(wanted["directory"]).parent == group
    assert wanted["files"] == {
        "memory.max": "1000", "memory.swap.max?": "0", "memory.oom.group?": "1", "pids.max": "30",
        "cpu.max": "200000 100000",
    }  # fmt: skip


def test_without_control_groups_nothing_is_promised(tmp_path: Path) -> None:
    found = cgroups.found(str(tmp_path))
    assert found.versions() == {}
    assert found.wanted("5.1", cgroups.Limits(1000, 2000, 30, 2)) == ()
