"""Waiting for jobs, with a display that follows them."""

import asyncio

from spinor.api.live import Live
from spinor.api.rendering import Shown, text_counts
from spinor.client import Client
from spinor.errors import SpinorError
from spinor.jobs.client import wait_for, waiting
from spinor.jobs.models import JobIds

_ASYNC_POLL_S = 5.0  # A waiting thread cannot be interrupted: it shall not outlive its task for long.


class StillRunning(SpinorError):
    """The jobs have not ended in that time; they go on."""

    status, code, retry = 503, "still-running", True


def wait(client: Client, ids: JobIds, shown: Shown, timeout_s: float | None) -> None:
    """Until all have ended; StillRunning when that takes longer than was said."""
    live = Live(shown, "jobs")
    try:
        for waited in waiting(client, ids, timeout_s):
            live.update(waited.ended, waited.total, text_counts(waited.counts))
        if not waited.all_ended:
            raise StillRunning(f"After {timeout_s:g} s there are {text_counts(waited.counts)}; the jobs go on.")
    except KeyboardInterrupt:
        client.close()  # In the middle of an answer: the connection is of no use any more.
        raise
    finally:
        live.close()


async def ended(client: Client, ids: JobIds, shown: Shown) -> None:
    """The same without blocking: other cells' tasks go on."""
    live = Live(shown, "jobs")
    seen: dict[str, int] = {}
    with client.beside() as beside:
        while True:
            waited = await asyncio.to_thread(wait_for, beside, ids, _ASYNC_POLL_S, seen)
            live.update(waited.ended, waited.total, text_counts(waited.counts))
            if waited.all_ended:
                live.close()
                return
            seen = waited.counts
