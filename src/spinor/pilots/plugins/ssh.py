"""Pilots as detached processes of other machines, reached through SSH: a few servers, or a small cluster without a
batch system.

What starts and follows them on each host is the same program as on the service's own machine, `processes.py`, which
is sent along with each request and leaves nothing there but the pilots' own directories.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import (
    ElementRefused,
    ElementSettings,
    ElementUnavailable,
    PilotLaunch,
    Submitted,
)
from spinor.pilots.plugins import processes
from spinor.pilots.plugins.local import described
from spinor.pilots.plugins.machines import Machine, fetch, put, said
from spinor.pilots.plugins.options import PilotOptions, options_of, wrong
from spinor.pilots.plugins.ssh_machine import Access, HostName, NotReached, SSHMachine, address

_NOT_THERE = (126, 127)  # What a shell says of a program that it cannot run.


class Options(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hosts: Annotated[dict[HostName, Annotated[int, Meta(ge=1, le=10_000)]], Meta(min_length=1, max_length=1000)]
    ssh: Access
    directory: Annotated[str, Meta(pattern=r"^[^\0\n]+$")] = "spinor-pilots"
    python: Annotated[str, Meta(pattern=r"^[^\0\n]+$")] = "python3"
    grace_s: Annotated[float, Meta(ge=0, le=30)] = 5.0


class SSHComputing:
    """A computing element of hosts with slots. A pilot is called `<host>/pilot-<number>`."""

    name: ClassVar[str] = "ssh"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options_of(element, Options)
        self._hosts: dict[str, Machine] = {}
        self._slots: dict[str, int] = {}
        for host, slots in self.options.hosts.items():
            name = str(address(host, ""))
            if name in self._hosts:
                raise wrong(element, f"hosts has {name} twice")
            self._hosts[name] = SSHMachine(element, self.options.ssh, host)
            self._slots[name] = slots

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        """Each pilot goes to the first host of its own row of hosts that is up and has a slot for it."""
        if not pilots:
            return []
        bundle = await _packed(pilots[0])
        rows = {launch.pilot_id: self._row(launch.pilot_id) for launch in pilots}
        left = {launch.pilot_id: launch for launch in pilots}
        done: list[Submitted] = []
        troubles: dict[str, SpinorError] = {}
        while left:
            turn: dict[str, list[PilotLaunch]] = {}
            for pilot_id, launch in list(left.items()):
                if rows[pilot_id]:
                    turn.setdefault(rows[pilot_id].pop(0), []).append(launch)
                else:
                    del left[pilot_id]
                    done.append(Submitted(pilot_id=pilot_id, error=_no_slot(troubles)))
            requests = {host: _request(launches, bundle) for host, launches in turn.items()}
            if "parcel" in bundle:
                await self._send(pilots[0].bundle, requests, troubles)
            answers = await self._ask_each(requests, troubles)
            for host, launches in turn.items():
                for each in self._told(host, launches, answers, troubles):
                    done.append(each)
                    del left[each.pilot_id]
        if len(troubles) == len(self._hosts) and not any(each.external_id for each in done):
            raise next(iter(troubles.values()))
        return done

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        if not pilot_ids:
            return {}
        answers = await self._ask_all({host: {"verb": "find", "about": list(pilot_ids)} for host in self._hosts})
        return {int(pilot_id): f"{host}/{name}" for host, found in answers.items() for pilot_id, name in found.items()}

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        by_host = self._by_host(external_ids)
        answers = await self._ask_all({host: {"verb": "status", "about": names} for host, names in by_host.items()})
        states = {f"{host}/{name}": ElementState(s) for host, told in answers.items() for name, s in told.items()}
        known = {f"{host}/{name}" for host, names in by_host.items() for name in names}
        return states | {each: ElementState.VANISHED for each in external_ids if each not in known}

    async def cancel(self, external_ids: Sequence[str]) -> None:
        by_host = self._by_host(external_ids)
        await self._ask_all({host: {"verb": "cancel", "about": names} for host, names in by_host.items()})

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        by_host = self._by_host(external_ids)
        answers = await self._ask_all({host: {"verb": "output", "about": names} for host, names in by_host.items()})
        return {f"{host}/{name}": text for host, told in answers.items() for name, text in told.items()}

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        for host, names in self._by_host([external_id]).items():
            left = await self._ask(host, {"verb": "left", "about": names[0], "file": name})
            return left is not None and await fetch(self._hosts[host], left, target)
        return False

    # ------------------------------------------------------------------------------------------------------- hosts

    def _row(self, pilot_id: int) -> list[str]:
        """In which order hosts are asked to take a pilot: for each pilot the same one, whoever asks.

        A host that is full once stays full for that pilot, so two workers start it on the same host. Only when a host
        goes away between them may it be started twice; then its secret, which works once, lets one of the two in.
        """
        slots = [host for host, count in self._slots.items() for _ in range(count)]
        first = pilot_id % len(slots)
        return list(dict.fromkeys(slots[first:] + slots[:first]))

    def _told(
        self,
        host: str,
        launches: Sequence[PilotLaunch],
        answers: Mapping[str, Any],
        troubles: Mapping[str, SpinorError],
    ) -> Iterable[Submitted]:
        """What is settled about pilots that were given to this host; the others go on to the next."""
        if host in answers:
            for each in answers[host]:
                if "name" in each:
                    yield Submitted(pilot_id=each["pilot_id"], external_id=f"{host}/{each['name']}")
                elif each["error"] != processes.FULL:
                    yield Submitted(pilot_id=each["pilot_id"], error=f"{host}: {each['error']}")
        elif not isinstance(troubles[host], NotReached | ElementRefused):
            # It may have started some of them. `find` tells which, when this host answers again.
            for launch in launches:
                yield Submitted(pilot_id=launch.pilot_id, error=troubles[host].message)

    def _by_host(self, external_ids: Sequence[str]) -> dict[str, list[str]]:
        by_host: dict[str, list[str]] = {}
        for each in external_ids:
            host, _, name = each.rpartition("/")
            if host in self._hosts:
                by_host.setdefault(host, []).append(name)
        return by_host

    async def _ask_all(self, requests: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """The answers of those that answer. Raises when none does."""
        troubles: dict[str, SpinorError] = {}
        answers = await self._ask_each(requests, troubles)
        if troubles and not answers:
            raise next(iter(troubles.values()))
        return answers

    async def _ask_each(
        self, requests: Mapping[str, dict[str, Any]], troubles: dict[str, SpinorError]
    ) -> dict[str, Any]:
        hosts = list(requests)
        asked = await asyncio.gather(*(self._ask(host, requests[host]) for host in hosts), return_exceptions=True)
        answers = {}
        for host, answer in zip(hosts, asked, strict=True):
            if isinstance(answer, SpinorError):
                troubles[host] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                answers[host] = answer
        return answers

    async def _send(self, bundle: Path, requests: dict[str, dict[str, Any]], troubles: dict[str, SpinorError]) -> None:
        """Bring a parcel to hosts before they are asked to start from it. Those that do not get it are not asked."""
        for host, request in list(requests.items()):
            try:
                await put(self._hosts[host], f"{self._directory(host)}/{request['parcel']}", bundle)
            except ElementRefused as error:
                troubles[host] = error
                del requests[host]
            except ElementUnavailable as error:
                troubles[host] = NotReached(error.message)
                del requests[host]

    def _directory(self, host: str) -> str:
        """Hosts may have one file system, and each answers only for its own processes."""
        return f"{self.options.directory}/{host}"

    async def _ask(self, host: str, request: dict[str, Any]) -> Any:
        options, machine = self.options, self._hosts[host]
        whole = {
            "directory": self._directory(host), "environment": options.environment, "python": options.python,
            "slots": self._slots[host], "grace_s": options.grace_s, **request,
        }  # fmt: skip
        program = f"{_source()}\nanswer({json.dumps(whole)!r})\n"
        ran = await machine.run([options.python, "-I", "-B", "-"], program.encode(), timeout_s=options.grace_s + 25)
        if ran.code in _NOT_THERE:
            raise ElementRefused(f"{options.python} cannot be run on {host}: {said(ran)}")
        try:
            told = json.loads(ran.lines[-1])
        except (ValueError, IndexError):
            raise ElementUnavailable(f"{host} does not answer as it should: {said(ran)}") from None
        if "error" in told:
            raise ElementUnavailable(f"{host}: {told['error']}")
        return told["answer"]


async def _packed(launch: PilotLaunch) -> dict[str, str]:
    """The bundle within a request; one with a parcel may be large, and is only named."""
    if launch.leaves:
        return {"parcel": f"{processes.PARCEL}{processes.mark_of(launch.pilot_id, launch.secret)}"}
    return {"bundle": base64.b64encode(await asyncio.to_thread(launch.bundle.read_bytes)).decode()}


def _request(launches: Sequence[PilotLaunch], bundle: Mapping[str, str]) -> dict[str, Any]:
    return {"verb": "submit", "about": [described(launch) for launch in launches], **bundle}


def _no_slot(troubles: Mapping[str, SpinorError]) -> str:
    why = "; ".join(trouble.message for trouble in troubles.values())
    return f"no host has a free slot; {why}" if why else "no host has a free slot"


def _source() -> str:
    return Path(processes.__file__).read_text(encoding="ascii")
