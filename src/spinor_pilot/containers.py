"""Container images: which runtimes work here, and how a payload is started in an image.

An image is a directory (also on /cvmfs), which the pilot's own cell can take as its root; a file that Apptainer reads
(.sif, .sqfs); or an address such as docker://registry/name:tag, for Apptainer or Podman.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from spinor_pilot.cgroups import Limits
from spinor_pilot.children import Start
from spinor_pilot.faults import ImageFault
from spinor_pilot.isolation import BUBBLEWRAP, NAMESPACES, Home, Isolation, works
from spinor_pilot.limits import OPEN_FILES

if TYPE_CHECKING:
    from spinor_pilot.workplace import Share

DIRECTORY = "directory"  # Unpacked images only: no program is needed for them.
_APPTAINER = ("apptainer", "singularity")
WRAPPED = (*_APPTAINER, "podman")
_TRY_S = 60.0
_REMOVE_S = 60.0
_KILLED = 137
_REGISTRY = ("docker://", "oras://", "library://", "shub://", "http://", "https://")
# Exit codes by which the runtimes say that they themselves failed.
_OWN_FAILURE = {"podman": (125,), "apptainer": (255,), "singularity": (255,)}
_SAYS = {"podman": "Error:", "apptainer": "FATAL:", "singularity": "FATAL:"}


def at_once(isolation: Isolation) -> list[str]:
    """What needs no trial."""
    return [DIRECTORY] if isolation.level in (NAMESPACES, BUBBLEWRAP) else []


def found(isolation: Isolation, base: Path) -> list[str]:
    """The runtimes that work on this node, each tried out and not only found on the path."""
    runtimes = at_once(isolation)
    for name in _APPTAINER:
        # It must be able to make its namespaces, or be installed set-uid; the node's own root serves as an image.
        if shutil.which(name) and not works([name, "--silent", "exec", "--contain", "/", "/bin/true"], _TRY_S):
            runtimes.append(name)
            break
    if shutil.which("podman") and not _podman_refuses(base):
        runtimes.append("podman")
    return runtimes


def runtime_for(image: str, runtimes: list[str]) -> str:
    """Which of them starts this image; empty without an image. ImageFault when none can."""
    if not image:
        return ""
    if directory_of(image) and os.path.isdir(directory_of(image)):
        able = [DIRECTORY, *_APPTAINER]
    elif image.startswith("docker://"):
        able = [*_APPTAINER, "podman"]
    elif image.startswith(_REGISTRY) or image.endswith((".sif", ".sqfs", ".img")):
        able = [*_APPTAINER]
        if not image.startswith(_REGISTRY) and not os.path.exists(directory_of(image)):
            raise ImageFault(f"The container image {image} is not on this node; is its file system mounted?")
    elif image.startswith(("oci-archive:", "docker-archive:", "localhost/")):
        able = ["podman", *_APPTAINER]
    elif image.startswith(("/", "file:")):
        raise ImageFault(f"The container image {image} is not on this node; is its file system mounted?")
    else:
        able = ["podman"]
    for name in able:
        if name in runtimes:
            return name
    have = ", ".join(runtimes) or "none"
    raise ImageFault(f"The container image {image} needs {' or '.join(able)}; what works on this node: {have}")


def directory_of(image: str) -> str:
    """The path of an image that is a file or directory; empty for one of a registry."""
    path = image.removeprefix("file://")
    return path if path.startswith("/") else ""


def wrapped(start: Start, runtime: str, image: str, home: Home, share: Share) -> Start:
    """The same start, by a runtime that shows the job's directory as /job and the rest of the image read-only."""
    binds = {str(home.work): "/job", str(home.tmp): "/tmp", str(home.papers): "/spinor"}  # noqa: S108
    if runtime == "podman":
        return _by_podman(start, image, binds, share)
    argv = [runtime, "--silent", "exec", "--containall", "--no-home", "--pwd", "/job"]
    if os.geteuid() == 0:
        argv += ["--no-privs"]
    for source, target in binds.items():
        argv += ["--bind", f"{source}:{target}" + (":ro" if target == "/spinor" else "")]
    if os.path.isdir("/cvmfs"):
        argv += ["--bind", "/cvmfs:/cvmfs:ro"]
    if share.gpus:
        argv += ["--rocm" if share.gpus[0].devices[0] == "kfd" else "--nv"]
    # What begins with this prefix is what the program in the image finds in its environment.
    inner = {f"{runtime.upper()}ENV_{name}": value for name, value in start.env.items() if name not in ("PATH", "HOME")}
    env = {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, **inner}
    return start._replace(argv=[*argv, image, *start.argv], env=env, cwd=str(home.work), uid=None)


def _by_podman(start: Start, image: str, binds: dict[str, str], share: Share) -> Start:
    name = f"spinor-{secrets.token_hex(8)}"
    argv = [*_podman(), "run", "--name", name, "--network", "host", "--workdir", "/job", "--read-only"]
    argv += ["--security-opt", "no-new-privileges", "--cap-drop", "all", "--pull", "missing"]
    argv += _limited(share.limits)
    if start.uid is not None:
        argv += ["--user", f"{start.uid}:{start.uid}"]
    for source, target in binds.items():
        argv += ["--volume", f"{source}:{target}" + (":ro" if target == "/spinor" else "")]
    if os.path.isdir("/cvmfs"):
        argv += ["--volume", "/cvmfs:/cvmfs:ro,rslave"]
    for gpu in share.gpus:
        argv += [word for device in gpu.devices if os.path.exists(f"/dev/{device}") for word in ("--device", device)]
    for key in start.env:
        if key not in ("PATH", "HOME"):
            argv += ["--env", key]  # Without a value: it is taken from Podman's own environment, not told to everybody.
    env = {**start.env, **{key: os.environ[key] for key in ("PATH", "HOME", "XDG_RUNTIME_DIR") if key in os.environ}}
    argv += ["--env", "HOME=/job", image.replace("docker://", "", 1), *start.argv]
    return start._replace(argv=argv, env=env, cwd=next(iter(binds)), uid=None)


def _limited(limits: Limits) -> list[str]:
    most = str(limits.memory_bytes)
    # What Podman asks for by itself may be more than the pilot has.
    files = min(OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1] % (1 << 63))
    return [
        "--memory", most, "--memory-swap", most, "--pids-limit", str(limits.processes), "--cpus", str(limits.cores),
        "--ulimit", "core=0", "--ulimit", f"nofile={files}", "--ulimit", f"nproc={limits.processes}",
        "--ulimit", f"fsize={limits.disk_bytes}",
    ]  # fmt: skip


def clean_up(start: Start) -> None:
    """Remove a container, which is no child of its client and outlives it."""
    if _is(start, "podman"):
        name = start.argv[start.argv.index("--name") + 1]
        works([*_podman(), "rm", "--force", "--ignore", "--time", "0", name], _REMOVE_S)


def was_killed(start: Start, code: int) -> bool:
    """Whether the kernel ended a container. Its memory limit is its own, and our control groups hear nothing of it."""
    return _is(start, "podman") and code == _KILLED


def failure_of(start: Start, home: Home, code: int) -> str:
    """What the runtime said when it was the runtime that failed; empty when the program in the image did."""
    for runtime, codes in _OWN_FAILURE.items():
        if _is(start, runtime) and code in codes:
            with contextlib.suppress(OSError), open(home.path / "stderr", "rb") as file:
                lines = file.read(65_536).decode("utf-8", "replace").splitlines()
                said = [line for line in lines if _SAYS[runtime] in line]
                if said:
                    return f"The container runtime {runtime} failed: {said[-1].strip()[:500]}"
    return ""


def _podman() -> list[str]:
    return ["podman", *os.environ.get("SPINOR_PODMAN_OPTIONS", "").split()]


def _podman_refuses(base: Path) -> str:
    """What it says when it cannot start a container of the node's own programs, inside limits; nothing is fetched."""
    root = base / "podman-trial"
    root.mkdir(exist_ok=True)
    argv = [*_podman(), "run", "--rm", "--network", "host", *_limited(Limits(64 << 20, 1 << 20, 64, 1)), "--rootfs"]
    for path in ("/usr", "/lib", "/lib64"):
        argv += ["--volume", f"{path}:{path}:ro"] if os.path.isdir(path) else []
    try:
        return works([*argv, str(root), "/usr/bin/true"], _TRY_S)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _is(start: Start, runtime: str) -> bool:
    return os.path.basename(start.argv[0]) == runtime
