"""Pilots as processes of this machine, which outlive the worker that started them.

Options: `directory` (of the pilots' own directories), `python` (default: the one that runs this), `grace_s` between
asking a pilot to stop and killing it (default 5), and those of all elements.
"""

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from spinor.pilots.models import ElementState
from spinor.pilots.plugin import ElementSettings, ElementUnavailable, PilotLaunch, Submitted
from spinor.pilots.plugins.options import PilotOptions, options_of
from spinor.pilots.plugins.processes import Processes, mark_of


class Options(PilotOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    directory: str = ""
    python: str = ""
    grace_s: float = 5.0


class PilotsHere:
    """The verbs of a plugin whose pilots are processes of this machine, all but `submit`."""

    def __init__(self, pilots: Processes, grace_s: float) -> None:
        self._pilots, self._grace_s = pilots, grace_s

    async def find(self, pilot_ids: Sequence[int]) -> Mapping[int, str]:
        return await asyncio.to_thread(self._pilots.find, list(pilot_ids))

    async def status(self, external_ids: Sequence[str]) -> Mapping[str, ElementState]:
        return await asyncio.to_thread(lambda: {each: ElementState(self._pilots.state(each)) for each in external_ids})

    async def cancel(self, external_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self._pilots.cancel, list(external_ids), self._grace_s)

    async def output(self, external_ids: Sequence[str]) -> Mapping[str, str]:
        return await asyncio.to_thread(lambda: {each: self._pilots.output(each) for each in external_ids})

    async def _started(
        self, pilots: Sequence[PilotLaunch], bundle: bytes | Path, describe: Callable[[PilotLaunch], dict[str, Any]]
    ) -> Sequence[Submitted]:
        try:
            started = await asyncio.to_thread(self._pilots.submit, [describe(pilot) for pilot in pilots], bundle)
        except OSError as error:
            raise ElementUnavailable(f"{error.filename}: {error.strerror}") from error
        return [
            Submitted(pilot_id=each["pilot_id"], external_id=each.get("name"), error=each.get("error", ""))
            for each in started
        ]


class LocalComputing(PilotsHere):
    """A computing element that is this machine."""

    name: ClassVar[str] = "local"

    def __init__(self, element: ElementSettings) -> None:
        self.options = options = options_of(element, Options)
        self.base = Path(options.directory) if options.directory else element.directory
        super().__init__(Processes(self.base, options.environment, options.python), options.grace_s)

    async def submit(self, pilots: Sequence[PilotLaunch]) -> Sequence[Submitted]:
        return await self._started(pilots, pilots[0].bundle, described) if pilots else []

    async def bring(self, external_id: str, name: str, target: Path) -> bool:
        left = await asyncio.to_thread(self._pilots.left, external_id, name)
        if left is not None:
            await asyncio.to_thread(shutil.copyfile, left, target)
        return left is not None


def described(launch: PilotLaunch) -> dict[str, Any]:
    """A pilot as `Processes.submit` takes it."""
    return {
        "pilot_id": launch.pilot_id,
        "mark": mark_of(launch.pilot_id, launch.secret),
        "launch": launch.launch_file().decode(),
    }
