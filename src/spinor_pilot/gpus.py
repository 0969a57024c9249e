"""The GPUs that the slot may use, and which payload has which of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, Optional

_ASK_S = 20.0
_SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "nvidia-caps")


class Gpu(NamedTuple):
    """One GPU; `name` is what CUDA_VISIBLE_DEVICES or ROCR_VISIBLE_DEVICES calls it."""

    name: str
    model: str
    memory_bytes: int
    devices: tuple[str, ...]  # Below /dev.

    def told(self) -> dict[str, Any]:
        return {"model": self.model, "memory_bytes": self.memory_bytes}


def found(environ: dict[str, str]) -> list[Gpu]:
    """Those that the batch system gave to this slot; all of the node's when it said nothing."""
    listed = _nvidia() or _amd()
    named = environ.get("CUDA_VISIBLE_DEVICES", environ.get("ROCR_VISIBLE_DEVICES"))
    if named is None or not listed:
        return listed
    words = [word.strip() for word in named.split(",") if word.strip()]
    if words in (["-1"], ["NoDevFiles"], ["void"]):
        return []
    return [gpu for word in words for gpu in _called(word, listed)]


def _called(word: str, listed: list[Gpu]) -> list[Gpu]:
    if word.isdigit():
        return [listed[int(word)]._replace(name=word)] if int(word) < len(listed) else []
    return [gpu for gpu in listed if gpu.name.startswith(word)][:1]


def taken(free: list[Gpu], count: int, model: str, memory_bytes: int) -> Optional[list[Gpu]]:
    """So many of the free ones that answer to the wish, the smallest first; None when there are too few."""
    fit = [gpu for gpu in free if model.lower() in gpu.model.lower() and gpu.memory_bytes >= memory_bytes]
    fit.sort(key=lambda gpu: gpu.memory_bytes)
    return fit[:count] if len(fit) >= count else None


def _nvidia() -> list[Gpu]:
    text = _said("nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits")
    listed = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4 and fields[0].isdigit() and fields[3].isdigit():
            devices = (f"nvidia{fields[0]}", *_SHARED)
            listed.append(Gpu(fields[1], fields[2], int(fields[3]) << 20, devices))
    return listed


def _amd() -> list[Gpu]:
    text = _said("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--csv")
    lines = [line.split(",") for line in text.splitlines() if "," in line]
    if not lines:
        return []
    head = [word.strip().lower() for word in lines[0]]
    memory = next((place for place, word in enumerate(head) if "total memory" in word), None)
    model = next((place for place, word in enumerate(head) if "series" in word or "product" in word), None)
    if memory is None or model is None:
        return []
    return [
        Gpu(str(number), fields[model].strip(), int(fields[memory]), ("kfd", "dri"))
        for number, fields in enumerate(lines[1:])
        if len(fields) > max(memory, model) and fields[memory].strip().isdigit()
    ]


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=_ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def unusable() -> str:
    """GPUs that the kernel knows and nobody can ask for: the driver's programs are missing."""
    known = Path("/proc/driver/nvidia/gpus")
    count = len(os.listdir(known)) if known.is_dir() else 0
    return f"{count} NVIDIA GPUs, and no nvidia-smi that works" if count and not _nvidia() else ""
