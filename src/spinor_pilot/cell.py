"""A root directory of a payload's own, where it sees the node's programs but neither the pilot nor its neighbours.

What is built here lives in a mount namespace and ends with it. Inside, `/job` is the job's directory, `/tmp` is the
payload's own, and `/spinor` holds what the pilot gives to it: its token, the list of its inputs. The rest is read-only.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Optional

from spinor_pilot import kernel

JOB, PAPERS = "/job", "/spinor"
OWN_TMP = ("/tmp", "/var/tmp")  # noqa: S108 - these are mounted anew
_OWN = {"proc", "dev", "tmp", "run", "job", "spinor", "lost+found"}  # Never taken over from outside.
# What name resolution needs of /run; sockets of other services stay outside.
_RUN = ("/run/systemd/resolve", "/run/nscd", "/run/resolvconf", "/run/NetworkManager")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "fuse")
_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}


def build(plan: dict[str, Any]) -> None:
    """Build it as `plan` says (`isolation.Cells.plan`) and enter it. For the first process of a PID namespace."""
    root, image = plan["root"], plan["image"]
    kernel.mount("", "/", flags=kernel.SLAVE | kernel.RECURSIVE)
    room = (16 << 20) + 2 * sum(len(text) for text in plan["papers"].values())
    _small(f"mode=755,size={room}", root)
    for name in ("proc", "dev", "tmp", "run", *JOB.split("/")[1:], *PAPERS.split("/")[1:]):
        os.mkdir(f"{root}/{name}")
    _take_over(image, root)
    if image == "/":
        for path in plan["hidden"]:
            _hide(root, path)
        _name_account(root, plan["uid"])
    else:
        _fit_image(root)
    for path in (*_RUN, *plan["visible"]):
        _show(root, path)
    _lay_out(plan["papers"], root + PAPERS, plan["uid"])
    kernel.lock_down(root)
    kernel.bind(plan["work"], root + JOB)
    for path in OWN_TMP:
        if os.path.isdir(root + path) and not os.path.islink(root + os.path.dirname(path)):
            kernel.bind(plan["tmp"], root + path)
    for path in plan["visible"]:
        if path.startswith(tuple(f"{own}/" for own in OWN_TMP)):  # Hidden again by the mount above.
            _show(root, path)
            kernel.lock_down(root + path)
    _make_devices(root, plan)
    kernel.mount("proc", f"{root}/proc", "proc", kernel.NO_SUID | kernel.NO_DEV | kernel.NO_EXEC)
    kernel.enter_root(root)


def _take_over(image: str, root: str) -> None:
    """The top directories of the image, or of the node itself."""
    for entry in os.scandir(image):
        target = f"{root}/{entry.name}"
        if entry.name in _OWN:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), target)
        elif entry.is_dir():
            os.mkdir(target)
            kernel.bind(entry.path, target)


def _name_account(root: str, uid: Optional[int]) -> None:
    """Let programs find a name for an account that was made up for this payload."""
    if uid is None or not os.path.isfile(f"{root}/etc/passwd"):
        return
    known = b""
    with contextlib.suppress(OSError), open("/etc/passwd", "rb") as file:
        known = file.read()
    own = f"{root}{PAPERS}/passwd"
    _write(own, known + f"payload:x:{uid}:{uid}::{JOB}:/bin/sh\n".encode(), 0o644)
    kernel.bind(own, f"{root}/etc/passwd")


def _lay_out(papers: dict[str, str], target: str, uid: Optional[int]) -> None:
    """What the payload gets lies in the memory of its own cell, and on no disk."""
    for name, text in papers.items():
        _write(f"{target}/{name}", text.encode(), 0o600)
        if uid is not None:
            os.chown(f"{target}/{name}", uid, uid)


def _fit_image(root: str) -> None:
    """What an image needs of the node: its kernel's /sys, and how names are resolved there."""
    os.makedirs(f"{root}/sys", exist_ok=True)
    kernel.bind("/sys", f"{root}/sys")
    for path in ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"):
        if os.path.isfile(path) and os.path.isfile(root + path) and not os.path.islink(root + path):
            _show_file(os.path.realpath(path), root + path)


def _hide(root: str, path: str) -> None:
    target = root + path
    if os.path.isdir(target) and path.split("/")[1] not in _OWN:
        _small("mode=755,size=1m", target)


def _show(root: str, path: str) -> None:
    """Bring back what lies below something hidden, or belongs to an image too. What is not on this node is left out."""
    if not os.path.exists(path):
        return
    target = root + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    elif not os.path.exists(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _touch(target)
    kernel.bind(path, target)


def _show_file(path: str, target: str) -> None:
    if path and os.path.isfile(target):
        kernel.bind(path, target)


def _make_devices(root: str, plan: dict[str, Any]) -> None:
    dev = f"{root}/dev"
    _small("mode=755,size=1m", dev)
    for name in (*_DEVICES, *plan["devices"]):
        path = f"/dev/{name}"
        if os.path.isdir(path):
            os.makedirs(f"{dev}/{name}", exist_ok=True)
            kernel.bind(path, f"{dev}/{name}")
        elif os.path.exists(path):
            os.makedirs(os.path.dirname(f"{dev}/{name}"), exist_ok=True)
            _touch(f"{dev}/{name}")
            kernel.bind(path, f"{dev}/{name}")
    for name in ("shm", "pts"):
        os.mkdir(f"{dev}/{name}")
    _small(f"mode=1777,size={plan['shm_bytes']}", f"{dev}/shm")
    with contextlib.suppress(OSError):  # A payload has no terminal; only programs that make some of their own miss it.
        kernel.mount("devpts", f"{dev}/pts", "devpts", kernel.NO_SUID | kernel.NO_EXEC, "newinstance,ptmxmode=0666")
    for name, target in _LINKS.items():
        os.symlink(target, f"{dev}/{name}")


def _small(options: str, target: str) -> None:
    kernel.mount("tmpfs", target, "tmpfs", kernel.NO_SUID | kernel.NO_DEV, options)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _write(path: str, data: bytes, mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(data)
