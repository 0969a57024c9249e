"""Pilots as jobs of a Slurm cluster, by its REST service: for sites that let nobody run commands from outside.

The service does not hand out files, so what jobs have said is read where `directory` can be read: on this machine, or
on one that `host` and `ssh` name. Two dialects are spoken: that of 0.0.38 (Slurm 22.05 to 23.02), and that of 0.0.40
and later (from 23.11 on). A field that the service does not know is refused, since it would ignore it.
"""

import asyncio
import base64
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import httpx
import msgspec
from msgspec import Meta

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementRefused, ElementSettings, ElementUnavailable, PilotLaunch, Submitted
from spinor.pilots.plugins.connections import ClosedWhenCutOff
from spinor.pilots.plugins.options import check_name, options_of, secret_file, wrong
from spinor.pilots.plugins.slurm_jobs import (
    LAUNCH,
    Job,
    Listing,
    Names,
    RemotePath,
    Row,
    Wishes,
    is_passing,
    mebibytes,
    minutes,
    notice_s,
    numbers,
    outputs,
    script_of,
    settle,
    state_of,
)  # fmt: skip
from spinor.pilots.plugins.ssh_machine import Access, HostName, machine_for
from spinor.x509.tls import client_context

TIMEOUT_S = 20.0
CALLS_AT_ONCE = 8
SINGLY = 50  # Up to so many jobs are asked for one by one; the list of all jobs may be long.
OLD, NEW, NEWEST = 38, 40, 44  # Versions 0.0.x. In between there is only one that services with both neighbours have.
VERSION_S = 3600.0  # So long a service is taken to speak what it spoke.
POLL_S = 0.5
# Properties of a job that options of their own stand for, or that the plugin decides.
OURS = frozenset({
    "account", "argv", "array", "begin_time", "constraints", "comment", "current_working_directory", "dependency",
    "environment", "exclusive", "gres", "hold", "name", "open_mode", "partition", "priority", "qos", "requeue",
    "reservation", "script", "standard_error", "standard_input", "standard_output", "time_limit", "user_id", "group_id",
})  # fmt: skip
_SUBMIT_PATH = re.compile(r"/slurm/v0\.0\.([0-9]+)/job/submit/?")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NO_SUCH_JOB = (2017, 9003)
_HELD = 2042  # Told as an error of a job that was to be held.

_versions: dict[str, tuple[float, int]] = {}


class Options(Wishes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]
    user: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    token_file: str  # In secrets/computing; read anew for each call.
    ca_file: RemotePath | None = None
    extra: dict[str, Any] = msgspec.field(
        default_factory=dict
    )  # Further properties of the jobs, as the service calls them.
    host: HostName | None = None  # Where the outputs can be read; without it, on this machine.
    ssh: Access | None = None


class SlurmRestComputing:
    """A Slurm cluster. A pilot is called by the number of its job."""

    name: ClassVar[str] = "slurmrestd"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options_of(element, Options)
        parts = urlsplit(self.options.url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise wrong(element, "url must begin with https://, as it carries a token")
        for name in self.options.extra:
            if name in OURS:
                raise wrong(element, f"extra.{name} is said by the plugin itself, or has an option of its own")
        check_name(element, "token_file", self.options.token_file)
        self._element = element
        self._machine = machine_for(element, self.options.ssh, self.options.host or "", {})
        self._names = Names(element)
        self._context = client_context(self.options.ca_file)

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        if not pilots:
            return []
        names = {self._names.of(launch): launch for launch in pilots}
        async with self._talk() as talk:
            there = {job.name for job in await self._listed(talk)}
            missing = {name: launch for name, launch in names.items() if name not in there}
            refused = await self._submit(talk, missing) if missing else {}
            jobs = [job for job in await self._listed(talk) if job.name in names and job.name not in refused]
            chosen = await self._settle(talk, jobs)
        return [
            Submitted(
                pilot_id=launch.pilot_id,
                external_id=str(chosen[name].job_id) if name in chosen else None,
                error="" if name in chosen else refused.get(name, "the job is gone again"),
            )
            for name, launch in names.items()
        ]

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        """Of those that the controller remembers; it forgets a job some minutes after its end."""
        if not pilot_ids:
            return {}
        async with self._talk() as talk:
            jobs = [job for job in await self._listed(talk) if self._names.pilot(job.name) in set(pilot_ids)]
            chosen = await self._settle(talk, jobs)
        found = {self._names.pilot(job.name): str(job.job_id) for job in sorted(chosen.values())}
        return {pilot: number for pilot, number in found.items() if pilot is not None}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        wanted = set(numbers(external_ids))
        if not wanted:
            return {}
        async with self._talk() as talk:
            jobs = await self._known(talk, wanted)
            hopeless = [number for number, job in jobs.items() if job is not None and job.is_hopeless]
            await talk.each(hopeless, talk.cancel)
        vanished = ElementState.VANISHED
        return {str(number): vanished if job is None else state_of(job) for number, job in jobs.items()}

    async def cancel(self, external_ids: Sequence[str]) -> None:
        """The pilot alone gets a SIGTERM where the service can do that; then Slurm ends the whole job."""
        wanted = set(numbers(external_ids))
        if not wanted:
            return
        async with self._talk() as talk:
            alive = _alive(await self._known(talk, wanted))
            running = [number for number, state in alive.items() if state is ElementState.RUNNING]
            if talk.version >= NEW and running:
                await talk.ask("DELETE", "/jobs/", {"jobs": [str(n) for n in running], "signal": "TERM",
                                                    "flags": ["BATCH_JOB"]})  # fmt: skip
                end = time.monotonic() + self.options.grace_s
                while running and time.monotonic() < end:
                    await asyncio.sleep(POLL_S)
                    running = list(_alive(await self._known(talk, set(running))))
            waiting = [number for number, state in alive.items() if state is not ElementState.RUNNING]
            await talk.each([*waiting, *running], talk.cancel)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        wanted = set(numbers(external_ids))
        if not wanted:
            return {}
        async with self._talk() as talk:
            jobs = await self._known(talk, wanted)
        return await outputs(self._machine, self.options.directory, [job for job in jobs.values() if job is not None])

    # ---------------------------------------------------------------------------------------------------- submitting

    async def _submit(self, talk: "_Talk", missing: Mapping[str, PilotLaunch]) -> dict[str, str]:
        """Submit held jobs; what the service says of those that it refuses, by name."""
        bundle = await asyncio.to_thread(next(iter(missing.values())).bundle.read_bytes)
        script = script_of(self.options, bundle)
        refused: dict[str, str] = {}

        async def one(name: str) -> None:
            job = (_new_job if talk.version >= NEW else _old_job)(self.options, name, missing[name])
            body = {"job": {**job, "script": script}} if talk.version >= NEW else {"script": script, "job": job}
            try:
                told = await talk.ask("POST", "/job/submit", body)
            except ElementRefused as error:
                refused[name] = error.message
                return
            ignored = [w for w in told.get("warnings") or [] if "unknown field" in str(w.get("description", ""))]
            if ignored:
                await talk.cancel(told["job_id"])
                refused[name] = f"slurmrestd does not know the field {ignored[0].get('source')}"

        await talk.each(list(missing), one)
        return refused

    async def _settle(self, talk: "_Talk", jobs: Iterable[Job]) -> dict[str, Job]:
        settled = settle(jobs)
        await talk.each(settled.cancel, talk.cancel)
        await talk.each(settled.release, talk.release)
        return settled.chosen

    # -------------------------------------------------------------------------------------------------------- looking

    async def _listed(self, talk: "_Talk") -> list[Job]:
        rows = await talk.every()
        # There may be a hundred thousand of them, and others wait for their turn meanwhile.
        return await asyncio.to_thread(lambda: [job for each in rows if (job := self._job(each)) is not None])

    async def _known(self, talk: "_Talk", wanted: set[int]) -> dict[int, Job | None]:
        """Of each the job, or None when it is certain that none of ours has that number."""
        known: dict[int, Job | None] = {}
        if len(wanted) > SINGLY:
            known |= {job.job_id: job for job in await self._listed(talk) if job.job_id in wanted}

        async def one(number: int) -> None:
            told = await talk.ask("GET", f"/job/{number}", none_is_fine=True)
            if told is None:
                # What the controller has no more is over. How it ended is not worth an error.
                with contextlib.suppress(SpinorError):
                    told = await talk.ask("GET", f"/job/{number}", none_is_fine=True, system="slurmdb")
            rows = told.get("jobs") if told else None
            jobs = [job for each in rows or [] if (job := self._job(each)) is not None]
            known[number] = jobs[-1] if jobs else None

        await talk.each([number for number in wanted if number not in known], one)
        return known

    def _job(self, told: Mapping[str, Any]) -> Job | None:
        """A job as any version tells of it, also the database's; None when it is none of ours."""
        name = str(told.get("name", ""))
        if self._names.pilot(name) is None:
            return None
        state, reason = told.get("job_state"), told.get("state_reason")
        if state is None:
            in_accounting = told.get("state") or {}
            state, reason = in_accounting.get("current"), in_accounting.get("reason")
        states = tuple(map(str, state)) if isinstance(state, list) else (str(state),)
        return Job(int(told["job_id"]), name, states, str(reason or ""))

    @contextlib.asynccontextmanager
    async def _talk(self) -> AsyncIterator["_Talk"]:
        token = await asyncio.to_thread(self._token)
        headers = {"X-SLURM-USER-NAME": self.options.user, "X-SLURM-USER-TOKEN": token}
        async with httpx.AsyncClient(
            base_url=self.options.url, headers=headers, verify=self._context, timeout=TIMEOUT_S, trust_env=False
        ) as client:
            talk = _Talk(client, self.options.url)
            await talk.agree()
            yield talk

    def _token(self) -> str:
        path = secret_file(self._element, "token_file", self.options.token_file)
        token = path.read_text().strip().removeprefix("SLURM_JWT=")
        ends = _ends_at(token)
        if ends is not None and ends < time.time():
            then = datetime.fromtimestamp(ends, UTC)
            raise ElementRefused(f"The token in {path.name} ended at {then:%Y-%m-%d %H:%M} UTC; put a new one there.")
        return token


class _Talk:
    """A few calls of the service one after the other, in the version that it and we know."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client, self._url = client, url
        self._room = asyncio.Semaphore(CALLS_AT_ONCE)
        self.version = OLD

    async def agree(self) -> None:
        since, version = _versions.get(self._url, (-VERSION_S, 0))
        if time.monotonic() - since > VERSION_S:
            paths: dict[str, Any] = (await self._call("GET", "/openapi/v3")).get("paths") or {}
            spoken = {int(found[1]) for path in paths if (found := _SUBMIT_PATH.fullmatch(path))}
            known = {number for number in spoken if number == OLD or number >= NEW}
            if not known:
                told = ", ".join(f"0.0.{number}" for number in sorted(spoken)) or "none"
                raise ElementRefused(
                    f"slurmrestd at {self._url} speaks the versions {told}; needed is 0.0.38 or 0.0.40"
                )
            version = max((number for number in known if number <= NEWEST), default=min(known))
            _versions[self._url] = (time.monotonic(), version)
        self.version = version

    async def each(self, things: Sequence[Any], call: Any) -> None:
        """A call for each of these, some at a time; all are made before the first error is raised."""

        async def one(thing: Any) -> None:
            async with self._room:
                await call(thing)

        outcomes = await asyncio.gather(*(one(thing) for thing in things), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def every(self) -> Sequence[Row]:
        """All jobs of the cluster, whoever's they are, and no more of each than we read."""
        path = f"/slurm/v0.0.{self.version}/jobs" + ("/" if self.version >= NEW else "")
        told: Listing = await self._call("GET", path, of=Listing)
        if "jobs" not in told:  # Whoever took that for no jobs would submit those that there are once more.
            raise ElementUnavailable(f"slurmrestd at {self._url} answers {path} with no list of jobs.")
        return told["jobs"] or []

    async def cancel(self, number: int) -> None:
        await self.ask("DELETE", f"/job/{number}", none_is_fine=True)

    async def release(self, number: int) -> None:
        body: dict[str, Any] = {"hold": False} | ({} if self.version >= NEW else {"environment": {}})
        await self.ask("POST", f"/job/{number}", body, none_is_fine=True)

    async def ask(
        self, method: str, path: str, body: object = None, *, none_is_fine: bool = False, system: str = "slurm"
    ) -> Any:
        """None when there is none and that is fine."""
        return await self._call(method, f"/{system}/v0.0.{self.version}{path}", body, none_is_fine=none_is_fine)

    async def _call(
        self, method: str, path: str, body: object = None, *, none_is_fine: bool = False, of: Any = Any
    ) -> Any:
        try:
            answer = await self._client.request(method, path, json=body, extensions={"trace": ClosedWhenCutOff()})
        except httpx.HTTPError as error:
            raise ElementUnavailable(
                f"slurmrestd at {self._url} does not answer: {error or type(error).__name__}"
            ) from error
        try:
            told = msgspec.json.decode(answer.content, type=of)
        except msgspec.DecodeError:
            told = {}
        errors = [each for each in told.get("errors") or [] if each.get("error_code") != _HELD] if told else []
        errors = [each for each in errors if each.get("error_number") != _HELD]
        if none_is_fine and any(each.get("error_number") in _NO_SUCH_JOB for each in errors):
            return None
        if answer.status_code == httpx.codes.OK and not errors:
            return told
        words = "; ".join(filter(None, (str(e.get("description") or e.get("error") or "") for e in errors)))
        raise _trouble(answer.status_code, f"slurmrestd at {self._url}: {words or answer.reason_phrase}", path)


def _trouble(status: int, message: str, path: str) -> SpinorError:
    if status == httpx.codes.NOT_FOUND:
        _versions.clear()  # Perhaps the site has a newer Slurm, without this version.
        return ElementUnavailable(f"{message} ({path})")
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return ElementRefused(f"{message}; is the token of this user?")
    if path.endswith("/job/submit") and not is_passing(message):
        return ElementRefused(message)
    return ElementUnavailable(message)


def _alive(jobs: Mapping[int, Job | None]) -> dict[int, ElementState]:
    states = {number: state_of(job) for number, job in jobs.items() if job is not None}
    return {n: state for n, state in states.items() if state not in (ElementState.DONE, ElementState.FAILED)}


def _ends_at(token: str) -> float | None:
    """When a token ends; None when it does not say so."""
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError, msgspec.DecodeError):
        middle = token.split(".")[1]
        return float(msgspec.json.decode(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["exp"])
    return None


def _wished(wishes: Options, name: str, launch: PilotLaunch) -> dict[str, Any]:
    """What both dialects say alike."""
    job: dict[str, Any] = {
        "name": name, "comment": f"a pilot for {launch.url}", "hold": True, "requeue": False, "tasks": 1,
        "cpus_per_task": launch.cores, "current_working_directory": "/", "standard_input": "/dev/null",
        "standard_output": f"{wishes.directory}/{name}.out",
    }  # fmt: skip
    chosen = {"partition": wishes.partition, "account": wishes.account, "qos": wishes.qos}
    chosen |= {"reservation": wishes.reservation, "constraints": wishes.constraint}
    return job | {field: value for field, value in chosen.items() if value}


def _old_job(wishes: Options, name: str, launch: PilotLaunch) -> dict[str, Any]:
    job = _wished(wishes, name, launch)
    job |= {"environment": {LAUNCH: launch.launch_file().decode()}, "time_limit": minutes(launch), "nodes": [1, 1]}
    job |= {"open_mode": "append"}
    if wishes.memory:
        job["memory_per_node"] = mebibytes(launch)
    if wishes.exclusive:
        job["exclusive"] = "exclusive"  # Its specification says "true", and it does not take that.
    if wishes.gres:
        job["gres"] = wishes.gres
    return job | wishes.extra


def _new_job(wishes: Options, name: str, launch: PilotLaunch) -> dict[str, Any]:
    def number(value: int) -> dict[str, Any]:
        return {"set": True, "number": value}

    job = _wished(wishes, name, launch)
    job |= {"environment": [f"{LAUNCH}={launch.launch_file().decode()}"], "time_limit": number(minutes(launch))}
    job |= {"minimum_nodes": 1, "maximum_nodes": 1, "open_mode": ["APPEND"]}
    job |= {"kill_warning_signal": "TERM", "kill_warning_delay": number(notice_s(launch))}
    job |= {"kill_warning_flags": ["BATCH_JOB"]}
    if wishes.memory:
        job["memory_per_node"] = number(mebibytes(launch))
    if wishes.exclusive:
        job["shared"] = ["none"]
    if wishes.gres:
        job["tres_per_node"] = ",".join(f"gres/{each.removeprefix('gres/')}" for each in wishes.gres.split(","))
    return job | wishes.extra
