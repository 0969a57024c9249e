"""Trial of HTTP stacks: the same two calls as a bare ASGI callable, in Starlette, in Spinor's routes, and in FastAPI.

`python bench/trials/http_stack.py [--peer-python PYTHON] [--seconds 5]` prints one JSON object per figure. PYTHON is an
interpreter with fastapi, uvicorn, uvloop, httptools and msgspec; without it a throw-away virtual environment is made.
Nothing asks a database: what is left is the price of the framework. One process of uvicorn serves each, over TLS, on
kept-alive connections, in turns; processor time is that of the server. Needs Go for the load generator.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import GenericAlias
from typing import Any

CONNECTIONS = 16
STACKS = ("bare", "starlette", "spinor", "fastapi")
PEER = "fastapi"
SPEC = {
    "name": "simulate", "executable": "python3", "arguments": ["simulate.py", "--seed", "17"],
    "environment": {"OMP_NUM_THREADS": "1"}, "output_sandbox": ["*.log"], "cores": 1, "priority": 5,
}  # fmt: skip
LFNS = [f"/demo/trial/run{n // 100:03d}/event-{n:06d}.dat" for n in range(1000)]
CALLS: dict[str, tuple[str, Any]] = {
    "one small description": ("/small", {"specs": [SPEC]}),
    "1,000 names in, 1,000 entries out": ("/bulk", {"lfns": LFNS}),
}
ROOT = Path(__file__).parents[2]
PACKAGES = ["fastapi", "uvicorn", "uvloop", "httptools", "msgspec"]


def entry(lfn: str) -> dict[str, Any]:
    return {
        "lfn": lfn,
        "size_bytes": 1000,
        "adler32": "00c0ffee",
        "replicas": [{"se": "local", "url": f"file://{lfn}"}],
    }


# ------------------------------------------------------------------------------------------------------- the stacks


def bare() -> Any:
    answers = {"/small": b'{"size":1}', "/bulk": json.dumps([entry(lfn) for lfn in LFNS]).encode()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        body = answers[scope["path"]]
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def structs() -> tuple[Any, Any, Any]:
    """The bodies and the answer as msgspec has them; the descriptions are those of the product."""
    import msgspec

    from spinor.jobs.models import SubmitJobs
    from spinor.storage.models import FileReplicas, ReplicasRequest

    def found(lfns: list[str]) -> Any:
        return msgspec.convert([{**entry(lfn), "sha256": None} for lfn in lfns], list[FileReplicas])

    return SubmitJobs, ReplicasRequest, found


def starlette() -> Any:
    import msgspec
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    submit, lfns, found = structs()
    decode_small, decode_bulk = msgspec.json.Decoder(submit).decode, msgspec.json.Decoder(lfns).decode
    encode = msgspec.json.Encoder().encode

    async def small(request: Request) -> Response:
        body = decode_small(await request.body())
        return Response(encode({"size": len(body.specs)}), media_type="application/json")

    async def bulk(request: Request) -> Response:
        body = decode_bulk(await request.body())
        return Response(encode(found(body.lfns)), media_type="application/json")

    return Starlette(routes=[Route("/small", small, methods=["POST"]), Route("/bulk", bulk, methods=["POST"])])


def spinor() -> Any:
    """The routes, the service around them and the request log of the product; only the caller is given."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.routing import Mount

    from spinor.access import Caller, Scope
    from spinor.app import RequestLog, Service
    from spinor.http import Routes, State

    submit, lfns, found = structs()
    routes = Routes("trial")

    async def small(body: Any) -> dict[str, int]:
        return {"size": len(body.specs)}

    async def bulk(body: Any) -> list[Any]:
        return found(body.lfns)  # type: ignore[no-any-return]

    small.__annotations__["body"], bulk.__annotations__["body"] = submit, lfns
    routes.post("/small", scope=Scope.JOBS_SUBMIT)(small)
    routes.post("/bulk", scope=Scope.JOBS_SUBMIT)(bulk)
    ada = Caller(
        vo_id=1, vo="demo", user_id=1, user="ada", group_id=1, group="users", scopes=frozenset({"jobs:submit"})
    )

    async def caller_of(_: Request) -> Caller:
        return ada

    service = Service()
    service.open(routes.all, None, State(), caller_of)  # type: ignore[arg-type]
    return Starlette(routes=[Mount("/", app=service)], middleware=[Middleware(RequestLog)])


def pydantic_models() -> tuple[Any, Any, Any, Any]:
    """The same bodies and answers as pydantic has them."""
    from pydantic import BaseModel, ConfigDict, Field

    class Output(BaseModel):
        path: str
        lfn: str
        se: str

    class Spec(BaseModel):
        model_config = ConfigDict(extra="forbid")
        executable: str
        arguments: list[str | int | float] = []
        environment: dict[str, str | int | float] = {}
        name: str = ""
        input_sandboxes: list[int] = []
        input_data: list[str] = []
        output_sandbox: list[str] = []
        output_data: list[Output] = []
        parameters: dict[str, list[Any]] = {}
        cores: int = Field(1, ge=1, le=1024)
        memory_bytes: int | str = 1_000_000_000
        disk_bytes: int | str = 1_000_000_000
        wall_s: int | str = 1800
        sites: list[str] = []
        tags: list[str] = []
        priority: int = Field(5, ge=0, le=9)
        max_reschedules: int = Field(3, ge=0, le=100)

    class Submit(BaseModel):
        specs: list[Spec] = Field(min_length=1)

    class ReplicasRequest(BaseModel):
        lfns: list[str]

    class Replica(BaseModel):
        se: str
        url: str

    class File(BaseModel):
        lfn: str
        size_bytes: int
        adler32: str | None
        sha256: str | None = None
        replicas: list[Replica]

    class Size(BaseModel):
        size: int

    return Submit, ReplicasRequest, File, Size


def fastapi() -> Any:
    """As its documentation writes it: pydantic models in and out, verbs as coroutines."""
    from fastapi import FastAPI  # type: ignore[import-not-found]

    submit, lfns, file, size = pydantic_models()
    app = FastAPI()

    async def small(body: Any) -> Any:
        return size(size=len(body.specs))

    async def bulk(body: Any) -> Any:
        return [file(**entry(lfn)) for lfn in body.lfns]

    small.__annotations__.update({"body": submit, "return": size})
    bulk.__annotations__.update({"body": lfns, "return": GenericAlias(list, (file,))})
    app.post("/small")(small)
    app.post("/bulk")(bulk)
    return app


def serve(stack: str, port: int, tls: Path) -> None:
    """Be the server of one stack."""
    import gc
    import logging

    import uvicorn

    app = globals()[stack]()
    if stack == "spinor":
        from spinor import logs

        logs.configure("INFO")
    else:
        logging.disable()
    # The advice of ADR 3, given to every stack alike.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", ws="none", lifespan="off", log_config=None,
        access_log=False, ssl_certfile=str(tls / "host.pem"), ssl_keyfile=str(tls / "host-key.pem"),
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- the trial


@contextlib.contextmanager
def running(python: str, stack: str, port: int, place: Path) -> Iterator[int]:
    """The process id of a stack's server."""
    from spinor.embedded import ports

    # Without site packages of its own choice the peer finds the product's models too, which only `entry` here needs.
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    words = [python, __file__, "--serve", stack, "--port", str(port), "--place", str(place / "tls")]
    with open(place / f"{stack}.log", "wb") as log:
        process = subprocess.Popen(words, env=environ, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while ports.is_free(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{stack} did not start: {(place / f'{stack}.log').read_text()}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def peer_environment(given: str | None) -> Iterator[str]:
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="http-stack-peer-") as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        python = f"{directory}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True, stdout=sys.stderr)
        yield python


def compare(peer_python: str | None, seconds: float, rounds: int) -> None:
    sys.path.insert(0, str(ROOT))
    from bench import processor
    from bench.figures import Report, median
    from bench.go_peer import build
    from spinor.embedded import ports
    from spinor.embedded.certificates import ensure_certificates
    from spinor.embedded.layout import Layout

    report = Report("http-stack")
    place = Path(tempfile.mkdtemp(prefix="http-stack-"))
    try:
        layout = Layout(place)
        layout.make()
        ensure_certificates(layout)
        load = build(place).load
        (place / "token").write_text("none")
        for number, (_, body) in enumerate(CALLS.values()):
            (place / f"body-{number}").write_text(json.dumps(body))
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        with peer_environment(peer_python) as peer, contextlib.ExitStack() as servers:
            ready = {}
            for number, stack in enumerate(STACKS):
                port = ports.free_port(22_000 + os.getpid() % 20_000 + 10 * number)
                python = peer if stack == PEER else sys.executable
                ready[stack] = port, servers.enter_context(running(python, stack, port, place))
            for _ in range(rounds):
                for number, (call, (path, _)) in enumerate(CALLS.items()):
                    for stack, (port, pid) in ready.items():
                        words = [str(load), "-url", f"https://localhost:{port}{path}", "-ca", str(layout.ca)]
                        words += ["-token", str(place / "token"), "-concurrency", str(CONNECTIONS)]
                        body = str(place / f"body-{number}")
                        subprocess.run([*words, "-duration", "1s", body], check=True, stdout=subprocess.DEVNULL)
                        before = processor.used_s([pid])
                        done = subprocess.run(
                            [*words, "-duration", f"{seconds}s", body], check=True, capture_output=True
                        )
                        told = json.loads(done.stdout)
                        if told["errors"]:
                            raise RuntimeError(f"{stack}: {told['first_error']}")
                        used_ms = (processor.used_s([pid]) - before) * 1000 / told["requests"]
                        found.setdefault((call, stack), []).append((told["per_second"], used_ms))
        for call in CALLS:
            for n, (words_, unit) in enumerate((("requests per second", "1/s"), ("server's processor time", "ms"))):
                theirs = median([figure[n] for figure in found[call, PEER]])
                for stack in STACKS:
                    ours = median([figure[n] for figure in found[call, stack]])
                    report.figure(f"{call}, {stack}: {words_}", ours, unit, PEER, theirs)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.port, given.place)
    else:
        compare(given.peer_python, given.seconds, given.rounds)


if __name__ == "__main__":
    main()
