"""Pilots for elements whose nodes see no network: each is a process of the worker's machine, which takes the jobs.

What it takes it sends to a node through another plugin, and brings back what the node's pilot has left (see
`spinor.pilots.push`). So for the factory these pilots are local ones, which outlive the worker that started them.
"""

import asyncio
import io
import sys
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import (
    BringsFiles,
    ElementSettings,
    ElementUnavailable,
    NodeOptions,
    PilotLaunch,
    Submitted,
    plugin_named,
)
from spinor.pilots.plugins.local import described
from spinor.pilots.plugins.options import options_of, wrong
from spinor.pilots.plugins.processes import Processes

_MAIN = "from spinor.pilots.push.agent import main\n\nraise SystemExit(main())\n"


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    plugin: str  # Which one brings pilots to the nodes,
    options: dict[str, Any] = {}  # and its options.
    queue_s: int = 3600  # Of a pilot's wall_s: how long it may wait for its node. Jobs are offered the rest.
    jobs: int = 1  # In one parcel. Only all jobs of a parcel together can be ended before their end.
    disk_bytes: int = 20_000_000_000  # What a node is taken to have.
    poll_s: float = 5.0
    grace_s: float = 60.0  # To end the pilot on the node, too.
    environment: dict[str, str] = {}
    tags: list[str] = []
    idle_s: float = 15.0
    drain_s: float = 20.0
    node: NodeOptions = NodeOptions()


class PushComputing:
    """A computing element behind another plugin, whose nodes see no network."""

    name: ClassVar[str] = "push"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options = options_of(element, Options)
        self.inner = msgspec.structs.replace(element, options=options.options, directory=element.directory / "behind")
        if options.plugin == self.name or not isinstance(plugin_named(options.plugin)(self.inner), BringsFiles):
            raise wrong(element, f"plugin {options.plugin!r} cannot bring back what pilots leave")
        if options.jobs < 1 or options.queue_s < 1:
            raise wrong(element, "jobs and queue_s must be 1 or more")
        self._pilots = Processes(element.directory, options.environment, sys.executable)

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        return await asyncio.to_thread(self._submit, pilots)

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        return await asyncio.to_thread(self._pilots.find, list(pilot_ids))

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        return await asyncio.to_thread(lambda: {each: ElementState(self._pilots.state(each)) for each in external_ids})

    async def cancel(self, external_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self._pilots.cancel, list(external_ids), self.options.grace_s)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        return await asyncio.to_thread(lambda: {each: self._pilots.output(each) for each in external_ids})

    def _submit(self, pilots: Sequence[PilotLaunch]) -> list[Submitted]:
        short = [pilot for pilot in pilots if pilot.wall_s <= self.options.queue_s]
        if short:
            raise ElementUnavailable(
                f"The element's wall_s of {short[0].wall_s} s leaves nothing after queue_s, {self.options.queue_s} s."
            )
        try:
            started = self._pilots.submit([self._described(pilot) for pilot in pilots], _bundle())
        except OSError as error:
            raise ElementUnavailable(f"{error.filename}: {error.strerror}") from error
        return [
            Submitted(pilot_id=each["pilot_id"], external_id=each.get("name"), error=each.get("error", ""))
            for each in started
        ]

    def _described(self, pilot: PilotLaunch) -> dict[str, Any]:
        options, inner = self.options, self.inner
        behind = {
            "plugin": options.plugin, "name": inner.name, "site": inner.site, "options": inner.options,
            "directory": str(inner.directory), "url": inner.url, "secrets": str(inner.secrets),
        }  # fmt: skip
        more = {
            "element": behind, "queue_s": options.queue_s, "jobs": options.jobs, "poll_s": options.poll_s,
            "disk_bytes": options.disk_bytes,
        }  # fmt: skip
        launch = msgspec.json.decode(pilot.launch_file()) | {"push": more}
        return {**described(pilot), "launch": msgspec.json.encode(launch).decode()}


def _bundle() -> bytes:
    """What is started in the place of a pilot: it finds Spinor where the worker does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), _MAIN)
    return buffer.getvalue()
