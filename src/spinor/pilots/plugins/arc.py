"""Pilots as jobs of an ARC computing element, through A-REX's REST interface, with a token or with a proxy.

`external_id` is A-REX's own. A job's name says whose pilot it is: `spinor-<service>-<pilot>-<mark>`.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from xml.sax.saxutils import escape

import msgspec

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementRefused, ElementSettings, PilotLaunch, Submitted
from spinor.pilots.plugins.arc_rest import Access, Rest, connected
from spinor.pilots.plugins.files import OUTPUT_BYTES, START_SCRIPT, tail, together
from spinor.pilots.plugins.options import PilotOptions, options_of, secret_file, wrong

_ID = re.compile(r"[A-Za-z0-9]{8,200}")
_END = re.compile(rb"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z) Job state change [A-Z]+ -> FINISHED\b", re.MULTILINE)
# A job's time of submission has whole seconds: a second later, everybody sees the same jobs of that second.
_TIE_S = 1.2
_START, _LAUNCH, _OUT, _ERR = "start.sh", "launch.json", "stdout", "stderr"
_STATES = {
    **dict.fromkeys(["ACCEPTING", "ACCEPTED", "PREPARING", "PREPARED", "SUBMITTING", "QUEUING"], ElementState.WAITING),
    **dict.fromkeys(
        ["RUNNING", "HELD", "EXITINGLRMS", "OTHER", "EXECUTED", "FINISHING", "KILLING"], ElementState.RUNNING
    ),
    "FINISHED": ElementState.DONE,
    "FAILED": ElementState.FAILED,
    "KILLED": ElementState.FAILED,
    "WIPED": ElementState.VANISHED,
}
_BEFORE_FILES = ("ACCEPTING", "ACCEPTED", "PREPARING")
_ENDED = ("FINISHED", "FAILED", "KILLED")
_ADL = """<?xml version="1.0" encoding="UTF-8"?>
<ActivityDescription xmlns="http://www.eu-emi.eu/es/2010/12/adl"
 xmlns:nordugrid-adl="http://www.nordugrid.org/es/2011/12/nordugrid-adl">
<ActivityIdentification><Name>{name}</Name></ActivityIdentification>
<Application>
<Executable><Path>{start}</Path><Argument>{python}</Argument><Argument>{bundle}</Argument>
<FailIfExitCodeNotEqualTo>0</FailIfExitCodeNotEqualTo></Executable>
<Output>{out}</Output><Error>{err}</Error>{environment}
</Application>
<Resources>{runtimes}
<SlotRequirement><NumberOfSlots>{cores}</NumberOfSlots><SlotsPerHost>{cores}</SlotsPerHost></SlotRequirement>{queue}
<IndividualPhysicalMemory>{memory}</IndividualPhysicalMemory>
<WallTime>{wall}</WallTime><IndividualCPUTime>{cpu}</IndividualCPUTime><TotalCPUTime>{cpu}</TotalCPUTime>
</Resources>
<DataStaging>{delegation}
<InputFile><Name>{start}</Name><IsExecutable>true</IsExecutable></InputFile>
<InputFile><Name>{bundle}</Name></InputFile>
<InputFile><Name>{launch}</Name></InputFile>
<OutputFile><Name>{out}</Name></OutputFile>
<OutputFile><Name>{err}</Name></OutputFile>{leaves}
</DataStaging>
</ActivityDescription>
"""


class Options(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str  # https://arc.example:443/arex
    queue: str = ""
    token_file: str = ""  # Below the place of secrets, and read again for each use; so are the next two.
    proxy_file: str = ""
    ca: str = ""  # A file or a directory of authorities, also elsewhere; otherwise the system's.
    delegate: bool = True  # With a proxy: the element gets one of its own.
    runtime_environments: list[str] = msgspec.field(default_factory=list)  # "ENV/PROXY", "APPS/HEP/ATLAS-SITE 1.0".
    python: str = "python3"  # On the worker node.
    keep_s: int = 86_400  # How long ended jobs stay on the element, for their output.


class Known(NamedTuple):
    """A job of this account on the element; what never changes of it."""

    name: str
    submitted_at: str
    ended_at: str = ""  # Only where it has been asked for.


class Delegation(NamedTuple):
    number: str
    until: float  # On the monotonic clock.


# What A-REX can only tell by a call for each job, and what outlives a round: by the element and who asks there.
_known: dict[tuple[str, Path | None, Path | None], dict[str, Known]] = {}
_delegations: dict[tuple[str, str], Delegation] = {}


class ARCComputing:
    """A computing element with A-REX in front."""

    name: ClassVar[str] = "arc"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options = options_of(element, Options)
        if not options.url.startswith("https://"):
            raise wrong(element, "url must begin with https://")
        if not options.token_file and not options.proxy_file:
            raise wrong(element, "one of token_file and proxy_file is needed")
        token, proxy = (
            secret_file(element, option, getattr(options, option)) if getattr(options, option) else None
            for option in ("token_file", "proxy_file")
        )
        self.access = Access(options.url, token, proxy, element.secrets / options.ca if options.ca else None)
        self.prefix = f"spinor-{hashlib.sha256(element.url.encode()).hexdigest()[:8]}-"

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        if not pilots:
            return []
        named = {self._job_name(pilot): pilot for pilot in pilots}
        async with connected(self.access) as rest:
            await self._sweep(rest)
            there = _firsts(await self._ours(rest))
            missing = {name: pilot for name, pilot in named.items() if name not in there}
            errors = await self._create(rest, missing)
            if missing:
                # Another worker may have done the same, or we ourselves when an answer was lost: the oldest job counts,
                # and gets its files only now. The others have none, so they never begin.
                await asyncio.sleep(_TIE_S)
                jobs = await self._ours(rest)
                there |= _firsts(jobs)
                await rest.ask("clean", [e for e, job in jobs.items() if job.name in missing and there[job.name] != e])
            await self._give_files(rest, {there[name]: pilot for name, pilot in named.items() if name in there})
        return [
            Submitted(pilot_id=pilot.pilot_id, external_id=there[name])
            if name in there
            else Submitted(pilot_id=pilot.pilot_id, error=errors.get(name, "the job is gone again"))
            for name, pilot in named.items()
        ]

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        if not pilot_ids:
            return {}
        async with connected(self.access) as rest:
            jobs = await self._ours(rest)
        wanted = {f"{self.prefix}{pilot_id}": pilot_id for pilot_id in pilot_ids}
        # The newest comes last and stays: numbers begin anew when a service is installed anew.
        ordered = sorted(jobs.items(), key=lambda item: item[1].submitted_at)
        return {wanted[key]: job_id for job_id, job in ordered if (key := job.name.rpartition("-")[0]) in wanted}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        async with connected(self.access) as rest:
            told = await rest.ask("status", _proper(external_ids))
        return {each: state_of(told.get(each)) for each in external_ids}

    async def cancel(self, external_ids: Sequence[str]) -> None:
        async with connected(self.access) as rest:
            await rest.ask("kill", await self._only_ours(rest, external_ids))

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        """Both streams, and what A-REX says went wrong."""
        async with connected(self.access) as rest:
            ids = await self._only_ours(rest, external_ids)
            return dict(zip(ids, await together(*(_words(rest, each) for each in ids)), strict=True))

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        async with connected(self.access) as rest:
            ours = await self._only_ours(rest, [external_id])
            return bool(ours) and await rest.download(external_id, f"session/{name}", target)

    # ------------------------------------------------------------------------------------------------------ details

    async def _create(self, rest: Rest, pilots: Mapping[str, PilotLaunch]) -> dict[str, str]:
        """New jobs, which wait for their files; of those that are refused, why, by name."""
        if not pilots:
            return {}
        delegation = await self._delegation(rest)
        told = await together(
            *(rest.create(self._description(name, pilot, delegation)) for name, pilot in pilots.items())
        )
        return {name: error for name, (_, error) in zip(pilots, told, strict=True) if error}

    async def _give_files(self, rest: Rest, pilots: Mapping[str, PilotLaunch]) -> None:
        """To those that still wait for theirs; whoever made the job may have been killed before that."""
        told = await rest.ask("status", list(pilots))

        async def give(job_id: str, pilot: PilotLaunch) -> None:
            await rest.upload(job_id, _START, START_SCRIPT)
            await rest.upload(job_id, pilot.bundle.name, pilot.bundle)
            await rest.upload(job_id, _LAUNCH, pilot.launch_file())

        waiting = [each for each in pilots if told.get(each, {}).get("state") in _BEFORE_FILES]
        given = await together(*(give(each, pilots[each]) for each in waiting), return_exceptions=True)
        for error in given:
            # A job that got its files from another worker meanwhile takes no more.
            if isinstance(error, BaseException) and not isinstance(error, ElementRefused):
                raise error

    async def _ours(self, rest: Rest) -> dict[str, Known]:
        """All jobs of this service that the element has, by id. Each is asked for its name once."""
        known = self._remembered()
        ids = await rest.job_ids()
        for gone in known.keys() - set(ids):
            del known[gone]
        missing = [each for each in ids if each not in known]
        local = await together(*(rest.tail(each, "diagnose/local", OUTPUT_BYTES) for each in missing))
        for each, text in zip(missing, local, strict=True):
            facts = dict(line.split("=", 1) for line in text.decode(errors="replace").splitlines() if "=" in line)
            if "starttime" in facts:  # Otherwise it is just coming, or going.
                known[each] = Known(facts.get("jobname", ""), facts["starttime"])
        return {each: known[each] for each in ids if each in known and known[each].name.startswith(self.prefix)}

    async def _only_ours(self, rest: Rest, external_ids: Sequence[str]) -> list[str]:
        proper = _proper(external_ids)
        ours = await self._ours(rest) if proper else {}
        return [each for each in proper if each in ours]

    async def _sweep(self, rest: Rest) -> None:
        """Clean what ended long ago. Jobs are asked for when they were submitted longer ago than they are kept."""
        limit = datetime.fromtimestamp(time.time() - self.options.keep_s, UTC).strftime("%Y%m%d%H%M%SZ")
        ours = await self._ours(rest)
        old = [each for each, job in ours.items() if job.submitted_at < limit]
        told = await rest.ask("status", old)
        ended = [each for each in old if told.get(each, {}).get("state") in _ENDED]
        known = self._remembered()
        unread = [each for each in ended if not ours[each].ended_at]
        for each, ended_at in zip(unread, await together(*(_ended_at(rest, each) for each in unread)), strict=True):
            known[each] = ours[each] = ours[each]._replace(ended_at=ended_at)
        # What does not tell its end is left to A-REX, which keeps nothing for ever.
        await rest.ask("clean", [each for each in ended if "" < ours[each].ended_at <= limit])

    def _remembered(self) -> dict[str, Known]:
        return _known.setdefault((self.access.url, self.access.token, self.access.proxy), {})

    async def _delegation(self, rest: Rest) -> str:
        """One credential for all pilots of this element, made anew at half of its life."""
        if self.access.proxy is None or not self.options.delegate:
            return ""
        key = (self.access.url, str(self.access.proxy))
        found = _delegations.get(key)
        if found is None or found.until < time.monotonic():
            found = _delegations[key] = Delegation(await rest.delegate(), time.monotonic() + 6 * 3600)
        return found.number

    def _job_name(self, pilot: PilotLaunch) -> str:
        mark = hashlib.sha256(f"mark {pilot.pilot_id} {pilot.secret}".encode()).hexdigest()[:32]
        return f"{self.prefix}{pilot.pilot_id}-{mark}"

    def _description(self, name: str, pilot: PilotLaunch, delegation: str) -> str:
        options = self.options
        environment = "".join(
            f"<Environment><Name>{escape(key)}</Name><Value>{escape(value)}</Value></Environment>"
            for key, value in options.environment.items()
        )
        runtimes = "".join(
            f"<RuntimeEnvironment><Name>{escape(each.partition(' ')[0])}</Name>"
            f"<Version>{escape(each.partition(' ')[2])}</Version></RuntimeEnvironment>"
            for each in options.runtime_environments
        )
        wall_s = pilot.wall_s + 300  # The pilot ends by itself before that.
        return _ADL.format(
            name=name, start=_START, python=escape(options.python), bundle=escape(pilot.bundle.name), launch=_LAUNCH,
            leaves=f"<OutputFile><Name>{escape(pilot.leaves)}</Name></OutputFile>" if pilot.leaves else "",
            out=_OUT, err=_ERR, environment=environment, runtimes=runtimes, cores=pilot.cores,
            queue=f"<QueueName>{escape(options.queue)}</QueueName>" if options.queue else "",
            memory=-(-pilot.memory_bytes // pilot.cores), wall=wall_s, cpu=wall_s * pilot.cores,
            delegation=f"<nordugrid-adl:DelegationID>{delegation}</nordugrid-adl:DelegationID>" if delegation else "",
        )  # fmt: skip


async def _ended_at(rest: Rest, job_id: str) -> str:
    """From the job's own diary, since A-REX's other answers tell it of jobs that ran only; empty when unknown."""
    ends = _END.findall(await rest.tail(job_id, "diagnose/errors", OUTPUT_BYTES))
    return re.sub(r"[-:T]", "", ends[-1].decode()) if ends else ""


async def _words(rest: Rest, job_id: str) -> str:
    paths = [f"session/{_OUT}", f"session/{_ERR}", "diagnose/failed"]
    try:
        out, err, failure = [await rest.tail(job_id, path, OUTPUT_BYTES) for path in paths]
    except ElementRefused:  # It has been cleaned meanwhile.
        return ""
    reason = failure.decode(errors="replace").strip()
    return tail(out) + tail(err) + (f"ARC says: {reason}\n" if reason else "")


def state_of(told: Mapping[str, Any] | None) -> ElementState:
    """What A-REX's answer about one job says; an unknown job has vanished, another error says nothing."""
    if told is None or str(told.get("status-code")) == "404":
        return ElementState.VANISHED
    return _STATES.get(str(told.get("state")), ElementState.UNKNOWN)


def _firsts(jobs: Mapping[str, Known]) -> dict[str, str]:
    """Of jobs with one name the oldest; of one second, the one whose id comes first."""
    ordered = sorted(jobs.items(), key=lambda item: (item[1].submitted_at, item[0]), reverse=True)
    return {job.name: job_id for job_id, job in ordered}


def _proper(external_ids: Sequence[str]) -> list[str]:
    return [each for each in external_ids if _ID.fullmatch(each)]
