"""The process that stands in for pilots which see no network, from the enrolment to the good-bye.

Exit codes are a pilot's: 0 well, 1 something could not be reported, 2 wrong usage, 4 not accepted by the server.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import logging
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BringsFiles, ComputingPlugin, ElementSettings, PilotLaunch, plugin_named
from spinor.pilots.push import parcel, results
from spinor_pilot import offline, streams
from spinor_pilot.faults import Fault, told
from spinor_pilot.reports import ENDED, STARTED, Reports
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted

LONG_POLL_S = 20.0
GONE_S = 60.0  # How long a cancelled pilot may take to go.
_ENDED = (ElementState.DONE, ElementState.FAILED, ElementState.VANISHED)

_log = logging.getLogger("pilot")


class NodeFailed(Exception):
    """The pilot on the node has left no report of a job."""


class Agent:
    """One pilot's life. `stop` may be called at any moment."""

    def __init__(self, launch: dict[str, Any], base: Path) -> None:
        self.launch, self.base = launch, base
        self.push: dict[str, Any] = launch["push"]
        self.server = Server(launch["url"], launch.get("ca_pem", ""))
        self.reports = Reports(self.server)
        inner = self.push["element"]
        settings = ElementSettings(
            name=inner["name"], site=inner["site"], options=inner["options"], directory=Path(inner["directory"]),
            url=inner["url"], secrets=Path(inner["secrets"]),
        )  # fmt: skip
        self.plugin: ComputingPlugin = plugin_named(inner["plugin"])(settings)
        self.node_wall_s = launch["wall_s"] - self.push["queue_s"]
        self.stopped = asyncio.Event()
        self.over = threading.Event()  # Nobody waits for an answer to a heartbeat any more.
        self.news = asyncio.Event()  # Something that cannot wait for the next look at the node's pilot.
        self.held: dict[tuple[int, int], dict[str, Any]] = {}  # What the heartbeat tells of.
        self.lost: set[tuple[int, int]] = set()
        self.draining = ""
        self._numbers = itertools.count(1)

    def stop(self) -> None:
        self.draining = self.draining or "asked to stop"
        self.stopped.set()
        self.news.set()

    async def work(self, heartbeat_s: float) -> int:
        """Take jobs and carry them out, until there is nothing to do or somebody asks to stop."""
        heart = asyncio.create_task(self._beat(heartbeat_s))
        failed = ""
        try:
            await self._take_jobs()
        except (NodeFailed, Refused, Unreachable, Untrusted, SpinorError) as error:
            failed = str(error)
            _log.error("this pilot ends: %s", failed)
        finally:
            self.over.set()
            heart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heart
        reason = failed or self.draining or "no work"
        with contextlib.suppress(Refused, Unreachable, Untrusted):
            await self._ask("POST", "/api/pilot/goodbye", {"reason": reason[:1000]}, patience_s=10)
        return 1 if failed else 0

    def offer(self) -> dict[str, Any]:
        return {
            "cores": self.launch["cores"], "memory_bytes": self.launch["memory_bytes"],
            "disk_bytes": self.push["disk_bytes"], "wall_s": self.node_wall_s, "tags": self.launch.get("tags", []),
        }  # fmt: skip

    async def _take_jobs(self) -> None:
        idle_since = time.monotonic()
        while not self.draining:
            wait_s = min(LONG_POLL_S, self.launch["idle_s"])
            asked = {"offer": self.offer(), "max_jobs": self.push["jobs"], "wait_s": wait_s}
            try:
                answer = await self._ask(
                    "POST", "/api/pilot/match", asked, wait_s=wait_s, given_up=self.stopped.is_set,
                    patience_s=self.launch["idle_s"],
                )  # fmt: skip
            except GivenUp:
                return
            except Unreachable:
                self.draining = "no work, and the server is away"
                return
            if answer["jobs"]:
                await self._carry_out(answer["jobs"])
                idle_since = time.monotonic()
            if time.monotonic() - idle_since >= self.launch["idle_s"]:
                self.draining = self.draining or f"no work for {self.launch['idle_s']:.0f} s"

    # ------------------------------------------------------------------------------------------- a parcel's journey

    async def _carry_out(self, jobs: list[dict[str, Any]]) -> None:
        number = next(self._numbers)
        place = self.base / f"parcel-{number}"
        place.mkdir(mode=0o700)
        for job in jobs:
            self.held[_key(job)] = _usage(job, None)
        try:
            ready = await self._collect(jobs, place)
            if ready:
                await self._run(ready, place, number)
        finally:
            for job in jobs:
                self.held.pop(_key(job), None)
                self.lost.discard(_key(job))
            shutil.rmtree(place, ignore_errors=True)

    async def _collect(self, jobs: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
        """Those jobs whose inputs are all here. The others are told to have failed."""
        ready = []
        for job in jobs:
            try:
                lost = functools.partial(self._is_lost, job)
                await asyncio.to_thread(parcel.collect, self.server, job, _made(place / "inside"), lost)
                ready.append(job)
            except GivenUp:
                continue
            except (Fault, OSError) as error:
                await self._fail(job, error)
        return ready

    def _is_lost(self, job: dict[str, Any]) -> bool:
        return _key(job) in self.lost

    async def _fail(self, job: dict[str, Any], error: Exception) -> None:
        sentence = str(error) if isinstance(error, Fault) else told("collecting the inputs", error)
        _log.error("job %s.%s: %s", *_key(job), sentence)
        report = {
            "job_id": job["job_id"], "attempt": job["attempt"], "exit_code": None, "error": sentence,
            "missing": [], "outputs": [],
            "error_class": error.error_class if isinstance(error, Fault) else "site",
        }  # fmt: skip
        await self._tell(ENDED, report)

    async def _run(self, jobs: list[dict[str, Any]], place: Path, number: int) -> None:
        bundle = place / "spinor-pilot.pyz"
        await asyncio.to_thread(parcel.build, place / "inside", jobs, bundle)
        launch = PilotLaunch(
            # Numbers of parcels must not meet those of other pilots on the same element.
            pilot_id=self.launch["pilot_id"] * 1_000_000 + number, secret=secrets.token_urlsafe(32),
            url="https://offline.invalid", ca_pem="", vo=self.launch["vo"], cores=self.launch["cores"],
            memory_bytes=self.launch["memory_bytes"], wall_s=self.node_wall_s, tags=self.launch.get("tags", []),
            idle_s=self.launch["idle_s"], grace_s=self.launch["grace_s"], bundle=bundle, leaves=offline.RESULTS,
        )  # fmt: skip
        (submitted,) = await self.plugin.submit([launch])
        if submitted.external_id is None:
            raise NodeFailed(f"{self.push['element']['plugin']} refuses the pilot: {submitted.error}")
        _log.info("jobs %s are with %s", ", ".join(f"{job['job_id']}" for job in jobs), submitted.external_id)
        if await self._follow(submitted.external_id, jobs):
            await self._hand_on(submitted.external_id, jobs, place)

    async def _follow(self, external_id: str, jobs: list[dict[str, Any]]) -> bool:
        """Until the node's pilot has ended; False when nobody wants its results, and it is ended before."""
        submitted_at = time.monotonic()
        started_at: float | None = None
        while True:
            state = await self._state(external_id)
            if state is ElementState.RUNNING and started_at is None:
                started_at = time.monotonic()
                await self._tell_start(jobs)
            if state in _ENDED:
                return True
            waits_too_long = started_at is None and time.monotonic() - submitted_at > self.push["queue_s"]
            if self.stopped.is_set() or all(_key(job) in self.lost for job in jobs) or waits_too_long:
                await self._end(external_id)
                if waits_too_long and not self.draining:
                    raise NodeFailed(f"the pilot waited in the queue for more than {self.push['queue_s']} s")
                return False
            for job in jobs:
                self.held[_key(job)] = _usage(job, started_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.push["poll_s"]):
                    await self.news.wait()
            self.news.clear()

    async def _state(self, external_id: str) -> ElementState:
        try:
            return (await self.plugin.status([external_id])).get(external_id, ElementState.UNKNOWN)
        except SpinorError as error:
            # The element is asked again at the next round; the leases tell how long that makes sense.
            _log.warning("the state of %s is not known: %s", external_id, error)
            return ElementState.UNKNOWN

    async def _tell_start(self, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            with contextlib.suppress(Refused):  # The heartbeat hears of it, too.
                await self._tell(STARTED, {"job_id": job["job_id"], "attempt": job["attempt"]})

    async def _end(self, external_id: str) -> None:
        _log.info("%s is cancelled", external_id)
        end = time.monotonic() + GONE_S
        while time.monotonic() < end and await self._state(external_id) not in _ENDED:
            await self.plugin.cancel([external_id])
            await asyncio.sleep(0.5)

    async def _hand_on(self, external_id: str, jobs: list[dict[str, Any]], place: Path) -> None:
        assert isinstance(self.plugin, BringsFiles)
        archive, directory = place / "results.tar", place / "results"
        if not await self.plugin.bring(external_id, offline.RESULTS, archive):
            words = (await self.plugin.output([external_id])).get(external_id, "")
            raise NodeFailed(f"the pilot on the node has left nothing; its last words: {words[-500:]}")
        try:
            await asyncio.to_thread(results.unpack, archive, directory)
        except Fault as fault:
            raise NodeFailed(str(fault)) from fault
        for job in jobs:
            if _key(job) in self.lost:
                continue
            if not results.has_ended(directory, job):
                raise NodeFailed(f"the pilot on the node has left no report of job {job['job_id']}")
            try:
                ended = await asyncio.to_thread(results.hand_on, self.server, self.reports, job, directory)
                _log.info("job %s.%s: %s", *_key(job), ended)
            except Refused as refused:
                _log.error("job %s.%s: %s", *_key(job), refused)

    # ---------------------------------------------------------------------------------------------------- the heart

    async def _beat(self, heartbeat_s: float) -> None:
        while True:
            held = list(self.held.values())
            wait_s = min(heartbeat_s, 2.0) if held else heartbeat_s
            asked = {"held": held, "wait_s": wait_s}
            try:
                answer = await self._ask(
                    "POST", "/api/pilot/heartbeat", asked, wait_s=wait_s, given_up=self.over.is_set
                )
            except GivenUp:
                return
            except (Refused, Unreachable, Untrusted) as error:
                _log.error("this pilot ends: %s", error)
                self.lost |= self.held.keys()
                self.stop()
                return
            self.server.token = answer.get("token") or self.server.token
            for lost in answer["lost"]:
                _log.info("job %s.%s is taken away: %s", lost["job_id"], lost["attempt"], lost["reason"])
                self.lost.add((lost["job_id"], lost["attempt"]))
                self.news.set()
            if answer.get("drain"):
                self.draining = self.draining or "the server asks to drain"

    async def _tell(self, kind: str, report: dict[str, Any]) -> str:
        return await asyncio.to_thread(self.reports.tell, kind, report, self.over.is_set)

    async def _ask(self, method: str, path: str, body: Any, **more: Any) -> dict[str, Any]:
        return await asyncio.to_thread(self.server.json, method, path, body, **more)


def main() -> int:
    """`python -m spinor.pilots.push launch.json` in the pilot's own directory."""
    file = Path(sys.argv[1])
    launch = json.loads(file.read_text(encoding="utf-8"))
    lines = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    log_file = Path("pilot.log").absolute()
    for target in (logging.StreamHandler(), logging.FileHandler(log_file)):
        target.setFormatter(lines)
        _log.addHandler(target)
    _log.setLevel(logging.INFO)
    return asyncio.run(_serve(launch, file, log_file))


async def _serve(launch: dict[str, Any], file: Path, log_file: Path) -> int:
    try:
        agent = Agent(launch, Path.cwd())
    except SpinorError as error:
        _log.error("%s", error)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.stop)
    who = {"pilot_id": launch["pilot_id"], "secret": launch.pop("secret")}
    what = {
        "offer": agent.offer(),
        "node": {"hostname": socket.getfqdn(), "pushes_to": agent.push["element"]["plugin"]},
    }
    try:
        enrolled = await asyncio.to_thread(
            agent.server.json, "POST", "/api/pilot/enrol", {**who, **what}, patience_s=600.0
        )
    except (Refused, Unreachable, Untrusted) as error:
        _log.error("not enrolled: %s", error)
        return 4
    finally:
        await asyncio.to_thread(file.unlink, missing_ok=True)
    agent.server.token = enrolled["token"]
    sending = streams.Follower(
        [streams.Stream(log_file, streams.to_pilot_log(agent.server, lambda: False), whole=True)], "pilot-log"
    )
    sending.begin()
    code = await agent.work(enrolled["heartbeat_s"])
    await asyncio.to_thread(sending.finish, 10)
    return code


def _key(job: dict[str, Any]) -> tuple[int, int]:
    return job["job_id"], job["attempt"]


def _usage(job: dict[str, Any], started_at: float | None) -> dict[str, Any]:
    wall_s = 0.0 if started_at is None else time.monotonic() - started_at
    return {"job_id": job["job_id"], "attempt": job["attempt"], "cpu_s": 0.0, "wall_s": wall_s, "max_rss_bytes": 0}


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory
