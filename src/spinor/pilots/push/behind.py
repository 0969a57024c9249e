"""The element behind, asked with patience: it may be away for a moment in each of the steps of a parcel."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from spinor.errors import SpinorError
from spinor.pilots.models import ElementState
from spinor.pilots.plugin import BringsFiles, ComputingPlugin, ElementUnavailable, PilotLaunch, Submitted

PATIENCE_S = 600.0  # How long the element may be away when something cannot be done without it.
GONE_S = 60.0  # How long a cancelled pilot may take to go.
_AGAIN_S = 0.5
ENDED = (ElementState.DONE, ElementState.FAILED, ElementState.VANISHED)

Wanted = Callable[[], bool]  # Whether somebody still waits for it.

_log = logging.getLogger("pilot")


class Behind:
    """One pilot at a time on a computing element."""

    def __init__(self, plugin: ComputingPlugin, pause_s: float) -> None:
        self.plugin, self.pause_s = plugin, pause_s

    async def submit(self, launch: PilotLaunch, wanted: Wanted) -> Submitted:
        """When this raises, the element has no pilot of this launch, as far as it can be asked."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                (submitted,) = await self.plugin.submit([launch])
                return submitted
            except ElementUnavailable as error:
                # It may have the pilot already: then the same call gives its external id.
                if time.monotonic() >= end or not wanted():
                    await self._withdraw(launch.pilot_id)
                    raise
                _log.warning("not submitted yet: %s", error)
            except Exception:
                await self._withdraw(launch.pilot_id)
                raise
            await self._pause(wanted)

    async def state(self, external_id: str) -> ElementState:
        try:
            return (await self.plugin.status([external_id])).get(external_id, ElementState.UNKNOWN)
        except SpinorError as error:
            # The element is asked again at the next round; the leases tell how long that makes sense.
            _log.warning("the state of %s is not known: %s", external_id, error)
            return ElementState.UNKNOWN

    async def end(self, external_id: str) -> None:
        """Cancel it, again and again until it is gone."""
        _log.info("%s is cancelled", external_id)
        end = time.monotonic() + GONE_S
        while time.monotonic() < end and await self.state(external_id) not in ENDED:
            try:
                await self.plugin.cancel([external_id])
            except SpinorError as error:
                _log.warning("%s is not cancelled yet: %s", external_id, error)
            await asyncio.sleep(_AGAIN_S)

    async def bring(self, external_id: str, name: str, target: Path, wanted: Wanted) -> bool:
        """Whether it left such a file, which is then at `target`."""
        assert isinstance(self.plugin, BringsFiles)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self.plugin.bring(external_id, name, target)
            except ElementUnavailable as error:
                if time.monotonic() >= end or not wanted():
                    raise
                _log.warning("the results of %s are not here yet: %s", external_id, error)
            await asyncio.to_thread(target.unlink, missing_ok=True)
            await self._pause(wanted)

    async def last_words(self, external_id: str) -> str:
        """The end of its output, where the element can tell; only for people."""
        with contextlib.suppress(SpinorError):
            return (await self.plugin.output([external_id])).get(external_id, "")[-500:]
        return ""

    async def _withdraw(self, pilot_id: int) -> None:
        """End a pilot of which it is not known whether the element took it."""
        try:
            found = await self.plugin.find([pilot_id])
        except SpinorError as error:
            _log.warning("whether pilot %s was submitted is not known: %s", pilot_id, error)
            return
        for external_id in found.values():
            await self.end(external_id)

    async def _pause(self, wanted: Wanted) -> None:
        for _ in range(math.ceil(self.pause_s / _AGAIN_S)):
            if wanted():
                await asyncio.sleep(_AGAIN_S)
