"""How a payload comes into the world: from a fork of the guardian to the program itself.

Without namespaces the fork becomes the payload. With them there are two more steps: the fork leaves the namespaces of
the pilot and forks the *keeper*, the first process of the payload's PID namespace, which builds the cell, starts the
payload in it, and tells how it ended. When the keeper ends, the kernel ends everything in its namespace. Where the
guardian is root, the fork is the keeper itself.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import selectors
import signal
import socket
import time
from typing import Any, Optional

from spinor_pilot import cell, kernel, system

ISOLATION = "isolation"  # The stage at which an error is the node's; after it, it is the payload's.


class Cradle:
    """The open ends that a newborn process needs, and nothing else of the guardian's."""

    def __init__(self, told: int, gate: int, doors: list[int], keeper: Optional[socket.socket], direct: bool) -> None:
        self.told = told  # A pipe to the guardian that ends when the payload's program has begun.
        self.gate = gate  # A pipe from the guardian, at which the payload waits behind its walls until its turn comes.
        self.doors = doors  # Of its control groups.
        self.keeper = keeper  # The keeper's own line to the guardian.
        self.direct = direct  # The newborn is the keeper.


class Numbering:
    """Lets the guardian fork straight into a new PID namespace, and saves a fork for each payload. For root only."""

    def __init__(self) -> None:
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def works(cls) -> bool:
        """Tried in a fork, since who cannot come back could start nothing more."""
        trial = os.fork()
        if trial == 0:
            try:
                numbering = cls()
                inner = numbering.fork()
                if inner == 0:
                    os._exit(0)
                os.waitpid(inner, 0)
                # A second one shows that the first has left nothing behind.
                inner = numbering.fork()
                if inner:
                    os.waitpid(inner, 0)
                os._exit(0)
            finally:
                os._exit(1)
        return os.waitpid(trial, 0)[1] == 0

    def fork(self) -> int:
        """As `os.fork`, and the child is the first process of its namespace."""
        kernel.unshare(kernel.NEW_PIDS)
        child = -1
        try:
            child = os.fork()
        finally:
            if child:
                kernel.enter(self._own, kernel.NEW_PIDS)
        return child


def born(asked: dict[str, Any], cradle: Cradle) -> None:
    """The life of the fork. Never returns."""
    stage = ISOLATION
    building_s = 0.0
    try:
        gc.disable()
        os.umask(0o022)
        signal.set_wakeup_fd(-1)
        streams = [os.open("/dev/null", os.O_RDONLY), _stream(asked, "stdout"), _stream(asked, "stderr")]
        needed = [*streams, cradle.told, cradle.gate, *cradle.doors]
        _close_others([*needed, *([cradle.keeper.fileno()] if cradle.keeper else [])])
        if cradle.keeper is not None:
            if cradle.direct:
                kernel.unshare(kernel.NEW_MOUNTS | kernel.NEW_IPC)
            else:
                _leave_namespaces(asked)
                keeper = os.fork()
                if keeper:
                    _tell(cradle.told, {"pid": keeper})
                    os._exit(0)
            cell.build(asked["cell"])
            building_s = time.process_time()
            payload = os.fork()
            if payload:
                for number in needed:
                    os.close(number)
                kernel.set_dumpable(False)
                _Keeper(cradle.keeper, payload).watch()
            cradle.keeper.close()
        _confine(asked, cradle.doors)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        _tell(cradle.told, {"ready": True, "cpu_s": building_s + time.process_time()})
        cpus = os.read(cradle.gate, 4096)
        if not cpus:
            os._exit(127)  # The guardian is gone.
        if bound := json.loads(cpus):
            os.sched_setaffinity(0, bound)
        stage = "start"
        os.chdir(asked["cwd"])
        _become(asked["argv"], asked["env"])
    except BaseException as error:
        errno = getattr(error, "errno", None)
        told = [errno, error.strerror, _name(error)] if isinstance(error, OSError) and errno else [22, str(error), None]
        with contextlib.suppress(OSError):
            _tell(cradle.told, {"error": told, "stage": stage})
    finally:
        os._exit(127)


def _become(argv: list[str], env: dict[str, str]) -> None:
    """As `os.execvpe`, which is dear for a newborn: it is asked only when the program is not found at once."""
    name = argv[0]
    if "/" not in name:
        for directory in env.get("PATH", "").split(":"):
            path = f"{directory}/{name}"
            if directory.startswith("/") and os.access(path, os.X_OK) and not os.path.isdir(path):
                os.execve(path, argv, env)  # noqa: S606 - a payload is a program
    os.execvpe(name, argv, env)  # noqa: S606


def _leave_namespaces(asked: dict[str, Any]) -> None:
    flags = kernel.NEW_MOUNTS | kernel.NEW_PIDS | kernel.NEW_IPC
    if not asked["cell"]["users"]:
        kernel.unshare(flags)
        return
    uid, gid = os.geteuid(), os.getegid()
    kernel.set_dumpable(True)  # Otherwise the maps below belong to root.
    kernel.unshare(kernel.NEW_USERS | flags)
    # Inside, nobody is root: a program that starts with another number loses the namespace's own privileges.
    inside = {"uid": uid or 1000, "gid": gid or 1000}
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{inside['uid']} {uid} 1")
    _write("/proc/self/gid_map", f"{inside['gid']} {gid} 1")


def _confine(asked: dict[str, Any], doors: list[int]) -> None:
    """All that binds the payload, in the order in which it is still allowed to be set."""
    guardian = asked["guardian"]
    os.setsid()
    for door in doors:
        os.write(door, b"0")
    kernel.set_dumpable(True)
    with contextlib.suppress(OSError):  # Out of memory, the kernel shall take a payload before anything of the site's.
        _write("/proc/self/oom_score_adj", "1000")
    kernel.set_dumpable(False)  # Until it has become the payload, its memory is a copy of the guardian's.
    for name, (soft, hard) in (asked["limits"] or {}).items():
        _limit(getattr(resource, name), soft, hard)
    if asked["uid"] is not None:
        os.setgroups([])
        os.setresgid(asked["uid"], asked["uid"], asked["uid"])
        os.setresuid(asked["uid"], asked["uid"], asked["uid"])
    kernel.refuse_privileges()
    if asked["cell"] is None:
        system.die_with_parent()  # After the change of account, which would forget it.
        if os.getppid() != guardian:
            os._exit(127)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a program would inherit that.
        signal.signal(number, signal.SIG_DFL)


def _limit(which: int, soft: int, hard: int) -> None:
    allowed = resource.getrlimit(which)[1]
    if allowed != resource.RLIM_INFINITY:
        soft = allowed if soft == resource.RLIM_INFINITY else min(soft, allowed)
        hard = allowed if hard == resource.RLIM_INFINITY else min(hard, allowed)
    resource.setrlimit(which, (soft, hard))


class _Keeper:
    """The first process of a namespace: it collects orphans, passes signals on, and leaves with the payload."""

    def __init__(self, guardian: socket.socket, payload: int) -> None:
        self._guardian = guardian
        self._payload = payload

    def watch(self) -> None:
        waker, wakeup = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wakeup, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(waker, selectors.EVENT_READ)
            selector.register(self._guardian, selectors.EVENT_READ)
            while True:
                self._collect()  # Also before the first wait, since the payload may have ended already.
                for key, _ in selector.select():
                    if key.fileobj is self._guardian:
                        numbers = self._guardian.recv(64)
                        if not numbers:
                            os._exit(0)  # The guardian is gone: so shall everything be.
                        for number in numbers:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(-1, number)  # Everybody in the namespace but the keeper.
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(waker, 4096)

    def _collect(self) -> None:
        while True:
            try:
                pid, status, _ = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == 0:
                return
            if pid == self._payload:
                code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
                self._guardian.sendall(json.dumps({"code": code}).encode() + b"\n")
                os._exit(0)


def _stream(asked: dict[str, Any], name: str) -> int:
    """A stream's file. It belongs to the payload, who may open it again as /dev/stdout."""
    number = os.open(asked[name], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if asked["uid"] is not None:
        os.fchown(number, asked["uid"], asked["uid"])
    return number


def _close_others(kept: list[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in kept:
            with contextlib.suppress(OSError):  # The one by which the list was read is closed already.
                os.close(number)


def _write(path: str, text: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(number, text.encode())
    finally:
        os.close(number)


def _tell(pipe: int, news: dict[str, Any]) -> None:
    os.write(pipe, json.dumps(news).encode() + b"\n")


def _name(error: OSError) -> Optional[str]:
    return None if error.filename is None else os.fsdecode(error.filename)
