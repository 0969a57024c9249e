"""How many tokens a second the token endpoint gives, over HTTPS, by a real server that is pinned to one core.

PostgreSQL and the clients have the other cores. Each refresh is a true rotation: the next one shows the token that the
last one gave.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlencode

import msgspec

from bench.drive import Driven, drive
from bench.figures import Report
from bench.service import Service, operations
from bench.wire import Wire
from spinor.credentials import write_secret
from spinor.db import Database
from spinor.identity import service as identity
from spinor.identity.models import Proven, Tokens

PATH = "/api/auth/token"
FORM = "application/x-www-form-urlencoded"
GOAL_PER_S = 300.0
SECONDS = {"trial": 0.3, "small": 8.0, "full": 30.0}
CLIENTS = 8
SECRET = "a-secret-of-a-benchmark-and-of-nothing-else"


class FormWire(Wire):
    """Sends forms, and no token of its own."""

    def request(self, path: str, body: bytes, content_type: str = FORM) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\ncontent-type: {content_type}\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(_operations(service))
    secrets = service.layout.root / "secrets" / "clients"
    secrets.mkdir(mode=0o700, exist_ok=True)
    write_secret(secrets / "bench", SECRET.encode())
    with _on_one_core(service):
        _exchange(report, service, SECONDS[size])
        _refresh(report, service, SECONDS[size])
        _credentials(report, service, SECONDS[size])


def _exchange(report: Report, service: Service, seconds: float) -> None:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_id": "spinor-cli",
        "subject_token": _sign_in(service, 1)[0].access_token,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "scope": "jobs:read files:read",
    }
    _forms(report, service, "token exchange", form, seconds)


def _credentials(report: Report, service: Service, seconds: float) -> None:
    form = {"grant_type": "client_credentials", "client_id": "bench", "client_secret": SECRET}
    _forms(report, service, "client credentials", form, seconds)


def _forms(report: Report, service: Service, name: str, form: Mapping[str, str], seconds: float) -> None:
    body = [urlencode(form).encode()]
    with _told(report, service, name) as tell:
        tell(drive(lambda: _wire(service), PATH, body, clients=CLIENTS, seconds=seconds))


def _refresh(report: Report, service: Service, seconds: float) -> None:
    """Eight people, each with a session of their own."""
    latencies: list[list[float]] = [[] for _ in range(CLIENTS)]
    errors: list[Exception] = []
    end = time.perf_counter() + seconds

    def rotate(n: int, token: str) -> None:
        try:
            with _wire(service) as wire:
                while time.perf_counter() < end or not latencies[n]:
                    form = {"grant_type": "refresh_token", "client_id": "spinor-cli", "refresh_token": token}
                    started = time.perf_counter()
                    answer = wire.post(PATH, urlencode(form).encode(), FORM)
                    latencies[n].append(time.perf_counter() - started)
                    token = msgspec.json.decode(answer, type=Tokens).refresh_token
        except Exception as error:  # noqa: BLE001  Raised again by the thread that waits for this one.
            errors.append(error)

    given = _sign_in(service, CLIENTS)
    end = time.perf_counter() + seconds
    threads = [threading.Thread(target=rotate, args=(n, given[n].refresh_token)) for n in range(CLIENTS)]
    with _told(report, service, "refresh, with rotation") as tell:
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - started
        for error in errors:
            raise error
        every = [latency for each in latencies for latency in each]
        tell(Driven(len(every), took, every))


@contextlib.contextmanager
def _told(report: Report, service: Service, name: str) -> Iterator[Callable[[Driven], None]]:
    """The figures of a drive, and where its time went."""
    before = service.used_s()

    def tell(driven: Driven) -> None:
        server, postgres = (
            (after - start) * 1000 / driven.requests for start, after in zip(before, service.used_s(), strict=True)
        )
        report.figure(f"{name}, {CLIENTS} clients: tokens per second", driven.per_s, "1/s", "the goal", GOAL_PER_S)
        report.figure(f"{name}: median of a call", driven.ms(50), "ms")
        report.figure(f"{name}: 99th percentile of a call", driven.ms(99), "ms")
        report.figure(f"{name}: server's processor time per token", server, "ms")
        report.figure(f"{name}: PostgreSQL's processor time per token", postgres, "ms")
        report.figure(
            f"{name}: tokens per second of server's processor time", 1000 / server, "1/s", "the goal", GOAL_PER_S
        )

    yield tell


@contextlib.contextmanager
def _on_one_core(service: Service) -> Iterator[None]:
    """The server on the first core that we may use, this process on the others, when there are any."""
    mine = os.sched_getaffinity(0)
    first, *others = sorted(mine)
    os.sched_setaffinity(service.pid_of("server"), {first})
    if others:
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, mine)


def _wire(service: Service) -> FormWire:
    return FormWire(service.url, service.ca_file, "")


def _sign_in(service: Service, count: int) -> list[Tokens]:
    async def signed_in() -> list[Tokens]:
        async with Database.open(service.database_url, size=1) as db, db.transaction() as tx:
            proven = Proven(user=service.user(), signed_in_by="benchmark")
            return [await identity.sign_in(tx, service.keys(), service.url, proven) for _ in range(count)]

    return asyncio.run(signed_in())


def _operations(service: Service) -> str:
    document = msgspec.json.decode(operations(service, max_pilots=0))
    document["clients"] = {
        "bench": {
            "name": "A benchmark",
            "kind": "service",
            "grants": ["client_credentials"],
            "secret_file": "bench",
            "acts_as": {"user": service.user(), "vo": "demo", "group": "demo_users"},
        }
    }
    return msgspec.json.encode(document).decode()
