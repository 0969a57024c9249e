"""Streams of what happens: the changes of jobs, and new bytes of a log, as server-sent events (WHATWG HTML, 9.2).

A client that comes back names the last event that it got, and goes on after it. A stream lasts some minutes: the client
comes back by itself, with a token that is still good.
"""

import codecs
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from spinor.access import Caller
from spinor.blobs import Blobs
from spinor.db import Database
from spinor.errors import BadInput, Unavailable
from spinor.jobs import rules as states
from spinor.jobs.errors import UnknownJob
from spinor.jobs.logs import service, store
from spinor.jobs.models import EventQuery, JobEvent, LogEvent, LogEventQuery, LogQuery
from spinor.signals import Signals

LONGEST_S = 600.0
QUIET_S = 15.0  # After so long without an event a comment is sent, so that nobody on the way takes the stream for dead.
ENDED = "end"  # The id of a stream's last event.
_LOOK_S = 1.0
_LOG_LOOK_S = 0.3
_ENDED_LOOK_S = 5.0
_FEW = 200  # So many jobs are followed one by one.
_LIMIT = 1000
_MOST_IDS = 1000
MOST_STREAMS = 300
_OVERLAP = timedelta(seconds=30)  # A change may be committed so long after its moment.

Frames = AsyncGenerator[bytes, None]
_GREETING = b"retry: 2000\n\n"
_END = b"id: end\nevent: end\ndata: {}\n\n"
_QUIET = b": quiet\n\n"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_FINAL = frozenset(states.FINAL)


class BadEventId(BadInput):
    """This is no id of an event of this stream; leave it out to begin anew."""

    code = "bad-event-id"


class TooManyIds(BadInput):
    """So many jobs and arrays cannot be followed at once; name arrays in place of their jobs, or none at all."""

    code = "too-many-ids"


def frame(event: str, data: msgspec.Struct, event_id: str) -> bytes:
    """One event. What could begin a tag is escaped, so that the data are harmless also where they are shown as HTML."""
    text = msgspec.json.encode(data)
    for sign, escaped in ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026")):
        text = text.replace(sign, escaped)
    return b"id: " + event_id.encode() + b"\nevent: " + event.encode() + b"\ndata: " + text + b"\n\n"


class TooManyFollowers(Unavailable):
    """As many streams of events are open as one server gives; try again in a moment."""

    code = "too-many-followers"


class Streams:
    """The streams that one server process has open: each looks into the database about once a second."""

    def __init__(self, most: int = MOST_STREAMS) -> None:
        self._most = most
        self.open = 0

    async def counted(self, frames: Frames) -> Frames:
        """The same frames, or TooManyFollowers before the first."""
        if self.open >= self._most:
            await frames.aclose()
            raise TooManyFollowers
        self.open += 1
        try:
            async for frame in frames:
                yield frame
        finally:
            self.open -= 1
            await frames.aclose()


class Followed(NamedTuple):
    """Which jobs: None for all of the VO."""

    ranges: list[store.JobRange] | None

    @property
    def few(self) -> list[int] | None:
        """The ids, when they are few enough to be followed one by one."""
        if self.ranges is None or sum(each.last - each.first + 1 for each in self.ranges) > _FEW:
            return None
        return [job_id for each in self.ranges for job_id in range(each.first, each.last + 1)]

    @property
    def topics(self) -> list[str]:
        return sorted({f"array:{each.array_id}" for each in self.ranges or ()})


async def followed(db: Database, caller: Caller, query: EventQuery) -> Followed:
    """Raises UnknownJob, and TooManyIds."""
    if len(query.job_id) + len(query.array_id) > _MOST_IDS:
        raise TooManyIds(f"{len(query.job_id) + len(query.array_id):,} ids are named; at most {_MOST_IDS:,} may be.")
    if not query.job_id and not query.array_id:
        return Followed(None)
    async with db.transaction() as tx:
        ranges = await store.list_ranges(tx, caller.vo_id, query.job_id, query.array_id)
    if len(ranges) < len(set(query.job_id)) + len(set(query.array_id)):
        raise UnknownJob(
            "One of these jobs or arrays is not in your VO.", job_ids=query.job_id, array_ids=query.array_id
        )
    return Followed(ranges)


def moment_of(event_id: str) -> datetime | None:
    """When the event with this id was; None: from the beginning. Raises BadEventId."""
    if not event_id:
        return None
    if not event_id.isdecimal() or len(event_id) > 18:
        raise BadEventId(since=event_id)
    return _FIRST + timedelta(microseconds=int(event_id))


def _id_of(event: JobEvent) -> str:
    return str((event.at - _FIRST) // timedelta(microseconds=1))


async def job_events(db: Database, signals: Signals, caller: Caller, jobs: Followed, since: str) -> Frames:
    """The changes of jobs. Of up to 200 jobs: all there were, then each new one, and an `end` when all have ended. Of
    more, or of the whole VO: those from now on, and after a return some of the last half minute again.
    """
    look: Callable[[], Awaitable[list[JobEvent]]]
    moment = moment_of(since)
    if jobs.few is not None:
        look = _Few(db, caller, jobs.few, moment).look
    else:
        look = _Many(db, caller, jobs.ranges, moment or datetime.now(UTC)).look
    clock = _Clock()
    yield _GREETING
    async with signals.subscribed(*jobs.topics) as event:
        asked_at = 0.0
        ended = False
        while not signals.closing and not clock.is_over:
            events = await look()
            if events:
                yield b"".join(frame("state", each, _id_of(each)) for each in events)
                clock.spoke()
            if len(events) == _LIMIT:
                continue
            if ended and not events:  # Nor was anything left to tell after they had been seen to have ended.
                yield _END
                return
            ended = False
            if jobs.ranges is not None and time.monotonic() - asked_at > (_LOOK_S if jobs.few else _ENDED_LOOK_S):
                asked_at = time.monotonic()
                async with db.transaction() as tx:
                    ended = await store.have_ended(tx, caller.vo_id, jobs.ranges, [each.value for each in _FINAL])
                if ended:
                    continue
            if clock.is_quiet:
                yield _QUIET
                clock.spoke()
            await signals.wait(event, _LOOK_S)


class _Few:
    """Each job's own order is exact: a moment for each of them is all that there is to know."""

    def __init__(self, db: Database, caller: Caller, job_ids: Sequence[int], since: datetime | None) -> None:
        self._db, self._caller = db, caller
        begin = (since - _OVERLAP if len(job_ids) > 1 else since) if since else _FIRST
        self._after = dict.fromkeys(job_ids, begin)

    async def look(self) -> list[JobEvent]:
        async with self._db.transaction() as tx:
            events = await store.list_events_of_jobs(tx, self._caller.vo_id, self._after, _LIMIT)
        for each in events:
            self._after[each.job_id] = each.at
        return events


class _Many:
    """Looks back by half a minute each time, and remembers what it has told of that."""

    def __init__(self, db: Database, caller: Caller, ranges: Sequence[store.JobRange] | None, since: datetime) -> None:
        self._db, self._caller, self._ranges = db, caller, ranges
        self._newest = since
        self._told: dict[tuple[int, datetime], None] = {}
        self._begin = since

    async def look(self) -> list[JobEvent]:
        after = max(self._newest - _OVERLAP, self._begin)
        fresh: list[JobEvent] = []
        async with self._db.transaction() as tx:
            found = await store.list_events_since(tx, self._caller.vo_id, self._ranges, after, _LIMIT + len(self._told))
        for each in found:
            if (each.job_id, each.at) not in self._told and len(fresh) < _LIMIT:
                self._told[each.job_id, each.at] = None
                self._newest = max(self._newest, each.at)
                fresh.append(each)
        forget = self._newest - _OVERLAP
        self._told = {key: None for key in self._told if key[1] >= forget}
        return fresh


class _Clock:
    def __init__(self) -> None:
        self._end = time.monotonic() + LONGEST_S
        self._spoke = time.monotonic()

    def spoke(self) -> None:
        self._spoke = time.monotonic()

    @property
    def is_quiet(self) -> bool:
        return time.monotonic() - self._spoke > QUIET_S

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end


async def log_events(
    db: Database, blobs: Blobs, signals: Signals, caller: Caller, job_id: int, query: LogEventQuery, since: str
) -> Frames:
    """The bytes of a log as text, and an `end` when no more can come. Without an attempt: of the newest and of those
    that follow it. The id of an event is its attempt and where the next bytes are.
    """
    attempt, position = _place_of(since, query.attempt)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    clock = _Clock()
    yield _GREETING
    async with signals.subscribed(f"log:{job_id}") as event:
        while not signals.closing and not clock.is_over:
            asked = LogQuery(stream=query.stream, attempt=attempt, position=position)
            part, job = await service.look(db, blobs, caller, job_id, asked)
            attempt = part.attempt
            if part.data:
                position = part.position
                text = decoder.decode(part.data)
                told = LogEvent(attempt=part.attempt, stream=query.stream, position=position, text=text)
                # A character that is not whole yet is told with its rest, so who comes back begins before it.
                yield frame("log", told, f"{part.attempt}.{position - len(decoder.getstate()[0])}")
                clock.spoke()
                continue
            if query.attempt is None and job.attempt > attempt:
                attempt, position = job.attempt, 0
                decoder.reset()
                continue
            if part.ended and (query.attempt is not None or job.status in _FINAL):
                yield _END
                return
            if clock.is_quiet:
                yield _QUIET
                clock.spoke()
            await signals.wait(event, _LOG_LOOK_S)


def _place_of(since: str, attempt: int | None) -> tuple[int | None, int]:
    if not since:
        return attempt, 0
    first, dot, second = since.partition(".")
    if not dot or not first.isdecimal() or not second.isdecimal() or len(since) > 40:
        raise BadEventId(since=since)
    if attempt is not None and int(first) != attempt:
        return attempt, 0
    return int(first), int(second)
