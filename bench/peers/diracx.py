"""DiracX's web service: one process of uvicorn, and SQLite as it comes, where each commit waits for the disk.

It speaks plain HTTP, so TLS, which Spinor speaks in the same benchmark, costs it nothing. Neither Redis nor an S3
server runs, since nothing that is asked here needs one.
"""

import base64
import contextlib
import secrets
from pathlib import Path

import msgspec

from bench.drive import Driven, drive
from bench.peers import ROOT
from bench.peers.workplace import Workplace, workplace
from bench.wire import Refused, Wire

SECONDS = {"trial": 0.5, "small": 6.0, "full": 20.0}
CALLS = {"trial": 2, "small": 5, "full": 9}
CLIENTS = (1, 16)
BULK = 1000
DATABASES = ("AuthDB", "JobDB", "JobLoggingDB", "PilotAgentsDB", "ResourceStatusDB", "SandboxMetadataDB", "TaskQueueDB")
_PATH = "/api/jobs/jdl"
# The job that `bench.jobs_submit` sends, in DiracX's words.
_JDL = """Executable = "python3"; Arguments = "simulate.py --events 1000 --seed {seed}"; JobName = "simulate";
OutputSandbox = {{"*.log"}}; NumberOfProcessors = 1; CPUTime = 7200; Priority = 5;"""


class _Wire(Wire):
    """Goes on after an error, and counts them: SQLite lets one client write at a time, and others wait in vain."""

    def __init__(self, url: str, token: str, refused: list[int]) -> None:
        super().__init__(url, None, token)
        self._refused = refused
        self._is_warm = False

    def send(self, request: bytes) -> bytes:
        try:
            return super().send(request)
        except Refused as refusal:
            if self._is_warm:
                self._refused.append(refusal.status)
            return b""
        finally:
            self._is_warm = True


class Place(msgspec.Struct, frozen=True):
    """Where the server is, and who asks it."""

    url: str
    token: str


def measured(size: str) -> dict[str, float]:
    with workplace("diracx") as work:
        place = _started(work)
        found = {}
        for clients in CLIENTS:
            driven, refused = _driven(place, [_body(1)], clients, SECONDS[size], 1)
            found[f"one_{clients}_per_s"] = (driven.requests - refused) / driven.seconds
            found[f"one_{clients}_ms"] = driven.ms(50)
            found[f"one_{clients}_p99_ms"] = driven.ms(99)
            found[f"one_{clients}_refused_percent"] = 100 * refused / driven.requests
        driven, refused = _driven(place, [_body(BULK)], 1, 0, CALLS[size])
        found["bulk_per_s"] = BULK * (driven.requests - refused) / driven.seconds
        found["bulk_ms"] = driven.ms(50)
        return found


def _driven(place: Place, bodies: list[bytes], clients: int, seconds: float, at_least: int) -> tuple[Driven, int]:
    refused: list[int] = []
    driven = drive(
        lambda: _Wire(place.url, place.token, refused), _PATH, bodies, clients=clients, seconds=seconds,
        at_least=at_least,
    )  # fmt: skip
    return driven, len(refused)


def _body(jobs: int) -> bytes:
    return msgspec.json.encode([_JDL.format(seed=n) for n in range(jobs)])


def _started(work: Workplace) -> Place:
    home = work.root / "diracx"
    home.mkdir()
    port = work.port()
    url = f"http://127.0.0.1:{port}"
    environ = work.environ(**_settings(home, url))
    work.run([str(work.python), "-m", "bench.peers.inside.diracx_tables", str(home)], cwd=ROOT, env=environ)
    place = Place(url, (home / "token").read_text())
    words = ["--factory", "bench.peers.inside.diracx_app:app", "--host", "127.0.0.1", "--port", str(port)]
    work.serve([str(work.python), "-m", "uvicorn", *words], lambda: _takes_jobs(place), cwd=ROOT, env=environ)
    return place


def _settings(home: Path, url: str) -> dict[str, str]:
    """DiracX's settings, all of which are variables of the environment."""
    settings = {
        "DIRACX_CONFIG_BACKEND_URL": f"git+file://{home}/configuration",
        "DIRACX_SERVICE_AUTH_TOKEN_KEYSTORE": f"file://{home}/jwks.json",
        "DIRACX_SERVICE_AUTH_STATE_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "DIRACX_SERVICE_AUTH_TOKEN_ISSUER": url,
        "DIRACX_SANDBOX_STORE_BUCKET_NAME": "sandboxes",
        "DIRACX_SANDBOX_STORE_S3_CLIENT_KWARGS": "{}",
        "DIRACX_OS_DB_JOBPARAMETERSDB": '{"hosts": "http://127.0.0.1:9"}',
    }
    return settings | {
        f"DIRACX_DB_URL_{name.upper()}": f"sqlite+aiosqlite:///{home}/{name.lower()}.db" for name in DATABASES
    }


def _takes_jobs(place: Place) -> bool:
    """It answers, and it has read its configuration, which the first requests have to wait for."""
    with contextlib.suppress(OSError, Refused), Wire(place.url, None, place.token) as wire:
        wire.post(_PATH, _body(1))
        return True
    return False
