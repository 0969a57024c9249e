"""What the slot really has."""

import os
from pathlib import Path

import pytest

from spinor_pilot import node


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = "MemTotal:       16000000 kB\nMemFree: 1 kB\n"


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, []),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, []),
        (
            {
                "proc/self/cgroup": "0::/batch/job7\n",
                "sys/fs/cgroup/batch/memory.max": "4000000000\n",
                "sys/fs/cgroup/batch/job7/memory.max": "2000000000\n",
            },
            [4_000_000_000, 2_000_000_000],
        ),
        (
            {
                "proc/self/cgroup": "9:name=systemd:/x\n4:memory:/slurm/job_7\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": "3000000000\n",
            },
            [3_000_000_000],
        ),
    ],
    ids=["no cgroups", "v2 without limit", "v2 nested", "v1"],
)
def test_memory_limits(tmp_path: Path, files: dict[str, str], limits: list[int]) -> None:
    root = tree(tmp_path, {**files, "proc/meminfo": MEMINFO})
    assert node.cgroup_limits(root) == limits
    assert node.memory_bytes(1 << 50, root) == min([16_384_000_000, *limits])
    assert node.memory_bytes(1000, root) == 1000


def test_cores_are_those_that_may_be_used() -> None:
    usable = len(os.sched_getaffinity(0))
    assert node.cores(1) == 1
    assert node.cores(10_000) == usable


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/a\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
    ],
    ids=["v2", "v2 without quota", "v1", "v1 without quota"],
)
def test_processor_quotas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert node.cores(8, tree(tmp_path, files)) == cores
