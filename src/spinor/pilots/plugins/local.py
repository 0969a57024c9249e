"""Pilots as processes of this machine, which outlive the worker that started them.

Options: `directory` (of the pilots' own directories), `python` (default: the one that runs this), `environment` (added
to the few variables that pilots get), `grace_s` between asking a pilot to stop and killing it (default 5), `tags` (what
its pilots offer), `idle_s` (they leave after so long without work), `drain_s` (what SIGTERM leaves to their payloads).
"""

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BadOptions, ElementSettings, ElementUnavailable, NodeOptions, PilotLaunch, Submitted
from spinor.pilots.plugins.processes import Processes, mark_of


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: str = ""
    python: str = ""
    environment: dict[str, str] = {}
    grace_s: float = 5.0
    tags: list[str] = []
    idle_s: float = 15.0
    drain_s: float = 20.0
    node: NodeOptions = NodeOptions()


class LocalComputing:
    """A computing element that is this machine."""

    name: ClassVar[str] = "local"

    def __init__(self, element: ElementSettings) -> None:
        try:
            self.options = msgspec.convert(element.options, Options)
        except msgspec.ValidationError as error:
            raise BadOptions(f"The options of computing element {element.name!r} are wrong: {error}.") from None
        self.base = Path(self.options.directory) if self.options.directory else element.directory
        self._pilots = Processes(self.base, self.options.environment, self.options.python)

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

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        left = await asyncio.to_thread(self._pilots.left, external_id, name)
        if left is not None:
            await asyncio.to_thread(shutil.copyfile, left, target)
        return left is not None

    def _submit(self, pilots: Sequence[PilotLaunch]) -> list[Submitted]:
        if not pilots:
            return []
        try:
            bundle = pilots[0].bundle.read_bytes()
            started = self._pilots.submit([described(launch) for launch in pilots], bundle)
        except OSError as error:
            raise ElementUnavailable(f"{error.filename}: {error.strerror}") from error
        return [
            Submitted(pilot_id=each["pilot_id"], external_id=each.get("name"), error=each.get("error", ""))
            for each in started
        ]


def described(launch: PilotLaunch) -> dict[str, Any]:
    """A pilot as `Processes.submit` takes it."""
    return {
        "pilot_id": launch.pilot_id,
        "mark": mark_of(launch.pilot_id, launch.secret),
        "launch": launch.launch_file().decode(),
    }
