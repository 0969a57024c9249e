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
import traceback
from pathlib import Path
from typing import Any

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementSettings, PilotLaunch, plugin_named
from spinor.pilots.push import behind, parcel, results
from spinor_pilot import offline, streams
from spinor_pilot.endings import STALE
from spinor_pilot.faults import Fault, told
from spinor_pilot.payload import RETURN_S
from spinor_pilot.pilot import LEAST_OFFER_S
from spinor_pilot.reports import ENDED, NOT_HEARD, RETURNED, STARTED, Reports
from spinor_pilot.server import GivenUp, Refused, Server, Unreachable, Untrusted
from spinor_pilot.slot import MARGIN_S

LONG_POLL_S = 20.0

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
        self.behind = behind.Behind(plugin_named(inner["plugin"])(settings), self.push["poll_s"])
        self.ends: float = time.monotonic() + launch["wall_s"]  # A little later the factory cancels it.
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
        except Exception as error:  # noqa: BLE001 - the good-bye must give back its jobs, whatever this was
            failed = told("carrying out jobs", error)
            _log.error("the pilot itself failed\n%s", traceback.format_exc())
        finally:
            self.over.set()
            heart.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heart
        reason = failed or self.draining or "no work"
        with contextlib.suppress(Refused, Unreachable, Untrusted):
            await self._ask("POST", "/api/pilot/goodbye", {"reason": reason[:1000]}, patience_s=10)
        return 1 if failed else 0

    def wall_s(self) -> int:
        """What is left for a pilot that is submitted now and waits for its node as long as it may."""
        return max(0, int(self.ends - time.monotonic() - self.push["queue_s"]))

    def offer(self, wall_s: int) -> dict[str, Any]:
        """For jobs of a pilot that has `wall_s` on its node."""
        return {
            "cores": self.launch["cores"], "memory_bytes": self.launch["memory_bytes"],
            "disk_bytes": self.push["disk_bytes"], "wall_s": max(0, wall_s - int(MARGIN_S)),
            "tags": self.launch.get("tags", []),
        }  # fmt: skip

    async def _take_jobs(self) -> None:
        idle_since = time.monotonic()
        while not self.draining:
            wait_s = min(LONG_POLL_S, self.launch["idle_s"])
            wall_s = self.wall_s()
            offer = self.offer(wall_s)
            if offer["wall_s"] < LEAST_OFFER_S:
                self.draining = self.draining or "its wall time is nearly over"
                return
            asked = {"offer": offer, "max_jobs": self.push["jobs"], "wait_s": wait_s}
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
                await self._carry_out(answer["jobs"], wall_s)
                idle_since = time.monotonic()
            if time.monotonic() - idle_since >= self.launch["idle_s"]:
                self.draining = self.draining or f"no work for {self.launch['idle_s']:.0f} s"

    # ------------------------------------------------------------------------------------------- a parcel's journey

    async def _carry_out(self, jobs: list[dict[str, Any]], wall_s: int) -> None:
        number = next(self._numbers)
        place = self.base / f"parcel-{number}"
        place.mkdir(mode=0o700)
        for job in jobs:
            self.held[_key(job)] = _usage(job, None)
        try:
            ready = await self._collect(jobs, place)
            if ready and self.stopped.is_set():
                await self._return(ready)
            elif ready:
                await self._run(ready, place, self._launch(number, wall_s))
        finally:
            for job in jobs:
                self.held.pop(_key(job), None)
                self.lost.discard(_key(job))
            shutil.rmtree(place, ignore_errors=True)

    async def _collect(self, jobs: list[dict[str, Any]], place: Path) -> list[dict[str, Any]]:
        """Those jobs whose inputs are all here. The others are told to have failed."""
        inside, ready = _made(place / "inside"), []
        for job in jobs:
            try:
                lost = functools.partial(self._is_lost, job)
                await asyncio.to_thread(parcel.check_room, job, inside, self.push["disk_bytes"])
                await asyncio.to_thread(parcel.collect, self.server, job, inside, lost)
                ready.append(job)
            except GivenUp:
                continue
            except Refused as refused:
                if refused.code not in STALE:  # Else it is not ours any more.
                    await self._fail(job, refused)
            except (Fault, OSError) as error:
                await self._fail(job, error)
        # Others' inputs may have taken hours.
        return [job for job in ready if not self._is_lost(job)]

    def _is_lost(self, job: dict[str, Any]) -> bool:
        return _key(job) in self.lost

    def _wanted(self, jobs: list[dict[str, Any]]) -> bool:
        return not self.stopped.is_set() and not all(self._is_lost(job) for job in jobs)

    async def _fail(self, job: dict[str, Any], error: Exception) -> None:
        sentence = str(error) if isinstance(error, Fault) else told("collecting the inputs", error)
        _log.error("job %s.%s: %s", *_key(job), sentence)
        report = {
            "job_id": job["job_id"], "attempt": job["attempt"], "exit_code": None, "error": sentence,
            "missing": [], "outputs": [],
            "error_class": error.error_class if isinstance(error, Fault) else "site",
        }  # fmt: skip
        with contextlib.suppress(Refused):  # It is somebody else's now, and other jobs of the parcel are not.
            await self._tell(ENDED, report)

    async def _return(self, jobs: list[dict[str, Any]]) -> None:
        """Jobs that never began wait again, and that is not counted as a try."""
        for job in jobs:
            if self._is_lost(job):
                continue
            ref = {"job_id": job["job_id"], "attempt": job["attempt"]}
            try:
                await asyncio.to_thread(self.reports.tell_within, RETURNED, ref, RETURN_S)
            except NOT_HEARD as error:
                _log.warning("job %s.%s was not given back: %s", *_key(job), error)

    def _launch(self, number: int, wall_s: int) -> PilotLaunch:
        return PilotLaunch(
            # Numbers of parcels must not meet those of other pilots on the same element.
            pilot_id=self.launch["pilot_id"] * 1_000_000 + number, secret=secrets.token_urlsafe(32),
            url="https://offline.invalid", ca_pem="", vo=self.launch["vo"], cores=self.launch["cores"],
            memory_bytes=self.launch["memory_bytes"], wall_s=wall_s, tags=self.launch.get("tags", []),
            idle_s=self.launch["idle_s"], grace_s=self.launch["grace_s"],
            bundle=self.base / f"parcel-{number}" / "spinor-pilot.pyz", leaves=offline.RESULTS,
        )  # fmt: skip

    async def _run(self, jobs: list[dict[str, Any]], place: Path, launch: PilotLaunch) -> None:
        await asyncio.to_thread(parcel.build, place / "inside", jobs, launch.bundle)
        try:
            submitted = await self.behind.submit(launch, functools.partial(self._wanted, jobs))
        except SpinorError:
            await self._return(jobs)
            raise
        external_id = submitted.external_id
        if external_id is None:
            await self._return(jobs)
            raise NodeFailed(f"{self.push['element']['plugin']} refuses the pilot: {submitted.error}")
        _log.info("jobs %s are with %s", ", ".join(f"{job['job_id']}" for job in jobs), external_id)
        try:
            has_ended = await self._follow(external_id, jobs)
        except NodeFailed:
            raise
        except Exception:  # Nobody would follow it any more.
            await self.behind.end(external_id)
            raise
        if has_ended:
            await self._hand_on(external_id, jobs, place)

    async def _follow(self, external_id: str, jobs: list[dict[str, Any]]) -> bool:
        """Until the node's pilot has ended; False when nobody wants its results, and it is ended before."""
        submitted_at = time.monotonic()
        started_at: float | None = None
        while True:
            state = await self.behind.state(external_id)
            if state is ElementState.RUNNING and started_at is None:
                started_at = time.monotonic()
                await self._tell_start(jobs)
            if state in behind.ENDED:
                return True
            waits_too_long = started_at is None and time.monotonic() - submitted_at > self.push["queue_s"]
            if waits_too_long or not self._wanted(jobs):
                await self.behind.end(external_id)
                if started_at is None:
                    await self._return(jobs)
                if waits_too_long and not self.draining:
                    raise NodeFailed(f"the pilot waited in the queue for more than {self.push['queue_s']} s")
                return False
            for job in jobs:
                self.held[_key(job)] = _usage(job, started_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.push["poll_s"]):
                    await self.news.wait()
            self.news.clear()

    async def _tell_start(self, jobs: list[dict[str, Any]]) -> None:
        for job in jobs:
            with contextlib.suppress(Refused):  # The heartbeat hears of it, too.
                await self._tell(STARTED, {"job_id": job["job_id"], "attempt": job["attempt"]})

    async def _hand_on(self, external_id: str, jobs: list[dict[str, Any]], place: Path) -> None:
        archive, directory = place / "results.tar", place / "results"
        wanted = functools.partial(self._wanted, jobs)
        if not await self.behind.bring(external_id, offline.RESULTS, archive, wanted):
            words = await self.behind.last_words(external_id)
            raise NodeFailed(f"the pilot on the node has left nothing; its last words: {words}")
        try:
            await asyncio.to_thread(results.unpack, archive, directory)
        except Fault as fault:
            raise NodeFailed(str(fault)) from fault
        silent = []
        for job in jobs:
            if self._is_lost(job):
                continue
            if not results.has_ended(directory, job):
                silent.append(str(job["job_id"]))
                continue
            try:
                ended = await asyncio.to_thread(results.hand_on, self.server, self.reports, job, directory)
                _log.info("job %s.%s: %s", *_key(job), ended)
            except Refused as refused:
                _log.error("job %s.%s: %s", *_key(job), refused)
        if silent:
            raise NodeFailed(f"the pilot on the node has left no report of job {', '.join(silent)}")

    # ---------------------------------------------------------------------------------------------------- the heart

    async def _beat(self, heartbeat_s: float) -> None:
        try:
            await self._keep_leases(heartbeat_s)
        except GivenUp:
            return
        except Exception as error:  # noqa: BLE001 - without it all leases run out, so nobody may go on
            _log.error("this pilot ends: %s", error)
            self.lost |= self.held.keys()
            self.draining = self.draining or f"the heartbeat ended: {error}"
            self.stop()

    async def _keep_leases(self, heartbeat_s: float) -> None:
        while True:
            held = list(self.held.values())
            wait_s = min(heartbeat_s, 2.0) if held else heartbeat_s
            asked = {"held": held, "wait_s": wait_s}
            answer = await self._ask("POST", "/api/pilot/heartbeat", asked, wait_s=wait_s, given_up=self.over.is_set)
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
        "offer": agent.offer(agent.wall_s()),
        # No hostname: jobs that fail on any of the nodes would be counted as failures of this one machine.
        "node": {"hostname": "", "worker": socket.getfqdn(), "pushes_to": agent.push["element"]["plugin"]},
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
