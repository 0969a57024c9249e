"""Submission: one description becomes one array and its jobs, waiting in a task queue."""

from collections.abc import Awaitable, Callable, Sequence
from itertools import repeat
from operator import attrgetter

import msgspec

from spinor.access import Caller
from spinor.db import Database, Tx
from spinor.errors import Conflict
from spinor.jobs import rules
from spinor.jobs.description import MAX_DESCRIPTION_BYTES, fault, size_of
from spinor.jobs.description.sets import check_set
from spinor.jobs.errors import SubmittedTwice, UnknownJob
from spinor.jobs.matching.elements import Elements
from spinor.jobs.models import IdRange, JobSpec, JobStatus, Submitted, SubmittedArray
from spinor.jobs.rows import Ids, NewArray, UpstreamOf
from spinor.jobs.submission import store
from spinor.jobs.submission.inputs import Placed
from spinor.jobs.submission.intake import Intake
from spinor.jobs.submission.preparing import Prepared, normalised_all, prepared, warnings_of
from spinor.jobs.submission.validation import check_references

_encode = msgspec.json.Encoder().encode
_SMALL = 100  # Jobs; more of them are worth a statement of their own.


class KeyReused(Conflict):
    """This Idempotency-Key was used for another submission; take a new key for a new submission."""

    code = "key-reused"


Insert = Callable[[Tx, Caller, Sequence[NewArray]], Awaitable[list[Ids]]]


async def submit_jobs(
    tx: Tx,
    caller: Caller,
    elements: Elements,
    specs: Sequence[JobSpec],
    key: str | None = None,
    insert: Insert = store.insert_arrays,
) -> Submitted:
    """Store all jobs of all descriptions, or none. `insert` is the intake's for one that is `linked` to nothing.

    The same `key` of the same owner gives the answer of the first call again, and submits nothing.
    """
    described = normalised_all(specs)
    plain = [each.spec for each in described]
    check_set(plain)
    if key is not None:
        asked = [Prepared.of(spec, rules.requirements(spec, caller)) for spec in plain]
        earlier = await _earlier(tx, caller, [_new_array(caller, each, n, key) for n, each in enumerate(asked)])
        if earlier:
            return earlier
    ready = prepared(caller, described, await check_references(tx, caller, plain))
    arrays = [_new_array(caller, each, n, key) for n, each in enumerate(ready)]
    small = sum(array.size for array in arrays) <= _SMALL
    ids = await (insert if small else store.insert_arrays)(tx, caller, arrays)
    if not ids:
        await store.insert_task_queues(tx, caller.vo_id, [each.wants for each in ready])
        ids = await store.insert_arrays(tx, caller, arrays)
    if not ids:
        # Somebody with the same key was faster, between our look and our insert.
        return await _earlier(tx, caller, arrays) or _refuse()
    await _link(tx, caller, plain, ids)
    return Submitted(
        arrays=[
            _answer(row.array_id, array.name, row.first, array.size) for row, array in zip(ids, arrays, strict=True)
        ],
        warnings=await warnings_of(tx, caller, elements, ready),
    )


async def submit_alone(db: Database, intake: Intake, caller: Caller, elements: Elements, spec: JobSpec) -> Submitted:
    """What `submit_jobs` does, for a description that `stands_alone`: no connection is held while it is stored."""
    plain = normalised_all([spec])
    (ready,) = prepared(caller, plain, [Placed(spec=plain[0].spec)])
    array = _new_array(caller, ready, 0, None)
    ids = await intake.store(caller, array)
    if ids is None:
        async with db.statements() as tx:
            await store.insert_task_queues(tx, caller.vo_id, [ready.wants])
            (ids,) = await store.insert_arrays(tx, caller, [array])
    warnings: list[str] = []
    if not intake.is_suited(ready.digest):
        async with db.statements() as tx:
            warnings = await warnings_of(tx, caller, elements, [ready])
        if not warnings:
            intake.note_suited(ready.digest)
    return Submitted(arrays=[_answer(ids.array_id, array.name, ids.first, 1)], warnings=warnings)


_REFERRING = attrgetter(
    "parameters", "input_data", "input_query", "input_sandboxes", "output_data", "site", "sites", "banned_sites",
    "computing_elements", "after", "notify", "deadline",
)  # fmt: skip


def stands_alone(specs: Sequence[JobSpec]) -> bool:
    """Whether this is one job that names nothing which the clock or the database would have to be asked about."""
    return len(specs) == 1 and not any(_REFERRING(specs[0]))


def _answer(array_id: int, name: str, first: int, size: int) -> SubmittedArray:
    return SubmittedArray(array_id=array_id, name=name, size=size, job_ids=[IdRange(first, first + size - 1)])


def _refuse() -> Submitted:
    raise SubmittedTwice()


async def _link(tx: Tx, caller: Caller, specs: Sequence[JobSpec], ids: Sequence[Ids]) -> None:
    """Store what the new arrays wait for, and whom to tell of their end."""
    after = [(n, each) for n, spec in enumerate(specs) for each in spec.after]
    if after:
        found = {
            (row.kind, row.id): (row.first, row.last)
            for row in await store.find_upstream(
                tx,
                caller.vo_id,
                [each.job_id for _, each in after if each.job_id is not None],
                [each.array_id for _, each in after if each.array_id is not None],
            )
        }
        new = {("name", spec.name): (row.first, row.last) for spec, row in zip(specs, ids, strict=True)}
        links = []
        for n, each in after:
            kind, what = ("job", each.job_id) if each.job_id is not None else ("array", each.array_id)
            jobs = new.get(("name", each.name)) if each.name else found.get((kind, what or 0))
            if jobs is None:
                raise UnknownJob(f"after: there is no {kind} {what} in your VO.", field="after")
            if each.each and jobs[1] - jobs[0] != ids[n].last - ids[n].first:
                size, own = jobs[1] - jobs[0] + 1, ids[n].last - ids[n].first + 1
                raise fault("after", f"`each` needs arrays of one size; this one has {own:,} jobs, the other {size:,}")
            links.append(
                UpstreamOf(
                    array_id=ids[n].array_id, first=jobs[0], last=jobs[1], condition=each.condition, each=each.each
                )
            )
        await store.insert_dependencies(tx, caller.vo_id, links)
    told = [(row.array_id, each) for spec, row in zip(specs, ids, strict=True) for each in spec.notify]
    if told:
        await store.insert_notifications(tx, caller.vo_id, told)


def linked(specs: Sequence[JobSpec]) -> bool:
    """Whether storing these takes more than one statement, and so a transaction."""
    return len(specs) > 1 or any(spec.after or spec.notify for spec in specs)


def _new_array(caller: Caller, ready: Prepared, n: int, key: str | None) -> NewArray:
    spec = ready.spec
    encoded = _encode(msgspec.structs.replace(spec, parameters={}) if spec.parameters else spec)
    if len(encoded) > MAX_DESCRIPTION_BYTES:
        raise fault(
            "arguments",
            f"the description takes {len(encoded):,} bytes, and {MAX_DESCRIPTION_BYTES:,} are the most; "
            "put long lists into a file of the input sandbox",
        )
    status, minor_status = JobStatus.WAITING, ""
    if spec.hold:
        status, minor_status = JobStatus.CHECKING, rules.held_by(caller.user)
    elif spec.after:
        status, minor_status = JobStatus.CHECKING, rules.WAITS_FOR_OTHERS
    return NewArray(
        name=spec.name,
        size=size_of(spec),
        spec=encoded,
        elements=_elements(spec),
        digest=ready.digest,
        priority=spec.priority,
        key=f"{key}/{n}" if key is not None else None,
        sandbox_ids=list(dict.fromkeys(spec.input_sandboxes)),
        job_group=spec.job_group,
        job_type=spec.job_type,
        status=status,
        minor_status=minor_status,
        deadline=spec.deadline,
        retries=rules.allowed_retries(spec.retries),
    )


def _elements(spec: JobSpec) -> list[bytes]:
    """One block after the other: a million rows at once would not fit into the processor's caches."""
    if not spec.parameters:
        return []
    names, columns = list(spec.parameters), list(spec.parameters.values())
    blocks = []
    for start in range(0, size_of(spec), rules.BLOCK):
        rows = zip(*(column[start : start + rules.BLOCK] for column in columns), strict=True)
        blocks.append(_encode(list(map(dict, map(zip, repeat(names), rows)))))
    return blocks


def _comparable(spec: bytes | str) -> dict[str, object]:
    """A stored description as it was given: what its query found then belongs to the answer, not to the question."""
    given: dict[str, object] = msgspec.json.decode(spec)
    if given.get("input_query"):
        given.pop("input_data", None)
    return given


async def _earlier(tx: Tx, caller: Caller, arrays: Sequence[NewArray]) -> Submitted | None:
    """The answer that the first call with these keys had."""
    found = await store.find_arrays_by_key(tx, caller, [array.key for array in arrays if array.key is not None])
    if not found:
        return None
    same = len(found) == len(arrays) and all(
        (old.name, old.size) == (new.name, new.size) and _comparable(old.spec) == _comparable(new.spec)
        for old, new in zip(found, arrays, strict=True)
    )
    if not same:
        raise KeyReused()
    return Submitted(arrays=[_answer(old.array_id, old.name, old.first_job_id, old.size) for old in found])
