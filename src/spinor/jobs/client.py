"""What the commands and the Python objects both do over HTTP: read logs, wait for jobs, and name many of them."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from spinor.client import Client
from spinor.jobs.models import ChosenJobs, JobIds, JobRow, Outcome, Waited, WaitForJobs
from spinor.jobs.models.description import IdRange

POLL_S = 20.0
ENDED = frozenset({"done", "failed", "killed", "deleted"})
NOT_WELL = frozenset({"failed", "killed", "deleted"})
BEFORE_RUNNING = frozenset(
    {"submitting", "received", "checking", "scouting", "staging", "waiting", "matched", "rescheduled"}
)
EXIT_CODES = {"unknown-job": 3, "denied": 4, "transition-refused": 5, "has-outputs": 5}
_ATTEMPT_POLL_S = 2.0
_IDS_A_QUERY = 500


class LogPiece(NamedTuple):
    data: bytes
    position: int
    attempt: int
    ended: bool


def read_log(
    client: Client, job_id: int, stream: str, attempt: int | None = None, *, position: int = 0, wait_s: float = 0
) -> LogPiece:
    """Bytes of a stream from a position on; without `attempt`, of the newest, which has `ended` when the job has."""
    query: dict[str, Any] = {"stream": stream, "position": position, "wait_s": wait_s}
    if attempt:
        query["attempt"] = attempt
    headers, data = client.request("GET", f"/api/jobs/{job_id}/log", query=query)
    return LogPiece(
        data=data,
        position=int(headers["x-spinor-position"]),
        attempt=int(headers["x-spinor-attempt"]),
        ended=headers["x-spinor-ended"] == "true",
    )


def whole_log(client: Client, job_id: int, stream: str, attempt: int | None = None) -> Iterator[LogPiece]:
    """What one attempt has written so far."""
    position = 0
    while True:
        piece = read_log(client, job_id, stream, attempt, position=position)
        if not piece.data:
            return
        yield piece
        position, attempt = piece.position, piece.attempt


def follow_log(client: Client, job_id: int, stream: str, attempt: int | None = None) -> Iterator[LogPiece]:
    """What a job writes, as it comes: of one attempt to its end, or of the newest and of those that come after it."""
    shown, position = attempt, 0
    while True:
        piece = read_log(client, job_id, stream, shown, position=position, wait_s=POLL_S)
        if shown is None and piece.attempt:
            shown = piece.attempt
        if piece.data:
            yield piece
            position = piece.position
        elif piece.ended:
            shown = None if attempt or shown is None else _later(client, job_id, stream, piece)
            position = 0
            if shown is None:
                return


def _later(client: Client, job_id: int, stream: str, last: LogPiece) -> int | None:
    """The attempt after this one, once there is one; None when the job ends without."""
    while True:
        found = read_log(client, job_id, stream, position=last.position, wait_s=_ATTEMPT_POLL_S)
        if found.attempt != last.attempt:
            return found.attempt
        if found.ended:
            return None


def wait_for(client: Client, asked: JobIds, wait_s: float, seen: dict[str, int] | None) -> Waited:
    """Their counts by status, as soon as they differ from those `seen`, or all have ended, or after `wait_s`."""
    body = WaitForJobs(job_ids=asked.job_ids, array_ids=asked.array_ids, wait_s=wait_s, seen=seen)
    return client.post("/api/jobs/wait", body, Waited)


def waiting(client: Client, asked: JobIds, timeout_s: float | None = None, poll_s: float = POLL_S) -> Iterator[Waited]:
    """The counts of these jobs, each time that they have changed, until all have ended or the time is over."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    seen: dict[str, int] = {}  # The first answer comes at once.
    while True:
        left = poll_s if deadline is None else min(poll_s, max(0.0, deadline - time.monotonic()))
        waited = wait_for(client, asked, left, seen)
        yield waited
        if waited.all_ended or (deadline is not None and time.monotonic() >= deadline):
            return
        seen = waited.counts


def where_of(chosen: ChosenJobs) -> str:
    """The filter that finds what any part of the choice names; empty when nothing is chosen."""
    parts = [
        f"job_id={_listed(chosen.job_ids[n : n + _IDS_A_QUERY])}" for n in range(0, len(chosen.job_ids), _IDS_A_QUERY)
    ]
    parts += [f"array_id={_listed(chosen.array_ids)}"] if chosen.array_ids else []
    parts += [f"job_group={','.join(map(quoted, chosen.job_groups))}"] if chosen.job_groups else []
    parts += [f"({chosen.where})"] if chosen.where else []
    return " or ".join(parts)


def find_rows(client: Client, chosen: ChosenJobs) -> Iterator[JobRow]:
    """The jobs that are chosen, in the order of their ids where arrays, sets or a filter choose them."""
    ids = chosen.job_ids
    for n in range(0, len(ids), _IDS_A_QUERY):
        where = f"job_id={_listed(ids[n : n + _IDS_A_QUERY])}"
        yield from client.pages("/api/jobs/search", {"where": where, "sort": ["job_id"]}, JobRow)
    rest = ChosenJobs(array_ids=chosen.array_ids, job_groups=chosen.job_groups, where=chosen.where)
    if where := where_of(rest):
        yield from client.pages("/api/jobs/search", {"where": where, "sort": ["job_id"]}, JobRow)


def find_ids(client: Client, chosen: ChosenJobs) -> list[int]:
    """The ids of the jobs that are chosen; those that were given by id come first, as they are."""
    rest = ChosenJobs(array_ids=chosen.array_ids, job_groups=chosen.job_groups, where=chosen.where)
    found = [row.job_id for row in find_rows(client, rest)]
    return list(dict.fromkeys([*chosen.job_ids, *found]))


def quoted(text: str) -> str:
    """A value of a filter, taken literally."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def ranges(ids: Iterable[IdRange], most: int = 5) -> str:
    """1-5, 9; the rest is counted."""
    words = [str(each.first) if each.first == each.last else f"{each.first}-{each.last}" for each in ids]
    return ", ".join(words[:most]) + (f" and {len(words) - most:,} more ranges" if len(words) > most else "")


def refusals(outcome: Outcome) -> list[str]:
    """One sentence for each reason, which names the jobs."""
    return [
        f"{'job' if _is_one(each.job_ids) else 'jobs'} {ranges(each.job_ids)}: {each.detail}"
        for each in outcome.refused
    ]


def _listed(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))


def _is_one(ids: Sequence[IdRange]) -> bool:
    return len(ids) == 1 and ids[0].first == ids[0].last
