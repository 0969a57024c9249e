"""The slot of the computing element: what it really has, what is left of it, and who has which part."""

from __future__ import annotations

import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

from spinor_pilot import batch, gpus, limits, node
from spinor_pilot.faults import SiteFault
from spinor_pilot.gpus import Gpu
from spinor_pilot.workplace import Share

MARGIN_S = 60.0  # Kept back at the end of the slot for the last reports.


class Slot:
    """What the computing element gave to this pilot, as the batch system and the node confirm it."""

    def __init__(self, launch: dict[str, Any], base: Path) -> None:
        self.base = base
        self.batch = batch.told(os.environ)
        self.cores = node.cores(min(launch["cores"], self.batch.cores or launch["cores"]))
        self.memory_bytes = node.memory_bytes(min(launch["memory_bytes"], self.batch.memory_bytes or 1 << 60))
        self.tags: list[str] = launch.get("tags", [])
        self.gpus: list[Gpu] = gpus.found(dict(os.environ))
        self.ends = time.monotonic() + float(launch["wall_s"])
        if self.batch.ends_at is not None:
            self.ends = min(self.ends, time.monotonic() + self.batch.ends_at - time.time())
        self.idle_s = float(launch.get("idle_s", 15))
        self.grace_s = float(launch.get("grace_s", 20))
        self.hs23_per_core = 0.0
        self.runtimes: list[str] = []
        affinity = sorted(os.sched_getaffinity(0))
        # Where others use the same cores, each pilot would bind its first payload to the same one: then to none.
        self._free_cpus = affinity if len(affinity) <= self.cores else []
        self._whole = self.cores == os.cpu_count() and bool(self.batch.system)
        self._lock = threading.Lock()
        self._shares: list[Share] = []
        self._free_gpus = list(self.gpus)

    @property
    def left_s(self) -> float:
        return self.ends - time.monotonic()

    def offer(self, in_hand: list[dict[str, Any]], ahead: int = 0) -> dict[str, Any]:
        """What is left beside the payloads that run and the jobs that are in hand; `ahead` times the whole slot is
        offered once more, since what runs there ends soon. Never more than the slot is, or a job would not fit into it.
        """
        with self._lock:
            shares = list(self._shares)
            free_gpus = list(self._free_gpus)
        limited = [share.limits for share in shares]
        limited += [limits.of(job["memory_bytes"], job["disk_bytes"], job["cores"]) for job in in_hand]
        told_disk = self.batch.disk_bytes
        disk = max(0, node.disk_bytes(self.base) - limits.RESERVE_BYTES)
        disk = disk if told_disk is None else min(disk, told_disk)
        return {
            "cores": _left(self.cores, ahead, sum(each.cores for each in limited)),
            "memory_bytes": _left(self.memory_bytes, ahead, sum(each.memory_bytes for each in limited)),
            "disk_bytes": max(0, disk - sum(each.disk_bytes for each in limited)),
            "wall_s": max(0, int(self.left_s - MARGIN_S)),
            "tags": self.tags,
            "gpus": [] if any(job.get("gpus") for job in in_hand) else [gpu.told() for gpu in free_gpus],
            "platform": platform.machine(),
            "hs23_per_core": self.hs23_per_core,
            "container_runtimes": self.runtimes,
            "whole_node": self._whole and not limited,
        }

    def has_room(self, assignment: dict[str, Any]) -> bool:
        """Whether a job of the hand can begin now, beside the payloads that run."""
        wanted = limits.of(assignment["memory_bytes"], assignment["disk_bytes"], assignment["cores"])
        with self._lock:
            cores = sum(share.cores for share in self._shares)
            memory = sum(share.limits.memory_bytes for share in self._shares)
        # A job that comes alone always begins: the server knows what it gave.
        return not cores or (cores + wanted.cores <= self.cores and memory + wanted.memory_bytes <= self.memory_bytes)

    def take(self, assignment: dict[str, Any]) -> Share:
        """Part of the slot for a payload, until `give_back`. SiteFault when its GPUs are not there."""
        wanted = limits.of(assignment["memory_bytes"], assignment["disk_bytes"], assignment["cores"])
        count = assignment.get("gpus", 0)
        with self._lock:
            given = gpus.taken(
                self._free_gpus, count, assignment.get("gpu_model", ""), assignment.get("gpu_memory_bytes", 0)
            )
            if given is None:
                raise SiteFault(f"The job needs {count} GPUs, and {len(self._free_gpus)} of this slot are free.")
            self._free_gpus = [gpu for gpu in self._free_gpus if gpu not in given]
            cpus, self._free_cpus = self._free_cpus[: wanted.cores], self._free_cpus[wanted.cores :]
            # Fewer than it has cores happen when the end of another was not heard of yet: then it is bound to none.
            bound = tuple(cpus) if len(cpus) == wanted.cores else ()
            self._free_cpus += [] if bound else cpus
            share = Share(wanted, bound, given)
            self._shares.append(share)
            return share

    def give_back(self, share: Share) -> None:
        """Harmless the second time."""
        with self._lock:
            for place, other in enumerate(self._shares):
                if other is share:
                    del self._shares[place]
                    self._free_gpus += share.gpus
                    self._free_cpus += share.cpus
                    return


def _left(whole: int, ahead: int, taken: int) -> int:
    return max(0, min(whole, (1 + ahead) * whole - taken))
