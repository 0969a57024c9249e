"""The Go peer: built in a temporary directory, given Spinor's own keys, certificate, database and statements."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

import spinor
from bench import processor
from bench.service import Service
from spinor.embedded import ports

SOURCE = Path(__file__).with_name("go_baseline")


class NoGo(Exception):
    """There is no Go here, or it cannot build the peer."""


class Incomparable(Exception):
    """The two services do not do the same, so their figures mean nothing."""


class Load(msgspec.Struct, frozen=True):
    """What the load generator prints."""

    requests: int
    errors: int
    seconds: float
    per_second: float
    p50_ms: float
    p99_ms: float
    first_error: str = ""


class Programs(msgspec.Struct, frozen=True):
    service: Path
    load: Path


class Peer(msgspec.Struct, frozen=True):
    """A running Go service."""

    url: str
    pid: int


def build(place: Path) -> Programs:
    """Build both programs; NoGo says why that cannot be."""
    go = shutil.which("go")
    if go is None:
        raise NoGo("there is no `go` on the PATH")
    # Nothing of a user's own settings may change the module's files or fetch another Go.
    environ = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    done = subprocess.run(
        [go, "build", "-o", f"{place}/", "./..."], cwd=SOURCE, env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NoGo(f"`go build` failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1]}")
    return Programs(place / "service", place / "load")


def version() -> str:
    done = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextlib.contextmanager
def running_peer(programs: Programs, service: Service, place: Path, processors: int) -> Iterator[Peer]:
    """Run the Go service on so many processors, beside Spinor's server, on the same database."""
    keys = place / "jwks.json"
    keys.write_bytes(msgspec.json.encode(service.keys().jwks()))
    port = ports.free_port(20_000 + os.getpid() % 20_000)
    words = {
        "listen": f"127.0.0.1:{port}",
        "cert": str(service.layout.host_certificate),
        "key": str(service.layout.host_key),
        "database": service.database_url,
        "jwks": str(keys),
        "issuer": service.url,
        "systems": str(Path(spinor.__file__).parent),
    }
    argv = [str(programs.service), *(f"-{name}={value}" for name, value in words.items())]
    process = subprocess.Popen(argv, env={**os.environ, "GOMAXPROCS": str(processors)})
    try:
        _await_listening(process, port)
        yield Peer(f"https://localhost:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


def _await_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 20
    while ports.is_free(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Incomparable("the Go service did not start")
        time.sleep(0.05)


class Target(msgspec.Struct, frozen=True):
    """A call at one of the services, and the process whose processor time counts."""

    url: str
    pid: int


class Shot(msgspec.Struct, frozen=True):
    """One load on one target, with what it took of the processors."""

    load: Load
    server_ms: float  # Per request.
    postgres_ms: float


class Gun:
    """Fires the same load at one target after another."""

    def __init__(self, programs: Programs, service: Service, token_file: Path) -> None:
        self._load = str(programs.load)
        self._ca = service.ca_file
        self._token = token_file
        self._postmaster = service.postmaster

    def fire(self, target: Target, bodies: Sequence[Path], concurrency: int, seconds: float) -> Shot:
        self._run(target, bodies, concurrency, min(1.0, seconds / 3))
        server, postgres = processor.used_s([target.pid]), processor.family_used_s(self._postmaster)
        load = self._run(target, bodies, concurrency, seconds)
        if load.requests == 0:
            raise Incomparable(f"no answer of {target.url} was good: {load.first_error}")
        return Shot(
            load,
            (processor.used_s([target.pid]) - server) * 1000 / load.requests,
            (processor.family_used_s(self._postmaster) - postgres) * 1000 / load.requests,
        )

    def _run(self, target: Target, bodies: Sequence[Path], concurrency: int, seconds: float) -> Load:
        words = ["-url", target.url, "-ca", str(self._ca), "-token", str(self._token)]
        words += ["-concurrency", str(concurrency), "-duration", f"{seconds}s", *map(str, bodies)]
        done = subprocess.run([self._load, *words], capture_output=True, check=True)
        return msgspec.json.decode(done.stdout, type=Load)
