"""What it costs to know who calls: one access token that was never seen before, and one that was.

In process, with the service's own keys and database: signature and claims alone, then with the look-up of the session
and the membership, then remembered.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from bench.figures import Report, median
from bench.service import Service, operations
from spinor.db import Database
from spinor.identity.keys import KeyRing
from spinor.identity.tokens import Verifier, mint, read_token

GOAL_US = 150.0
TOKENS = {"trial": 50, "small": 2_000, "full": 20_000}
ROUNDS = 5


def measure(report: Report, service: Service, size: str) -> None:
    service.apply(operations(service, max_pilots=0))
    keys, url = service.keys(), service.url
    claims = read_token(keys, url, service.token(), time.time())
    said = {name: getattr(claims, name) for name in ("sub", "sid", "client_id", "vo", "group", "scope")}
    tokens = [mint(keys, url, {**said, "jti": secrets.token_urlsafe(16)}) for _ in range(TOKENS[size])]
    _signature(report, keys, url, tokens)
    asyncio.run(_caller(report, service, keys, tokens))


def _signature(report: Report, keys: KeyRing, url: str, tokens: list[str]) -> None:
    now = time.time()

    def read() -> None:
        for token in tokens:
            read_token(keys, url, token, now)

    wall, used = _timed(read, len(tokens))
    report.figure("signature and claims of a new token", wall, "µs", "the goal", GOAL_US)
    report.figure("signature and claims of a new token: processor time", used, "µs")


async def _caller(report: Report, service: Service, keys: KeyRing, tokens: list[str]) -> None:
    requests = [_request(token) for token in tokens]
    async with Database.open(service.database_url, size=2) as db:
        await _new(report, service, keys, db, requests)
        verifier = Verifier(keys, service.url, db)
        await verifier.caller_of(requests[0])

        async def known() -> None:
            for _ in requests:
                await verifier.caller_of(requests[0])

        wall, _ = await _timed_async(known, len(requests))
        report.figure("a token that was seen in the last half minute, caller and all", wall, "µs", "the goal", GOAL_US)


async def _new(report: Report, service: Service, keys: KeyRing, db: Database, requests: list[Request]) -> None:
    async def new() -> None:
        verifier = Verifier(keys, service.url, db)
        for request in requests:
            await verifier.caller_of(request)

    await new()
    before = service.used_s()[1]
    wall, used = await _timed_async(new, len(requests))
    postgres = (service.used_s()[1] - before) / ROUNDS / len(requests) * 1e6
    report.figure("a new token, with the look-up of session and membership", wall, "µs")
    report.figure("a new token, with the look-up: processor time of the server", used, "µs", "the goal", GOAL_US)
    report.figure("a new token, with the look-up: processor time of PostgreSQL", postgres, "µs")


def _request(token: str) -> Request:
    headers = [(b"host", b"x"), (b"accept", b"*/*"), (b"authorization", f"Bearer {token}".encode())]
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": headers})


def _timed(run: Callable[[], None], count: int) -> tuple[float, float]:
    """Microseconds of one: by the clock, and of the processor. The median of five rounds, after one to warm up."""
    run()
    walls, useds = [], []
    for _ in range(ROUNDS):
        started, used = time.perf_counter(), time.process_time()
        run()
        walls.append((time.perf_counter() - started) / count * 1e6)
        useds.append((time.process_time() - used) / count * 1e6)
    return median(walls), median(useds)


async def _timed_async(run: Callable[[], Awaitable[None]], count: int) -> tuple[float, float]:
    walls, useds = [], []
    for _ in range(ROUNDS):
        started, used = time.perf_counter(), time.process_time()
        await run()
        walls.append((time.perf_counter() - started) / count * 1e6)
        useds.append((time.process_time() - used) / count * 1e6)
    return median(walls), median(useds)
