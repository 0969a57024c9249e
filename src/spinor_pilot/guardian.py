"""The guardian: a small process beside the pilot that starts every payload and outlives the pilot for a moment.

It has one thread, so that forking is safe. It is the payloads' parent, so that the kernel kills their leaders when it
dies. When the pilot is gone (end of file on their socket, also after SIGKILL) it kills every descendant that is left.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import selectors
import signal
import socket
import time
from typing import Any, Optional

from spinor_pilot import birth, cgroups, kernel, system

LOST = {"error": [errno.EAGAIN, "the process was lost at its start", None], "stage": birth.ISOLATION}


class _Ward:
    """A payload as the guardian knows it."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.pid = 0  # Of the keeper where there is one, else of the payload's leader.
        self.keeper: Optional[socket.socket] = None
        self.gate: Optional[int] = None  # Where it waits to become the payload.
        self.code: Optional[int] = None  # As its keeper tells.
        self.newborn = b""  # What its birth has told so far.
        self.ready = False  # Its walls stand.
        self.building_s = 0.0  # Processor time that they took, which is not the payload's.
        self.error: Optional[dict[str, Any]] = None

    @property
    def number(self) -> int:
        return int(self.asked["n"])


def main(number: int) -> None:
    """The guardian's whole life; `number` is that of its end of the line to the pilot. Never returns."""
    try:
        pilot = socket.socket(fileno=number)
        pilot.set_inheritable(False)
        gc.freeze()  # A collection in a fork would only copy what is of no use there.
        os.setsid()  # Signals for the pilot's process group are the pilot's business.
        # A function that does nothing, since payloads would inherit an ignored signal.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        system.adopt_orphans()
        kernel.set_dumpable(False)  # Descriptions of jobs pass through its memory.
        _Nursery(pilot).work()
    finally:
        os._exit(0)


class _Nursery:
    def __init__(self, pilot: socket.socket) -> None:
        self.pilot = pilot
        self.selector = selectors.DefaultSelector()
        self.running: dict[int, _Ward] = {}  # By process id.
        self.births: dict[int, _Ward] = {}  # By the reading end of the pipe that tells of it.
        self.forks: dict[int, _Ward] = {}  # By the process id of a fork that is to tell its keeper's.
        self.kept: dict[int, _Ward] = {}  # By our end of the line to its keeper.
        self.left: list[dict[str, Any]] = []  # Control groups that would not go at once.
        self.text = b""
        self.pids = birth.Numbering() if birth.Numbering.works() else None

    def work(self) -> None:
        waker, wakeup = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self.selector.register(self.pilot, selectors.EVENT_READ)
        self.selector.register(waker, selectors.EVENT_READ)
        try:
            while True:
                for key, _ in self.selector.select():
                    if key.fileobj is self.pilot:
                        self.read()
                    elif key.fd in self.births:
                        self.hear(key.fd)
                    elif key.fd in self.kept:
                        self.listen(key.fd)
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(waker, 4096)
                self.collect()
        except (EOFError, OSError):
            self.end_all()

    def read(self) -> None:
        data = self.pilot.recv(1 << 16)
        if not data:
            raise EOFError
        *lines, self.text = (self.text + data).split(b"\n")
        for line in lines:
            asked = json.loads(line)
            if "argv" in asked:
                self.start(asked)
            elif "go" in asked:
                self.open_gate(asked["n"], asked["go"])
            else:
                self.signal(asked["n"], asked["signal"])

    # -------------------------------------------------------------------------------------------------- beginnings

    def start(self, asked: dict[str, Any]) -> None:
        ward = _Ward({**asked, "guardian": os.getpid()})
        doors: list[int] = []
        ours: list[int] = []
        theirs: Optional[socket.socket] = None
        try:
            doors = cgroups.make(asked["cgroups"])
            listening, telling = os.pipe()
            ours += (listening, telling)
            gate, ward.gate = os.pipe()
            ours.append(gate)
            if asked["cell"] is not None:
                ward.keeper, theirs = socket.socketpair()
            direct = self.pids is not None and asked["cell"] is not None and not asked["cell"]["users"]
            pid = self.pids.fork() if self.pids is not None and direct else os.fork()
        except OSError as error:
            for number in (*doors, *ours):
                os.close(number)
            if theirs is not None:
                theirs.close()
            self.bury(ward, {"error": [error.errno, error.strerror, None], "stage": birth.ISOLATION})
            return
        if pid == 0:
            birth.born(ward.asked, birth.Cradle(telling, gate, doors, theirs, direct))
        for number in (telling, gate, *doors):
            os.close(number)
        if theirs is not None and ward.keeper is not None:
            theirs.close()
            self.kept[ward.keeper.fileno()] = ward
            self.selector.register(ward.keeper, selectors.EVENT_READ)
        if direct or theirs is None:
            ward.pid = pid
            self.running[pid] = ward
        else:
            self.forks[pid] = ward
        os.set_blocking(listening, False)
        self.births[listening] = ward
        self.selector.register(listening, selectors.EVENT_READ)

    def hear(self, listening: int) -> None:
        """What a birth tells: the keeper's process id, that it waits for its turn, an error, or by its end that the
        program has begun."""
        ward = self.births[listening]
        while True:
            try:
                data = os.read(listening, 1 << 16)
            except BlockingIOError:
                return
            if not data:
                break
            ward.newborn += data
            *lines, ward.newborn = ward.newborn.split(b"\n")
            for line in lines:
                news = json.loads(line)
                if "pid" in news:
                    ward.pid = news["pid"]
                    self.running[ward.pid] = ward
                elif "ready" in news:
                    ward.ready, ward.building_s = True, news["cpu_s"]
                else:
                    ward.error = news
                if ward.ready and ward.pid and ward.error is None:  # In whichever order they were told.
                    self.tell({"n": ward.number, "pid": ward.pid})
        del self.births[listening]
        self.selector.unregister(listening)
        os.close(listening)
        if ward.error is None and ward.ready:
            self.tell({"n": ward.number, "begun": True})
        elif ward.error is None:  # Whoever killed it, it was not its program.
            ward.error = LOST
        if ward.error is not None and not ward.pid:  # It never came so far that somebody would be collected for it.
            self.bury(ward, ward.error)

    # -------------------------------------------------------------------------------------------------------- ends

    def open_gate(self, number: int, cpus: list[int]) -> None:
        for ward in self.running.values():
            if ward.number == number and ward.gate is not None:
                with contextlib.suppress(OSError):
                    os.write(ward.gate, json.dumps(cpus).encode())

    def signal(self, number: int, which: int) -> None:
        for ward in self.running.values():
            if ward.number == number:
                self.send(ward, which)

    def send(self, ward: _Ward, which: int) -> None:
        with contextlib.suppress(OSError):
            if ward.keeper is None:
                system.kill_family(ward.pid, ward.asked["mark"], which, ward.asked["uid"])
            elif which == signal.SIGKILL:
                os.kill(ward.pid, which)
            else:
                ward.keeper.sendall(bytes([which]))

    def collect(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid not in self.running:
                for listening in list(self.births):  # A keeper that ended before its birth was heard of?
                    self.hear(listening)
            ward = self.running.pop(pid, None)
            if ward is None:  # A fork that has made its keeper, or an adopted orphan.
                self.miss(self.forks.pop(pid, None))
                continue
            code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            if ward.keeper is None:
                # A job is over when its leader ends; what it left behind goes too.
                self.send(ward, signal.SIGKILL)
            else:
                if ward.keeper.fileno() in self.kept:
                    self.listen(ward.keeper.fileno())
                code = -signal.SIGKILL if ward.code is None else ward.code
            for listening, other in list(self.births.items()):
                if other is ward:
                    self.hear(listening)
            cpu_s = max(0.0, usage.ru_utime + usage.ru_stime - ward.building_s)
            ended = {"code": code, "cpu_s": cpu_s, "max_rss_bytes": usage.ru_maxrss * 1024}
            self.bury(ward, ward.error or ended)

    def miss(self, ward: Optional[_Ward]) -> None:
        """Its fork has ended. Where that did not tell the keeper's process id, nobody could signal or collect the
        keeper, so it is sent away from the gate."""
        if ward is not None and not ward.pid and ward.gate is not None:
            ward.error = LOST
            os.close(ward.gate)
            ward.gate = None

    def listen(self, number: int) -> None:
        """A keeper's last words. What it kept is over, though it takes the kernel a while to end the namespaces."""
        ward = self.kept.pop(number)
        assert ward.keeper is not None
        self.selector.unregister(ward.keeper)
        ward.keeper.setblocking(False)
        with contextlib.suppress(OSError, ValueError):  # Without any, it was killed with all that it kept.
            ward.code = int(json.loads(ward.keeper.recv(4096))["code"])
            self.tell({"n": ward.number, "over": True})

    def bury(self, ward: _Ward, news: dict[str, Any]) -> None:
        counted = cgroups.usage(ward.asked["cgroups"])
        self.left = cgroups.remove([*self.left, *ward.asked["cgroups"]])
        if ward.keeper is not None:
            if ward.keeper.fileno() in self.kept:
                self.listen(ward.keeper.fileno())
            ward.keeper.close()
        if ward.gate is not None:
            os.close(ward.gate)
            ward.gate = None
        self.tell({"n": ward.number, **news, "counted": counted})

    def tell(self, news: dict[str, Any]) -> None:
        self.pilot.sendall(json.dumps(news).encode() + b"\n")

    def end_all(self) -> None:
        for ward in self.running.values():
            self.send(ward, signal.SIGKILL)
        # Whatever is left was orphaned just now or long ago, and is ours by adoption; its children follow when it dies.
        for _ in range(500):
            for process in system.processes():
                if process.parent == os.getpid():
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(process.pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.01)
        cgroups.remove([group for ward in self.running.values() for group in ward.asked["cgroups"]])
