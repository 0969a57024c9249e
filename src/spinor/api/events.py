"""What happens to jobs, as it happens (server-sent events)."""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from spinor.client import BrokenOff, Client
from spinor.errors import BadInput, ServerUnreachable
from spinor.jobs.models import JobEvent

_MOST_IDS = 1000
_REMEMBERED = 10_000
_PAUSE_S = 2.0


class Frame(NamedTuple):
    event: str
    id: str
    data: str


def job_events(client: Client, job_ids: Sequence[int] = (), array_ids: Sequence[int] = ()) -> Iterator[JobEvent]:
    """The changes of these jobs until all have ended, or of all jobs of the VO from now on.

    A stream that breaks off is taken up again where it was: no change is lost, and none comes twice.
    """
    if len(job_ids) > _MOST_IDS or len(array_ids) > _MOST_IDS:
        raise BadInput(f"At most {_MOST_IDS:,} jobs and arrays can be followed by name; follow the whole array.")
    since = ""
    remembered: deque[tuple[object, ...]] = deque(maxlen=_REMEMBERED)
    known: set[tuple[object, ...]] = set()
    while True:
        query = {"job_id": list(job_ids), "array_id": list(array_ids), "since": since}
        try:
            with client.stream("/api/jobs/events", query) as body:
                for frame in frames(body):
                    if frame.event == "end":
                        return
                    since = frame.id
                    event = msgspec.json.decode(frame.data, type=JobEvent)
                    key = (event.job_id, event.at, event.attempt, event.status)
                    if key in known:
                        continue
                    if len(remembered) == _REMEMBERED:
                        known.discard(remembered[0])
                    remembered.append(key)
                    known.add(key)
                    yield event
        except (BrokenOff, ServerUnreachable):
            time.sleep(_PAUSE_S)


def frames(lines: Iterable[bytes]) -> Iterator[Frame]:
    """The events of a stream (WHATWG HTML, 9.2.6); comments are passed over."""
    fields: dict[str, list[str]] = {}
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if not line:
            if "data" in fields:
                event, event_id = fields.get("event", ["message"])[-1], fields.get("id", [""])[-1]
                yield Frame(event, event_id, "\n".join(fields["data"]))
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
