"""What a payload is started with: its environment, its papers, its walls, and its share of the slot."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from spinor_pilot import beneath, containers, inputs, limits
from spinor_pilot.cgroups import Controllers, Limits
from spinor_pilot.children import Guardian, Start
from spinor_pilot.gpus import Gpu
from spinor_pilot.isolation import Home, Inside, Isolation
from spinor_pilot.limits import Excess
from spinor_pilot.server import Server

_HIDDEN = ("SPINOR_", "BEARER_TOKEN")  # Beginnings of names that are the pilot's own business.
# A batch job's environment is the pilot's: tools would take a payload for the batch job itself.
_BATCH = ("SLURM_", "_CONDOR_", "PBS_", "LSB_", "LS_", "SGE_", "JOB_", "MACHINEFEATURES", "JOBFEATURES")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "GOMAXPROCS")

_log = logging.getLogger("pilot")


class Share(NamedTuple):
    """What one payload has of the slot."""

    limits: Limits
    cpus: tuple[int, ...]  # To which it is bound; empty: to none.
    gpus: list[Gpu]

    @property
    def cores(self) -> int:
        return self.limits.cores


class Workshop:
    """Everything that payloads of one pilot have in common."""

    def __init__(
        self, base: Path, guardian: Guardian, isolation: Isolation, controllers: Controllers, runtimes: list[str]
    ) -> None:
        self.base = base
        self.guardian = guardian
        self.isolation = isolation
        self.controllers = controllers
        self.runtimes = runtimes
        self.changed: Callable[[], None] = lambda: None  # Called when a payload's share becomes free.

    def start(
        self, assignment: dict[str, Any], share: Share, home: Home, listed: list[dict[str, Any]], server: Server
    ) -> Start:
        """All that is needed to start the payload; its files change hands here."""
        runtime = containers.runtime_for(assignment.get("container_image", ""), self.runtimes)
        outside = runtime in containers.WRAPPED  # The runtime builds the walls.
        inside = Inside("/job", "/tmp", "/spinor") if outside else self.isolation.inside(home)  # noqa: S108
        # Apptainer looks up the name of its account, and an account made up for a payload has none.
        uid = None if outside and runtime != "podman" else self.isolation.account()
        argv = [_executable(assignment["executable"], home, inside), *assignment["arguments"]]
        env = self._environment(assignment, share, inside, server)
        papers = _papers(assignment, listed, server)
        if outside or not self.isolation.keeps_papers:
            _write(papers, home)
        home.give_to(uid)
        name = f"{assignment['job_id']}.{assignment['attempt']}"
        start = Start(
            argv, env, inside.work, str(home.path / "stdout"), str(home.path / "stderr"), mark="", uid=uid,
            limits=limits.for_kernel(share.limits, self.controllers, self.isolation.accounts_are_private),
            cgroups=self.controllers.wanted(name, share.limits),
        )  # fmt: skip
        if outside:
            return containers.wrapped(start, runtime, assignment["container_image"], home, share)
        more: dict[str, Any] = {
            "visible": inputs.local_files(assignment) if listed and "url" in listed[0] else [],
            "devices": [name for gpu in share.gpus for name in gpu.devices],
            "shm_bytes": max(64 << 20, share.limits.memory_bytes // 2),
            "papers": papers,
        }
        if runtime == containers.DIRECTORY:
            more["image"] = containers.directory_of(assignment["container_image"])
            more["visible"] += ["/cvmfs"]
        return self.isolation.confined(start, home, more)

    def explain(self, start: Start, home: Home, share: Share, code: int) -> Optional[Excess]:
        """More about a failure: the container runtime failed and not the program, or the program was killed in it."""
        text = containers.failure_of(start, home, code)
        if text:
            return Excess("site", text)
        if containers.was_killed(start, code):
            return limits.memory_excess(share.limits.memory_bytes, share.limits.memory_bytes)
        return None

    def _environment(self, assignment: dict[str, Any], share: Share, inside: Inside, server: Server) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith((*_HIDDEN, *_BATCH))}
        for name in ("LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "XDG_RUNTIME_DIR", "X509_USER_PROXY"):
            kept.pop(name, None)
        kept.update(dict.fromkeys(_THREADS, str(share.cores)))
        kept.update(HOME=inside.work, TMPDIR=inside.tmp)
        if share.gpus or assignment.get("gpus") == 0:
            named = ",".join(gpu.name for gpu in share.gpus)
            kept.update(CUDA_VISIBLE_DEVICES=named, NVIDIA_VISIBLE_DEVICES=named or "void", ROCR_VISIBLE_DEVICES=named)
        kept.update(assignment["environment"])
        kept.update(
            SPINOR_JOB_ID=str(assignment["job_id"]), SPINOR_ATTEMPT=str(assignment["attempt"]),
            SPINOR_VO=assignment["vo"], SPINOR_OWNER=assignment["owner"], SPINOR_CORES=str(share.cores),
            SPINOR_MEMORY_BYTES=str(share.limits.memory_bytes), SPINOR_DISK_BYTES=str(share.limits.disk_bytes),
            SPINOR_WALL_S=str(assignment["wall_s"]), SPINOR_INPUTS=f"{inside.papers}/inputs.json", PWD=inside.work,
            SPINOR_URL=server.url, BEARER_TOKEN_FILE=f"{inside.papers}/token",
        )  # fmt: skip
        if server.ca_pem:
            kept["SPINOR_CA_FILE"] = f"{inside.papers}/ca.pem"
        if assignment.get("array_index") is not None:
            kept["SPINOR_ARRAY_INDEX"] = str(assignment["array_index"])
        return kept


def _papers(assignment: dict[str, Any], listed: list[dict[str, Any]], server: Server) -> dict[str, str]:
    """Texts by the names of their files. The token is the payload's own: it ends with this attempt."""
    papers = {"token": assignment["token"], "inputs.json": json.dumps(listed)}
    if server.ca_pem:
        papers["ca.pem"] = server.ca_pem
    return papers


def _write(papers: dict[str, str], home: Home) -> None:
    home.papers.mkdir()
    for name, text in papers.items():
        number = os.open(home.papers / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)


def _executable(name: str, home: Home, inside: Inside) -> str:
    own = home.work / name
    if name.startswith("/") or not own.is_file():
        return name
    # What arrived in a sandbox may have lost its permission on the way. A link to another file of the job is followed
    # here, to a path without any; a file elsewhere keeps its permissions.
    plain = os.path.relpath(os.path.realpath(own), os.path.realpath(home.work))
    with contextlib.suppress(OSError), beneath.open_file(str(home.work), plain) as file:
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) | 0o700)
    return f"{inside.work}/{name}"
