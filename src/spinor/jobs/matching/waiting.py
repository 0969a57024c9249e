"""Why a job waits: where it could run and what keeps it from the rest, its place, its share, the limits, what to do."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.configuration import service as configuration
from spinor.configuration.work import VOShares, WorkRules
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.fit import Capacity, exclusions
from spinor.jobs.matching import store
from spinor.jobs.matching.elements import capacity_of
from spinor.jobs.matching.limits import Bucket, Owner, keys_of, next_token_s, refilled, room
from spinor.jobs.matching.rows import PilotSeen, StandingRow
from spinor.jobs.matching.shares import LOOK_AHEAD_S, SHARE
from spinor.jobs.models import ElementVerdict, JobStatus, Requirements, Slot
from spinor.jobs.rows import PilotCount, PlaceInQueue, StoredJob
from spinor.resources import service as resources
from spinor.resources.status.models import Status
from spinor.resources.status.rules import USABLE
from spinor.resources.status.service import status_of

_SEEN_S = 600.0  # Pilots that were heard of in this time.
_NAMED = 3  # So many pilots or limits are told one by one.


class Why(msgspec.Struct):
    """What was found: sentences in the order of their weight, the same as facts, and each element by itself."""

    sentences: list[str]
    facts: dict[str, Any]
    elements: list[ElementVerdict]


class _Question(msgspec.Struct, frozen=True):
    """A job, and what is decided about its VO."""

    caller: Caller
    job: StoredJob
    wants: Requirements
    work: WorkRules
    statuses: Mapping[str, Status]

    @property
    def waited_s(self) -> float:
        return (datetime.now(UTC) - self.job.updated_at).total_seconds()


async def why_it_waits(tx: Tx, caller: Caller, job: StoredJob) -> Why:
    """What keeps a job from starting, and what would change that."""
    question = _Question(
        caller,
        job,
        await store.find_wants(tx, caller.vo_id, job.task_queue_id),
        await configuration.shares_and_limits(tx),
        await status_of(tx),
    )
    why = Why([], {}, [])
    if job.status is JobStatus.CHECKING:
        await _gates(tx, question, why)
        return why
    await _place(tx, question, why)
    await _share(tx, question, why)
    able = await _elements(tx, question, why)
    await _pilots(tx, question, why)
    await _pauses(tx, question, why, able)
    await _limits(tx, question, why, able)
    return why


# ------------------------------------------------------------------------------------------------ what is still to come


async def _gates(tx: Tx, question: _Question, why: Why) -> None:
    job, vo_id = question.job, question.caller.vo_id
    if job.minor_status.startswith(rules.held_by("")):
        why.sentences.append(f"`spinor job release {job.job_id}` lets it wait for a pilot.")
    for each in await store.list_open_dependencies(tx, vo_id, job.job_id):
        first, last = each.first_job_id, each.last_job_id
        if each.each:
            first = last = first + job.array_index
        jobs = f"job {first}" if first == last else f"jobs {first}-{last}"
        why.sentences.append(
            f"It waits until {jobs} {'has' if first == last else 'have'} {_come_true(each.condition.value)}: "
            f"{each.ended:,} of {each.ended + each.going:,} have come to their end."
        )
        why.facts.setdefault("waits_for", []).append(
            {"first": first, "last": last, "condition": each.condition.value, "ended": each.ended, "going": each.going}
        )
    pause = await store.find_pause(tx, vo_id, job.job_id)
    if pause is not None:
        until = pause.until.astimezone(UTC)
        why.facts["pauses_until"] = until.isoformat()
        why.sentences.append(f"It pauses until {until:%Y-%m-%d %H:%M:%S} UTC, and is then tried again.")


def _come_true(condition: str) -> str:
    return {"done": "ended well", "failed": "failed", "ended": "ended"}[condition]


# ----------------------------------------------------------------------------------------------------------- its place


async def _place(tx: Tx, question: _Question, why: Why) -> None:
    place = await store.find_place_in_queue(tx, question.caller.vo_id, question.job.job_id)
    why.facts["jobs_ahead_in_queue"] = place.ahead_in_queue
    why.facts["jobs_ahead_in_other_queues"] = place.ahead_in_others
    why.sentences.append(_place_sentence(question.job, place))


def _place_sentence(job: StoredJob, place: PlaceInQueue) -> str:
    if not place.ahead_in_queue and not place.ahead_in_others:
        return f"No other job of {job.owner} in group {job.group} goes before it."
    same, others, queues = place.ahead_in_queue, place.ahead_in_others, place.other_queues
    return (
        f"Before it {'goes' if same == 1 else 'go'} {_jobs(same)} of the same requirements, and {_jobs(others)} "
        f"in {queues} other task queue{'' if queues == 1 else 's'} of {job.owner}."
    )


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs" if count else "no job"


async def _share(tx: Tx, question: _Question, why: Why) -> None:
    """The groups first, then the users of the group, as the matcher compares them."""
    shares = question.work.shares.get(question.caller.vo, VOShares())
    rows = await store.list_standings(tx, question.caller.vo_id, shares.half_life_s)
    job = question.job
    groups = _compared(rows, "group", shares.groups)
    users = _compared([row for row in rows if row.group == job.group], "user", shares.users)
    why.facts["share"] = {"half_life_s": shares.half_life_s, "groups": groups, "users": users}
    for noun, name, standings in (("Group", job.group, groups), ("User", job.owner, users)):
        mine = next((each for each in standings if each["name"] == name), None)
        waiting = [each for each in standings if each["waiting"] and each["name"] != name]
        if mine is None or not waiting:
            continue
        ahead = [each["name"] for each in waiting if each["key"] < mine["key"]]
        others = f"{rules.named(ahead)} {'is' if len(ahead) == 1 else 'are'} ahead" if ahead else "nobody is ahead"
        why.sentences.append(
            f"{noun} {name} has used {mine['core_s'] / 3600:,.1f} core-hours of late and runs on "
            f"{mine['cores']:,} cores, with share {mine['share']:g}: {others} of {len(waiting)} that wait too."
        )


def _compared(rows: Sequence[StandingRow], by: str, shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """Use and share of each, whoever is served first at the beginning."""
    names = dict.fromkeys(getattr(row, by) for row in rows)
    found = []
    for name in names:
        mine = [row for row in rows if getattr(row, by) == name]
        core_s, cores = sum(row.core_s for row in mine), sum(row.cores for row in mine)
        share = shares.get(name, SHARE)
        key = (core_s + cores * LOOK_AHEAD_S) / share
        waiting = sum(row.waiting for row in mine)
        found.append({"name": name, "share": share, "core_s": core_s, "cores": cores, "waiting": waiting, "key": key})
    return sorted(found, key=lambda each: float(each["key"]))


# -------------------------------------------------------------------------------------------------- where it could run


async def _elements(tx: Tx, question: _Question, why: Why) -> list[ElementVerdict]:
    """The elements that could run it and are in use."""
    elements = [each for each in await resources.computing_elements(tx) if question.caller.vo_id in each.vo_ids]
    capacities = [capacity_of(element) for element in elements]
    why.elements = [_verdict(question, capacity) for capacity in capacities]
    _constraints(question, why, "computing elements", capacities)
    able = [verdict for verdict in why.elements if not verdict.excluded_by]
    if able:
        named = rules.named([f"{verdict.computing_element} (site {verdict.site})" for verdict in able])
        why.sentences.append(f"It can run on {named}.")
    for verdict in why.elements:
        if verdict.excluded_by:
            clauses = "; ".join(verdict.excluded_by)
            why.sentences.append(f"{verdict.computing_element} (site {verdict.site}) cannot run it: {clauses}.")
    if not able:
        why.sentences.append(_remedy(question.caller, why.elements))
    return able


def _verdict(question: _Question, capacity: Capacity) -> ElementVerdict:
    clauses = exclusions(question.wants, capacity, question.waited_s)
    return ElementVerdict(
        computing_element=capacity.ce,
        site=capacity.site,
        excluded_by=[*_out_of_use(question.statuses, capacity.site, capacity.ce), *clauses],
    )


def _out_of_use(statuses: Mapping[str, Status], site: str, ce: str) -> Iterable[str]:
    for noun, name in (("site", site), ("element", ce)):
        status = statuses.get(name, Status.ACTIVE)
        if status not in USABLE:
            yield f"status: the {noun} {name} is {status.value}, and takes no jobs"
            return


def _constraints(question: _Question, why: Why, noun: str, capacities: Sequence[Capacity]) -> None:
    """For each constraint how many satisfy it; only those that exclude something are told in sentences."""
    failing: Counter[str] = Counter()
    for capacity in capacities:
        clauses = [
            *_out_of_use(question.statuses, capacity.site, capacity.ce),
            *exclusions(question.wants, capacity, question.waited_s),
        ]
        failing.update({clause.partition(":")[0] for clause in clauses})
    total = len(capacities)
    table = why.facts.setdefault("constraints", {})
    for field in sorted({*failing, *_asked(question.wants)}):
        table.setdefault(field, {})[noun.replace(" ", "_")] = {"of": total, "satisfied_by": total - failing[field]}
        if failing[field]:
            why.sentences.append(f"{field}: {total - failing[field]:,} of {total:,} {noun} satisfy it.")


def _asked(wants: Requirements) -> list[str]:
    """The constraints that a job always has, and those that it was given."""
    given = {
        "cpu_work_hs23_s": wants.cpu_work_hs23_s, "gpus": wants.gpus, "platform": wants.platform, "tags": wants.tags,
        "container_image": wants.container, "whole_node": wants.whole_node, "site": wants.sites,
        "banned_sites": wants.banned_sites, "computing_elements": wants.computing_elements,
        "placement": wants.near_sites,
    }  # fmt: skip
    return ["cores", "memory_bytes", "disk_bytes", "wall_s", *(name for name, value in given.items() if value)]


def _remedy(caller: Caller, elements: Sequence[ElementVerdict]) -> str:
    if not elements:
        return (
            f"VO {caller.vo} may use no computing element, so nothing can run; an operator adds one (`spinor config`)."
        )
    nearest = min(elements, key=lambda verdict: len(verdict.excluded_by))
    fields = [clause.partition(":")[0] for clause in nearest.excluded_by]
    own = [field for field in fields if field != "status"]
    if not own:
        return f"{nearest.computing_element} could run it when it is in use again (`spinor ce status`)."
    return (
        f"No computing element can run it as it is. {nearest.computing_element} comes nearest: "
        f"submit it again with another value of {rules.listed(own)}, and kill this one."
    )


async def _pilots(tx: Tx, question: _Question, why: Why) -> None:
    caller = question.caller
    alive = await store.count_pilots_alive(tx, caller.vo_id)
    why.facts["pilots_alive"] = sum(row.pilots for row in alive)
    why.sentences.append(_alive(caller, alive))
    seen = await store.list_pilots_seen(tx, caller.vo_id, _SEEN_S)
    if not seen:
        return
    slots = [
        Slot(pilot_id=each.pilot_id, site=each.site, site_id=0, ce=each.ce, ce_id=0, offer=each.offer) for each in seen
    ]
    capacities = [Capacity.of(slot) for slot in slots]
    _constraints(question, why, "pilots", capacities)
    kept = [
        (each, [*_drains(each), *_verdict(question, capacity).excluded_by])
        for each, capacity in zip(seen, capacities, strict=True)
    ]
    able = [each for each, clauses in kept if not clauses]
    why.facts["pilots_seen"] = len(seen)
    why.facts["pilots_with_room"] = [each.pilot_id for each in able]
    minutes = round(_SEEN_S / 60)
    why.sentences.append(
        f"{len(seen):,} pilot{'' if len(seen) == 1 else 's'} asked or reported within {minutes} minutes, "
        f"{len(able):,} with room for it."
    )
    for each, clauses in [pair for pair in kept if pair[1]][:_NAMED]:
        where = f"on {each.ce}" + (f" ({each.hostname})" if each.hostname else "")
        why.sentences.append(f"Pilot {each.pilot_id} {where} has no room for it: {'; '.join(clauses)}.")


async def _pauses(tx: Tx, question: _Question, why: Why, able: Sequence[ElementVerdict]) -> None:
    """Where the pilot factory waits before it tries again, among the elements that could run it."""
    names = {verdict.computing_element for verdict in able}
    pauses = [each for each in await store.list_pauses(tx, question.caller.vo_id) if each.computing_element in names]
    why.facts["factory_pauses"] = {each.computing_element: each.next_try_at for each in pauses}
    for each in pauses[:_NAMED]:
        times = "1 failure" if each.failures == 1 else f"{each.failures} failures in a row"
        at = each.next_try_at.astimezone(UTC).strftime("%H:%M:%S UTC")
        why.sentences.append(
            f"No pilots are sent to {each.computing_element} before {at}, after {times}: {each.reason} "
            "(`spinor pilot stats`)."
        )


def _drains(pilot: PilotSeen) -> list[str]:
    return [f"drain: it takes no more jobs ({pilot.drain_reason})"] if pilot.drain_reason else []


def _alive(caller: Caller, pilots: Sequence[PilotCount]) -> str:
    if not pilots:
        return f"No pilot of VO {caller.vo} is alive now; the pilot factory submits them where jobs can run."
    counts = ", ".join(f"{row.pilots} {row.status} on {row.computing_element}" for row in pilots)
    return f"Pilots of VO {caller.vo} that are alive: {counts}."


# --------------------------------------------------------------------------------------------------------------- limits


async def _limits(tx: Tx, question: _Question, why: Why, able: Sequence[ElementVerdict]) -> None:
    """The limits that have no room for it on some element that could run it."""
    job = question.job
    owner = Owner(job.vo, job.group, job.owner)
    places = [(verdict.site, verdict.computing_element) for verdict in able] or [("", "")]
    found = dict.fromkeys(
        (key, limit.name)
        for site, ce in places
        for limit, key in keys_of(question.work.limits, owner, question.wants, site, ce)
    )
    by_name = {limit.name: limit for limit in question.work.limits}
    binding = []
    for key, name in list(found)[:50]:
        limit = by_name[name]
        values = dict(part.split("=", 1) for part in key.values.split(",") if part)
        running = await store.count_under_limit(tx, values)
        bucket, wait_s = None, 0.0
        if limit.burst is not None:
            state = await store.find_limit_state(tx, key)
            kept = Bucket(state.tokens, state.refilled_at) if state and state.tokens is not None else None
            bucket = refilled(limit.burst, kept, state.at if state else 0.0)
            wait_s = next_token_s(limit.burst, bucket)
        if room(limit, running, bucket) > 0:
            continue
        about = f" of {key.values}" if key.values else ""
        if limit.running is not None and running >= limit.running:
            why_not = f"{limit.running:,} jobs{about} may run at once, and {running:,} do: it waits until one has ended"
        else:
            why_not = f"too many jobs{about} have started of late: the next one may in {wait_s:,.0f} s"
        binding.append({"limit": name, "about": values, "running": running, "most": limit.running, "next_s": wait_s})
        if len(binding) <= _NAMED:
            why.sentences.append(f"Limit {name} binds: {why_not}.")
    if found:
        why.facts["limits"] = sorted({name for _, name in found})
        why.facts["limits_that_bind"] = binding
