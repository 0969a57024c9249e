"""A temporary directory with a peer's servers, all of which are gone at the end, also after Ctrl-C."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import ENVIRONMENTS, ROOT, PeerFailed
from spinor.embedded import ports
from spinor.embedded.accounts import Account, database_account

_START_S = 60
_STOP_S = 60
_MEASURE_S = 3600


class Workplace:
    """Where the servers of one peer run. As root they run under the account that Spinor's database gets."""

    def __init__(self, root: Path, peer: str) -> None:
        self.root = root
        self.peer = peer
        self.account: Account = database_account(root / "nothing")
        self.python = ENVIRONMENTS / peer / "bin" / "python"
        self._temporary = self.directory("tmp")
        self._servers: list[subprocess.Popen[bytes]] = []
        self._port = 30_000 + os.getpid() % 20_000

    def say(self, sentence: str) -> None:
        print(f"{self.peer}: {sentence}", file=sys.stderr, flush=True)

    def directory(self, name: str) -> Path:
        """A directory for the servers' account."""
        made = self.root / name
        made.mkdir()
        os.chown(made, self.account.uid, self.account.gid)
        return made

    def write(self, file: Path, text: str) -> None:
        """A file that only we and the servers' account can read."""
        file.touch(mode=0o640)
        os.chown(file, -1, self.account.gid)
        file.write_text(text)

    @property
    def switch(self) -> dict[str, Any]:
        """The options of a process that lend it the servers' account."""
        if self.account.is_me:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    def port(self) -> int:
        """A free one on loopback, another one each time."""
        self._port = ports.free_port(self._port + 1)
        return self._port

    def environ(self, **more: str) -> dict[str, str]:
        """Nothing of the settings that whoever measures has for the peer, for Python or for a proxy."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return kept | {"HOME": str(self.root), "TMPDIR": str(self._temporary), "NO_PROXY": "*"} | more

    def run(self, argv: Sequence[str], **options: Any) -> None:
        """Run a program to its end; PeerFailed has its last words."""
        given: dict[str, Any] = {"env": self.environ(), "cwd": self.root} | options
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **given)
        if done.returncode != 0:
            words = _reason(done.stdout.decode(errors="replace"))
            raise PeerFailed(f"{self.peer}: {Path(argv[0]).name} exited {done.returncode}:\n{words}")

    def serve(self, argv: Sequence[str], is_ready: Callable[[], bool], **options: Any) -> int:
        """Start a server, wait until it is ready, and say its pid. Ctrl-C does not reach it in a session of its own."""
        name = Path(argv[0]).name
        log = self.root / f"{name}.log"
        with log.open("ab") as output:
            given: dict[str, Any] = {"env": self.environ(), "cwd": self.root} | options
            server = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **given
            )
        self._servers.append(server)
        deadline = time.monotonic() + _START_S
        while not is_ready():
            if server.poll() is not None or time.monotonic() > deadline:
                raise PeerFailed(f"{self.peer}: {name} did not start:\n{_reason(log.read_text(errors='replace'))}")
            time.sleep(0.1)
        return server.pid

    def stop(self) -> None:
        """End the servers, the last one first; none of them keeps anything that would be needed again."""
        for server in reversed(self._servers):
            if server.poll() is None:
                server.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(_STOP_S)
            # What the server started is in its session and its group.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        self._servers.clear()

    def measure(self, module: str, environ: Mapping[str, str], **given: object) -> dict[str, float]:
        """Run a module of `bench.peers.inside` in the peer's environment; the figures that it leaves in a file."""
        question, answer = self.root / "given.json", self.root / "figures.json"
        self.write(question, json.dumps(given))
        words = [str(self.python), "-m", f"bench.peers.inside.{module}", str(question), str(answer)]
        # What a peer says on standard output goes to standard error (2), since standard output has figures only.
        process = subprocess.Popen(words, cwd=ROOT, env={**self.environ(), **environ}, stdout=2)
        try:
            process.wait(_MEASURE_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode != 0 or not answer.exists():
            raise PeerFailed(f"{self.peer}: the measurement exited {process.returncode}; its last words are above")
        found: dict[str, float] = json.loads(answer.read_bytes())
        return found


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _reason(output: str) -> str:
    """The lines that name an error, since some programs say more after them than before; else the last ones."""
    lines = output.strip().splitlines()
    return "\n".join([line for line in lines if "error" in line.lower()][:5] or lines[-15:])


@contextlib.contextmanager
def workplace(peer: str) -> Iterator[Workplace]:
    # The servers' account has to pass through here.
    root = Path(tempfile.mkdtemp(prefix=f"spinor-{peer}-"))
    root.chmod(0o711)
    work = Workplace(root, peer)
    try:
        yield work
    finally:
        work.stop()
        shutil.rmtree(root, ignore_errors=True)
