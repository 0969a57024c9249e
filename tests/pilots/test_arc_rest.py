"""Connections to A-REX that break, with a stand-in for A-REX: a real one breaks them when it likes."""

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spinor.pilots.plugin import ElementRefused, ElementSettings, ElementUnavailable
from spinor.pilots.plugins import arc_rest
from spinor.pilots.plugins.arc import ARCComputing
from spinor.testing.computing_contract import Launcher, launcher
from tests.servers.authority import Authority

Request = tuple[str, str]
Fault = Callable[[Request], str]


class StandIn:
    """As much of A-REX as `submit` asks for.

    A fault says of a request that it is cut off "before" or "after" it, or with which status it is answered.
    """

    def __init__(self) -> None:
        self.port = 0
        self.fault: Fault = lambda request: ""
        self.asked: Counter[Request] = Counter()
        self.jobs: dict[str, dict[str, Any]] = {}  # Name, time of submission, and files, by id.
        self.cleaned: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path = head.decode().split(" ", 2)[:2]
                request = (method, path.removeprefix("/arex/rest/1.0"))
                self.asked[request] += 1
                fault = self.fault(request)
                if fault == "before":
                    break
                length = re.search(rb"(?i)content-length: (\d+)", head)
                answer = self.answer(*request, await reader.readexactly(int(length[1]) if length else 0))
                if fault == "after":
                    break
                status = fault.encode() or b"200 OK"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # The client has left.
        finally:
            # With what is unread the kernel answers with RST, as it does for A-REX.
            writer.transport.abort()

    def answer(self, method: str, path: str, body: bytes) -> bytes:
        if (method, path) == ("GET", "/jobs"):
            return json.dumps({"job": [{"id": each} for each in self.jobs]}).encode()
        if path == "/jobs?action=new":
            (name,) = re.findall(r"<Name>(spinor-[^<]*)</Name>", body.decode())
            job_id = f"job{len(self.jobs):08}"
            submitted_at = datetime.now(UTC).strftime("%Y%m%d%H%M%SZ")
            self.jobs[job_id] = {"name": name, "at": submitted_at, "files": [], "bytes": {}, "state": "PREPARING"}
            return json.dumps({"job": {"status-code": "201", "reason": "Created", "id": job_id}}).encode()
        if path.startswith("/jobs?action="):
            ids = [each["id"] for each in json.loads(body)["job"]]
            if path.endswith("clean"):
                self.cleaned += ids
            told = [{"status-code": "200", "id": each, "state": self.jobs[each]["state"]} for each in ids]
            return json.dumps({"job": told}).encode()
        _, _, job_id, what, name = path.split("/", 4)
        job = self.jobs[job_id]
        if (what, name) == ("diagnose", "local"):
            return f"jobname={job['name']}\nstarttime={job['at']}\n".encode()
        if (what, name) == ("diagnose", "errors"):
            return str(job["diary"]).encode()
        if method == "PUT":
            job["files"].append(name)
            job["bytes"][name] = len(body)
            return b""
        return b"x" * 100_000


@pytest.fixture
async def arex(authority: Authority) -> AsyncIterator[StandIn]:
    stand_in, host = StandIn(), authority.host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.certificate, host.key)
    server = await asyncio.start_server(stand_in.serve, "127.0.0.1", 0, ssl=context)
    stand_in.port = server.sockets[0].getsockname()[1]
    yield stand_in
    server.close()


@pytest.fixture
def plugin(arex: StandIn, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ARCComputing:
    monkeypatch.setattr(arc_rest, "_PAUSES_S", (0, 0, 0))
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").touch(mode=0o600)
    (secrets / "token").write_text("a-token")
    (secrets / "ca.pem").write_bytes(authority.ca_file.read_bytes())
    options = {"url": f"https://localhost:{arex.port}/arex", "token_file": "token", "ca": "ca.pem"}
    return ARCComputing(
        ElementSettings(name="arc", site="ARC", options=options, directory=tmp_path, url="https://spinor.example",
                        secrets=secrets)
    )  # fmt: skip


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    return launcher(tmp_path)


def first(times: int, fault: str, of: Callable[[Request], bool] = lambda request: True) -> Fault:
    """So many of each request are cut off."""
    seen: Counter[Request] = Counter()

    def cuts(request: Request) -> str:
        seen[request] += 1
        return fault if of(request) and seen[request] <= times else ""

    return cuts


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_what_breaks_off_is_asked_again(
    arex: StandIn, plugin: ARCComputing, launch: Launcher, tmp_path: Path, fault: str
) -> None:
    arex.fault = first(3, fault, of=lambda request: request[1] != "/jobs?action=new")
    launches = [launch() for _ in range(3)]
    submitted = await plugin.submit(launches)
    assert {each.external_id for each in submitted} == arex.jobs.keys()
    for job in arex.jobs.values():
        assert set(job["files"]) == {"start.sh", "stand-in.pyz", "launch.json"}
    target = tmp_path / "brought"
    bundle_bytes = launches[0].bundle.stat().st_size
    assert {job["bytes"]["stand-in.pyz"] for job in arex.jobs.values()} == {bundle_bytes}
    assert await plugin.bring(str(submitted[0].external_id), "results.tar", target)
    assert target.stat().st_size == 100_000


async def test_only_a_file_that_is_not_there_was_not_left(
    arex: StandIn, plugin: ARCComputing, launch: Launcher, tmp_path: Path
) -> None:
    (submitted,) = await plugin.submit([launch()])
    status = "404 Not Found"
    arex.fault = lambda request: status if request[1].endswith("/session/results.tar") else ""
    bringing = str(submitted.external_id), "results.tar", tmp_path / "brought"
    assert not await plugin.bring(*bringing)
    status = "503 Service Unavailable"
    with pytest.raises(ElementUnavailable, match="503"):
        await plugin.bring(*bringing)
    status = "403 Forbidden"
    with pytest.raises(ElementRefused, match="403"):
        await plugin.bring(*bringing)
    assert not (tmp_path / "brought").exists()


async def test_a_job_whose_answer_was_lost_is_not_started_twice(
    arex: StandIn, plugin: ARCComputing, launch: Launcher
) -> None:
    arex.fault = first(1, "after", of=lambda request: request[1] == "/jobs?action=new")
    (submitted,) = await plugin.submit([launch()])
    oldest, other = arex.jobs
    assert submitted.external_id == oldest
    assert arex.jobs[oldest]["files"]
    assert not arex.jobs[other]["files"]
    assert arex.cleaned == [other]


async def test_what_ended_is_kept_from_its_end_on(arex: StandIn, plugin: ARCComputing, launch: Launcher) -> None:
    """However long ago it was submitted: the queue and the work may have taken days."""
    now = datetime.now(UTC)
    for name, ended in {"fresh": now - timedelta(hours=23), "old": now - timedelta(hours=25), "unknown": None}.items():
        diary = "An error of the job.\n2020-01-01T00:00:00Z Job state change SUBMIT -> INLRMS   Reason: passed on\n"
        if ended is not None:
            diary += f"{ended:%Y-%m-%dT%H:%M:%SZ} Job state change FINISHING -> FINISHED   Reason: done\n"
        arex.jobs[f"job{name:0>8}"] = {
            "name": f"{plugin.prefix}1-{name}", "at": "20200101000000Z", "state": "FINISHED", "diary": diary
        }  # fmt: skip
    for _ in range(2):
        await plugin.submit([launch()])
    assert set(arex.cleaned) == {"job00000old"}
    assert arex.asked["GET", "/jobs/job000fresh/diagnose/errors"] == 1


async def test_it_is_not_asked_for_ever(arex: StandIn, plugin: ARCComputing, launch: Launcher) -> None:
    arex.fault = lambda request: "before"
    with pytest.raises(ElementUnavailable, match="localhost"):
        await plugin.submit([launch()])
    assert arex.asked == {("GET", "/jobs"): 4}


async def test_what_is_cut_off_within_a_handshake_is_closed(plugin: ARCComputing, launch: Launcher) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readexactly(1)
            begun.set()
            await reader.read()
        writer.close()
        closed.set()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    plugin.access.url = f"https://localhost:{server.sockets[0].getsockname()[1]}/arex"
    submitting = asyncio.ensure_future(plugin.submit([launch()]))
    await begun.wait()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    async with asyncio.timeout(30):
        await closed.wait()
    server.close()
