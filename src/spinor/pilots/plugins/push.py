"""Pilots for elements whose nodes see no network: each is a process of the worker's machine, which takes the jobs.

What it takes it sends to a node through another plugin, and brings back what the node's pilot has left (see
`spinor.pilots.push`). So for the factory these pilots are local ones, which outlive the worker that started them.
"""

import io
import sys
import zipfile
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from spinor.pilots.plugin import (
    BringsFiles,
    ElementSettings,
    PilotLaunch,
    Submitted,
    plugin_named,
)
from spinor.pilots.plugins.local import PilotsHere, described
from spinor.pilots.plugins.options import PilotOptions, options_of, wrong
from spinor.pilots.plugins.processes import Processes
from spinor_pilot.pilot import LEAST_OFFER_S
from spinor_pilot.slot import MARGIN_S

_MAIN = "from spinor.pilots.push.agent import main\n\nraise SystemExit(main())\n"


class Options(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`environment` is that of the processes here; what payloads get is said by the options of the other plugin."""

    plugin: str  # Which one brings pilots to the nodes,
    options: dict[str, Any] = msgspec.field(default_factory=dict)  # and its options.
    queue_s: int = 3600  # Of a pilot's wall_s: how long it may wait for its node. Jobs are offered the rest.
    jobs: int = 1  # In one parcel. Only all jobs of a parcel together can be ended before their end.
    disk_bytes: int = 20_000_000_000  # What a node is taken to have.
    poll_s: float = 5.0
    grace_s: float = 120.0  # To end the pilot on the node, too.


class PushComputing(PilotsHere):
    """A computing element behind another plugin, whose nodes see no network."""

    name: ClassVar[str] = "push"

    def __init__(self, element: ElementSettings) -> None:
        self.element = element
        self.options = options = options_of(element, Options)
        self.inner = msgspec.structs.replace(element, options=options.options, directory=element.directory / "behind")
        if options.plugin == self.name or not isinstance(plugin_named(options.plugin)(self.inner), BringsFiles):
            raise wrong(element, f"plugin {options.plugin!r} cannot bring back what pilots leave")
        if options.jobs < 1 or options.queue_s < 1:
            raise wrong(element, "jobs and queue_s must be 1 or more")
        super().__init__(Processes(element.directory, options.environment, sys.executable), options.grace_s)

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        least_s = self.options.queue_s + int(MARGIN_S + LEAST_OFFER_S)
        short = [pilot for pilot in pilots if pilot.wall_s < least_s]
        if short:
            raise wrong(
                self.element,
                f"queue_s of {self.options.queue_s} s leaves no time for jobs of the element's wall_s, "
                f"{short[0].wall_s} s, which must be {least_s} s or more",
            )
        return await self._started(pilots, _bundle(), self._described)

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
