"""Submission: one description becomes one array and its jobs, waiting in a task queue."""

from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import Conflict
from spinor.jobs import rules, store
from spinor.jobs.description import MAX_DESCRIPTION_BYTES, BadDescription, fault, normalised, size_of
from spinor.jobs.models import DEFAULT_MAX_RESCHEDULES, IdRange, JobSpec, Submitted, SubmittedArray
from spinor.jobs.rows import Ids, NewArray
from spinor.jobs.service.elements import Elements, capacity_of
from spinor.jobs.service.validation import check_references

_encode = msgspec.json.Encoder().encode


class KeyReused(Conflict):
    """This Idempotency-Key was used for another submission; take a new key for a new submission."""

    code = "key-reused"


async def submit_jobs(
    tx: Tx, caller: Caller, elements: Elements, specs: Sequence[JobSpec], key: str | None = None
) -> Submitted:
    """Store all jobs of all descriptions, or none.

    The same `key` of the same owner gives the answer of the first call again, and submits nothing.
    """
    plain = [_normalised(spec, n, len(specs)) for n, spec in enumerate(specs)]
    wanted = [rules.requirements(spec, caller.vo_id, caller.user_id, caller.group_id) for spec in plain]
    arrays = [_new_array(spec, wants, n, key) for n, (spec, wants) in enumerate(zip(plain, wanted, strict=True))]
    if key is not None:
        earlier = await _earlier(tx, caller, arrays)
        if earlier:
            return earlier
    await check_references(tx, caller, plain)
    ids = await store.insert_arrays(tx, caller, arrays)
    if not ids:
        await store.insert_task_queues(tx, caller.vo_id, wanted)
        ids = await store.insert_arrays(tx, caller, arrays)
    if not ids:
        # Somebody with the same key was faster, between our look and our insert.
        return await _earlier(tx, caller, arrays) or _refuse()
    warnings = await _warnings(tx, caller, elements, plain, wanted)
    order = sorted({row.array_id for row in ids})
    return Submitted(
        arrays=[
            SubmittedArray(array_id=array_id, name=array.name, size=array.size, job_ids=_ranges(ids, array_id))
            for array_id, array in zip(order, arrays, strict=True)
        ],
        warnings=warnings,
    )


def _refuse() -> Submitted:
    raise store.SubmittedTwice()


def _normalised(spec: JobSpec, n: int, total: int) -> JobSpec:
    try:
        return normalised(spec)
    except BadDescription as error:
        if total == 1:
            raise
        raise BadDescription(f"specs[{n}].{error.message}", **{**error.facts, "spec": n}) from None


def _new_array(spec: JobSpec, wants: rules.Requirements, n: int, key: str | None) -> NewArray:
    encoded = _encode(msgspec.structs.replace(spec, parameters={}))
    if len(encoded) > MAX_DESCRIPTION_BYTES:
        raise fault(
            "arguments",
            f"the description takes {len(encoded):,} bytes, and {MAX_DESCRIPTION_BYTES:,} are the most; "
            "put long lists into a file of the input sandbox",
        )
    size = size_of(spec)
    names = list(spec.parameters)
    return NewArray(
        name=spec.name,
        size=size,
        spec=_stored(encoded, spec),
        parameters=[
            _encode(dict(zip(names, values, strict=True))).decode()
            for values in zip(*spec.parameters.values(), strict=True)
        ]
        or None,
        digest=wants.digest,
        priority=spec.priority,
        key=f"{key}/{n}" if key is not None else None,
        sandbox_ids=list(dict.fromkeys(spec.input_sandboxes)),
    )


def _stored(encoded: bytes, spec: JobSpec) -> bytes:
    """As stored, the description always tells max_reschedules, which SQL reads; other defaults are left out."""
    if spec.max_reschedules != DEFAULT_MAX_RESCHEDULES:
        return encoded
    return encoded[:-1] + b',"max_reschedules":%d}' % DEFAULT_MAX_RESCHEDULES


def _ranges(ids: Sequence[Ids], array_id: int) -> list[IdRange]:
    return [IdRange(row.first, row.last) for row in ids if row.array_id == array_id]


async def _earlier(tx: Tx, caller: Caller, arrays: Sequence[NewArray]) -> Submitted | None:
    """The answer that the first call with these keys had."""
    found = await store.find_arrays_by_key(tx, caller, [array.key for array in arrays if array.key is not None])
    if not found:
        return None
    same = len(found) == len(arrays) and all(
        (old.name, old.size) == (new.name, new.size) and msgspec.json.decode(old.spec) == msgspec.json.decode(new.spec)
        for old, new in zip(found, arrays, strict=True)
    )
    if not same:
        raise KeyReused()
    ids = await store.list_id_ranges(tx, caller.vo_id, [array.array_id for array in found])
    return Submitted(
        arrays=[
            SubmittedArray(array_id=old.array_id, name=old.name, size=old.size, job_ids=_ranges(ids, old.array_id))
            for old in found
        ]
    )


async def _warnings(
    tx: Tx, caller: Caller, elements: Elements, specs: Sequence[JobSpec], wanted: Sequence[rules.Requirements]
) -> list[str]:
    """What would keep accepted jobs waiting for ever: no computing element of the VO could run them as it is now."""
    capacities = [(element.name, capacity_of(element)) for element in await elements.of(tx, caller)]
    found: dict[bytes, str] = {}
    for spec, wants in zip(specs, wanted, strict=True):
        if wants.digest in found:
            continue
        excluded = [(name, rules.exclusions(wants, capacity)) for name, capacity in capacities]
        if any(not reasons for _, reasons in excluded):
            found[wants.digest] = ""
            continue
        why = "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in excluded[:3])
        found[wants.digest] = f"No computing element of VO {caller.vo} can run {spec.name!r} now, so it waits. " + (
            f"{why}." if why else "The VO has no computing element."
        )
    return [warning for warning in found.values() if warning]
