"""What keeps the periodic chores going: long periods by way of the queue, short ones without it.

What runs every few seconds is not worth a row of the queue each time: rows that come and go all day cost commits on an
idle service, are looked over again and again while somebody holds an old snapshot, and belong to a dead worker until
its silence is noticed. One worker leads instead, and runs these by its own clock. It leads as long as its session
holds an advisory lock, so when it dies another one leads within a second, and nothing is written for it.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import psycopg

from spinor.chores.driver import open_session
from spinor.chores.models import Chore, ChoreContext
from spinor.chores.queue import Q, enqueue_ticks
from spinor.chores.run import Line, in_time, pause, told
from spinor.db import Tx, execute, fetch_rows, fetch_value
from spinor.errors import Unavailable
from spinor.logs import bind

# Periods up to this one are kept by the leader.
SHORT_S = 15.0
TRY_S = 1.0
BEAT_S = 3.0
# A leader that is silent for so long (its event loop stands still, or its network) is deposed by whoever would lead.
SILENCE_S = 15.0
RECONNECT_S = 2.0


def is_short(kind: Chore) -> bool:
    return kind.every_s is not None and kind.every_s <= SHORT_S


async def keep_enqueuing(context: ChoreContext, kinds: Sequence[Chore], stop: asyncio.Event) -> None:
    """Enqueue each of these once per period, whichever worker comes first. The clock is the database's."""
    names, every_s = [kind.name for kind in kinds], [kind.every_s for kind in kinds]
    while not stop.is_set():
        try:
            async with context.db.transaction() as tx:
                due = await fetch_rows(tx, Q.take_due_ticks, {"names": names, "every_s": every_s})
                await enqueue_ticks(tx, [name for (name,) in due])
                wait_s = await fetch_value(tx, Q.next_tick_in_s, {"names": names})
        except (Unavailable, psycopg.Error) as error:
            context.log.warning("chore-ticks-delayed", extra={"error": str(error)})
            wait_s = RECONNECT_S
        await pause(stop, min(max(wait_s, 0.01), 60))


async def keep_leading(context: ChoreContext, kinds: Sequence[Chore], stop: asyncio.Event, drain_s: float) -> None:
    """Run each of these once per period whenever this worker leads. Survives the database's absence."""
    while not stop.is_set():
        try:
            async with open_session(context.db.url, "spinor lead") as session:
                if await _elected(session, stop):
                    await _Lead(context, kinds).keep(session, stop, drain_s)
        except (Unavailable, psycopg.Error) as error:
            context.log.warning("chore-lead-lost", extra={"error": str(error).strip()})
            await pause(stop, RECONNECT_S)


async def _elected(session: Tx, stop: asyncio.Event) -> bool:
    """Wait until this session leads; False when the worker is to stop before."""
    while not stop.is_set():
        if await fetch_value(session, Q.take_lead):
            return True
        await execute(session, Q.depose_silent_leader, {"silence_s": SILENCE_S})
        await pause(stop, TRY_S)
    return False


class _Lead:
    """The chores of the leader, from its election until its session ends."""

    def __init__(self, context: ChoreContext, kinds: Sequence[Chore]) -> None:
        self.context = context
        self.kinds = kinds
        self.running: set[asyncio.Task[None]] = set()
        self.failing: set[str] = set()

    async def keep(self, session: Tx, stop: asyncio.Event, drain_s: float) -> None:
        await execute(session, Q.forget_failing)
        schedules = [
            asyncio.create_task(self._schedule(kind, n / len(self.kinds))) for n, kind in enumerate(self.kinds)
        ]
        try:
            while not stop.is_set():
                await pause(stop, BEAT_S)
                await execute(session, Q.beat)
            for task in schedules:
                task.cancel()
            await session.close()  # Another may lead while what runs here ends.
            if self.running:
                await asyncio.wait(self.running, timeout=drain_s)
        finally:
            # Who does not lead any more must not run what the next leader runs.
            ending = (*schedules, *self.running)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _schedule(self, kind: Chore, phase: float) -> None:
        """The first turn at once, the others apart from those of other kinds with this period. Turns that find no place
        wait for one, and those that come meanwhile are joined to them."""
        assert kind.every_s is not None
        places = asyncio.Semaphore(kind.concurrency)
        clock = asyncio.get_running_loop().time
        due = clock() - phase * kind.every_s
        while True:
            await places.acquire()
            turn = asyncio.create_task(self._turn(kind))
            self.running.add(turn)
            turn.add_done_callback(self.running.discard)
            turn.add_done_callback(lambda _: places.release())
            due = max(due + kind.every_s, clock())
            await asyncio.sleep(due - clock())

    async def _turn(self, kind: Chore) -> None:
        with bind(chore=kind.name):
            line = Line(self.context)
            try:
                await in_time(self.context, kind, {})
            except asyncio.CancelledError:
                line.write("warning", "interrupted")
                raise
            except Exception as error:  # noqa: BLE001  Whatever it is, the next turn comes.
                line.write("error", "failed", error=told(error))
                await self._note(kind, told(error))
            else:
                line.write("debug", "done")  # What runs every second tells only of its troubles.
                await self._note(kind, None)

    async def _note(self, kind: Chore, error: str | None) -> None:
        """Keep the last error for the operator, until the chore succeeds again."""
        if error is None and kind.name not in self.failing:
            return
        with contextlib.suppress(Unavailable, psycopg.Error):  # The log has it.
            async with self.context.db.transaction() as tx:
                if error is None:
                    await execute(tx, Q.forget_failing_chore, {"name": kind.name})
                    self.failing.discard(kind.name)
                else:
                    self.failing.add(kind.name)
                    await execute(tx, Q.note_failing_chore, {"name": kind.name, "error": error})
