"""One run of a chore: its limit of time, and its line in the log."""

import asyncio
import contextlib
import time
from typing import Any

from spinor.chores.models import Chore, ChoreContext
from spinor.errors import SpinorError


class ChoreTooLong(SpinorError):
    """The chore was not done in its time."""

    code = "chore-too-long"


async def in_time(context: ChoreContext, kind: Chore, payload: dict[str, Any]) -> None:
    """Run it, no longer than it may. Of a cancellation from outside CancelledError is raised, as ever."""
    limit = asyncio.timeout(kind.timeout_s)
    task = asyncio.current_task()
    assert task is not None
    try:
        async with limit:
            await kind.run(context, payload)
    except TimeoutError:
        if not limit.expired():
            raise
        raise ChoreTooLong(f"Not done within {kind.timeout_s:g} s.") from None
    except asyncio.CancelledError:
        if task.cancelling():
            raise
        raise RuntimeError("the chore cancelled itself") from None


class Line:
    """What the log says of the run that began with this."""

    def __init__(self, context: ChoreContext) -> None:
        self._log = context.log
        self._began = time.monotonic()

    def write(self, level: str, outcome: str, **facts: Any) -> None:
        spent = round(time.monotonic() - self._began, 4)
        getattr(self._log, level)("chore", extra={"outcome": outcome, "duration_s": spent, **facts})


def told(error: Exception) -> str:
    """The error in one line."""
    return f"{type(error).__name__}: {error}"


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until `stop` is set."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
