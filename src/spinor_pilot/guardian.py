"""The guardian: a small process beside the pilot that starts every payload and outlives the pilot for a moment.

It has one thread, so that forking is safe. It is the payloads' parent, so that the kernel kills their leaders when it
dies. When the pilot is gone (end of file on their socket, also after SIGKILL) it kills every descendant that is left.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, Optional

from spinor_pilot import system
from spinor_pilot.faults import Lost


class Child:
    """A payload's process. `code` is negative when a signal ended it; times in seconds, sizes in bytes."""

    def __init__(self, mark: str) -> None:
        self.mark = mark  # NAME=value in its environment, by which processes that left its session are found.
        self.answered = threading.Event()
        self.ended = threading.Event()
        self.pid = 0
        self.error: Optional[OSError] = None
        self.code: Optional[int] = None  # None after the end: the guardian died, and nobody saw the code.
        self.cpu_s = 0.0
        self.max_rss_bytes = 0

    def signal(self, number: int) -> None:
        if self.pid:
            # Once the leader was collected its number may belong to a stranger; the mark never does.
            system.kill_family(-1 if self.ended.is_set() else self.pid, self.mark, number)


class Guardian:
    """The pilot's end of the socket. Start it before there is any thread, and before any secret is in memory."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()
        self._children: dict[int, Child] = {}
        self._count = 0
        self.alive = True

    def watch(self) -> None:
        """Begin to read what the guardian tells. Starts a thread."""
        threading.Thread(target=self._listen, name="guardian", daemon=True).start()

    def run(self, argv: Sequence[str], env: dict[str, str], cwd: str, stdout: str, stderr: str, mark: str) -> Child:
        """Start a process in a session of its own. Raises the OSError of the start, or Lost without a guardian."""
        child = Child(mark)
        name, _, value = mark.partition("=")
        with self._lock:
            if not self.alive:
                raise Lost("The pilot's guardian process has died; the job is given back.")
            self._count += 1
            self._children[self._count] = child
            request = {
                "n": self._count, "argv": list(argv), "env": {**env, name: value}, "cwd": cwd,
                "stdout": stdout, "stderr": stderr, "mark": mark,
            }  # fmt: skip
            with contextlib.suppress(OSError):  # The reader sees the end of file and answers for a dead guardian.
                self._socket.sendall(json.dumps(request).encode() + b"\n")
        child.answered.wait()
        if child.error is not None:
            raise child.error
        return child

    def close(self) -> None:
        """Let the guardian go; it kills what is left of the payloads first."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                self._told(json.loads(line))
        with self._lock:
            self.alive = False
            left = list(self._children.values())
        for child in left:
            child.signal(signal.SIGKILL)
            child.ended.set()
            child.answered.set()

    def _told(self, news: dict[str, Any]) -> None:
        child = self._children[news["n"]]
        if "error" in news:
            child.error = OSError(*news["error"])
        elif "pid" in news:
            child.pid = news["pid"]
        if "code" in news:
            child.code, child.cpu_s, child.max_rss_bytes = news["code"], news["cpu_s"], news["max_rss_bytes"]
            child.ended.set()
        if "pid" not in news:
            del self._children[news["n"]]
        child.answered.set()


def _serve(pilot: socket.socket) -> None:
    """The guardian's whole life."""
    try:
        os.setsid()  # Signals for the pilot's process group are the pilot's business.
        # A function that does nothing, since payloads would inherit an ignored signal.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        system.adopt_orphans()
        _Nursery(pilot).work()
    finally:
        os._exit(0)


class _Nursery:
    def __init__(self, pilot: socket.socket) -> None:
        self.pilot = pilot
        self.running: dict[int, tuple[int, str]] = {}  # pid -> the pilot's number for it, its mark
        self.text = b""

    def work(self) -> None:
        waker, wakeup = os.pipe()
        os.set_blocking(waker, False)
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(self.pilot, selectors.EVENT_READ)
            selector.register(waker, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in selector.select():
                        if key.fileobj is self.pilot:
                            self.read()
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
            self.start(json.loads(line))

    def start(self, asked: dict[str, Any]) -> None:
        try:
            with open(asked["stdout"], "ab") as stdout, open(asked["stderr"], "ab") as stderr:
                process = subprocess.Popen(
                    asked["argv"], env=asked["env"], cwd=asked["cwd"], stdin=subprocess.DEVNULL, stdout=stdout,
                    stderr=stderr, start_new_session=True, preexec_fn=system.die_with_parent,
                )  # fmt: skip
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            told = error if isinstance(error, OSError) else OSError(22, str(error))
            name = None if told.filename is None else os.fsdecode(told.filename)
            self.tell({"n": asked["n"], "error": [told.errno, told.strerror, name]})
            return
        process.returncode = 0  # Collected by wait4 below, for the sake of its times; Popen need not look for it.
        self.running[process.pid] = (asked["n"], asked["mark"])
        self.tell({"n": asked["n"], "pid": process.pid})

    def collect(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid not in self.running:
                continue  # An adopted orphan.
            number, mark = self.running.pop(pid)
            system.kill_family(pid, mark)  # A job is over when its leader ends; what it left behind goes too.
            self.tell({
                "n": number, "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status),
                "cpu_s": usage.ru_utime + usage.ru_stime, "max_rss_bytes": usage.ru_maxrss * 1024,
            })  # fmt: skip

    def tell(self, news: dict[str, Any]) -> None:
        self.pilot.sendall(json.dumps(news).encode() + b"\n")

    def end_all(self) -> None:
        for pid, (_, mark) in self.running.items():
            system.kill_family(pid, mark)
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
                return
            time.sleep(0.01)
