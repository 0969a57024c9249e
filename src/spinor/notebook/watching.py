"""Waiting for jobs, with a display that follows them."""

import asyncio
import time

from spinor.client import Client
from spinor.errors import SpinorError
from spinor.jobs.models import JobIds, Waited, WaitForJobs
from spinor.notebook.live import Live
from spinor.notebook.rendering import Shown, text_counts

_POLL_S = 20.0
_ASYNC_POLL_S = 5.0  # A waiting thread cannot be interrupted: it shall not outlive its task for long.


class StillRunning(SpinorError):
    """The jobs have not ended in that time; they go on."""

    status, code, retry = 503, "still-running", True


def wait(client: Client, ids: JobIds, shown: Shown, timeout_s: float | None) -> None:
    """Until all have ended; StillRunning when that takes longer than was said."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    live = Live(shown, "jobs")
    seen: dict[str, int] | None = None
    try:
        while True:
            left = _POLL_S if deadline is None else max(0.0, min(_POLL_S, deadline - time.monotonic()))
            waited = client.post("/api/jobs/wait", _asked(ids, left, seen), Waited)
            live.update(waited.ended, waited.total, text_counts(waited.counts))
            if waited.all_ended:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise StillRunning(f"After {timeout_s:g} s there are {text_counts(waited.counts)}; the jobs go on.")
            seen = waited.counts
    except KeyboardInterrupt:
        client.close()  # In the middle of an answer: the connection is of no use any more.
        raise
    finally:
        live.close()


async def ended(client: Client, ids: JobIds, shown: Shown) -> None:
    """The same without blocking: other cells' tasks go on."""
    live = Live(shown, "jobs")
    seen: dict[str, int] | None = None
    with client.beside() as beside:
        while True:
            body = _asked(ids, _ASYNC_POLL_S, seen)
            waited = await asyncio.to_thread(beside.post, "/api/jobs/wait", body, Waited)
            live.update(waited.ended, waited.total, text_counts(waited.counts))
            if waited.all_ended:
                live.close()
                return
            seen = waited.counts


def _asked(ids: JobIds, wait_s: float, seen: dict[str, int] | None) -> WaitForJobs:
    # The first answer comes at once, each further one when a count has changed.
    return WaitForJobs(job_ids=ids.job_ids, array_ids=ids.array_ids, wait_s=wait_s, seen=seen or {})
