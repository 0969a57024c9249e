"""The catalog's consoles on a terminal, as a person sees them: completion, history, Ctrl-C and Ctrl-D."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .conftest import SPINOR, Service

pytestmark = pytest.mark.acceptance


class Terminal:
    """A program on a pseudo-terminal, and what it has shown."""

    def __init__(self, service: Service, *words: str) -> None:
        self.master, slave = pty.openpty()
        environ = {**service.environ, "TERM": "dumb", "LC_ALL": "C.UTF-8", "INPUTRC": "/dev/null"}
        self.process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env=environ, cwd=service.work, start_new_session=True,
            preexec_fn=self._take_terminal,
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    @staticmethod
    def _take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # So that Ctrl-C comes as a signal,
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # also where the tests run as a background job.

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, pattern: str, *, timeout_s: float = 30) -> str:
        """What is shown up to and with the pattern."""
        end = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode(errors="replace").replace("\a", "")
                except OSError:  # The program has left.
                    assert re.search(pattern, self.seen), f"no {pattern!r} in {self.seen!r}"
        shown, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return shown

    def close(self) -> int:
        try:
            return self.process.wait(30)
        finally:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        with suppress(OSError):  # It is closed already.
            os.close(self.master)


@pytest.fixture
def terminal(service: Service) -> Iterator[Terminal]:
    service.ok("file", "shell", "-c", "mkdir term/run1 term/run2 'term/odd name'; cd term/run1")
    (service.work / "term.dat").write_text("data")
    service.ok("file", "put", "term.dat", "/demo/term/run1/first.dat")
    opened = Terminal(service, SPINOR, "file", "shell", "-d", "term")
    try:
        opened.until("/demo/term> ")
        yield opened
    finally:
        opened.kill()
        service.ok("file", "rm", "-r", "/demo/term")


def test_names_are_completed_and_the_session_survives_interrupts(terminal: Terminal, service: Service) -> None:
    terminal.type("ls r\t1\t\n")  # r -> run; run1 -> run1/
    assert "ls run1/" in terminal.until("first.dat\r\n")
    terminal.until("/demo/term> ")
    terminal.type("stat run1/f\t-q\n")
    terminal.until("/demo/term/run1/first.dat\r\n/demo/term> ")
    terminal.type("cd o\t\n")
    terminal.until("/demo/term/odd name> ")
    terminal.type("cd -\n")
    terminal.until("/demo/term> ")
    terminal.type("sta\t")
    terminal.until("stat ")
    terminal.type("\x03")  # Forgets the line.
    terminal.until("/demo/term> ")
    terminal.type("stat -\n")  # Waits for paths.
    terminal.until("stat -\r\n")
    time.sleep(0.5)
    terminal.type("\x03")
    terminal.until("interrupted")
    terminal.until("/demo/term> ")
    terminal.type("ls nowhere\npwd\n")
    shown = terminal.until("\r\n/demo/term\r\n")
    assert "There is no directory" in shown
    assert "Traceback" not in shown
    terminal.until("/demo/term> ")  # Before it, Ctrl-D would be the end of nothing.
    terminal.type("\x04")
    assert terminal.close() == 0
    history = Path(service.work / "config" / "shell-history").read_text().splitlines()
    assert history[-3:] == ["stat -", "ls nowhere", "pwd"]


def test_an_interrupt_while_names_are_asked_for_is_not_lost(service: Service) -> None:
    code = (
        "import time, sys; from pathlib import Path; from spinor.catalog.cli.shell.editing import Editor\n"
        "def slow(line, begin):\n    print('<asking>', flush=True); time.sleep(60); return []\n"
        "try: Editor(Path('nowhere/history'), slow).read('> ')\n"
        "except KeyboardInterrupt: print('<interrupted>')"
    )
    opened = Terminal(service, sys.executable, "-c", code)
    opened.until("> ")
    opened.type("ls x\t")
    opened.until("<asking>")
    opened.type("\x03")
    opened.until("<interrupted>")
    assert opened.close() == 0


def test_history_comes_back_in_the_next_session(terminal: Terminal, service: Service) -> None:
    terminal.type("ls run1 -q\n")
    terminal.until("/demo/term/run1/first.dat")
    terminal.type("exit\n")
    assert terminal.close() == 0
    again = Terminal(service, SPINOR, "file", "shell")
    again.until("/demo> ")
    again.type("\x10\x10\n")  # Up, up.
    again.until("ls run1 -q")
    again.until("/demo> ")
    again.type("\x04")
    assert again.close() == 0


def test_diracs_console_completes_too(terminal: Terminal, service: Service) -> None:
    console = Terminal(service, str(Path(SPINOR).with_name("dirac-dms-filecatalog-cli")))
    console.until("FC:/demo> ")
    console.type("replicas term/run1/f\t\n")
    console.until("first.dat")
    console.until("FC:/demo> ")
    console.type("meta \t\t")
    console.until("tags")
    console.until("FC:/demo> meta ")
    time.sleep(0.5)
    console.type("\x03")
    console.until("FC:/demo> ")
    console.type("quit\n")
    assert console.close() == 0
