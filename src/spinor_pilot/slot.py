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

    def offer(self) -> dict[str, Any]:
        """What is left beside the payloads that run."""
        with self._lock:
            shares = list(self._shares)
            free_gpus = list(self._free_gpus)
        told_disk = self.batch.disk_bytes
        disk = max(0, node.disk_bytes(self.base) - limits.RESERVE_BYTES)
        disk = disk if told_disk is None else min(disk, told_disk)
        return {
            "cores": max(0, self.cores - sum(share.cores for share in shares)),
            "memory_bytes": max(0, self.memory_bytes - sum(share.limits.memory_bytes for share in shares)),
            "disk_bytes": max(0, disk - sum(share.limits.disk_bytes for share in shares)),
            "wall_s": max(0, int(self.left_s - MARGIN_S)),
            "tags": self.tags,
            "gpus": [gpu.told() for gpu in free_gpus],
            "platform": platform.machine(),
            "hs23_per_core": self.hs23_per_core,
            "container_runtimes": self.runtimes,
            "whole_node": self._whole and not shares,
        }

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
