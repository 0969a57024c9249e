"""A dry run: everything that a submission checks, and nothing stored."""

from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.description import expanded, fault, size_of
from spinor.jobs.description.sets import check_set
from spinor.jobs.errors import UnknownJob
from spinor.jobs.matching.elements import Elements, capacity_of
from spinor.jobs.models import Checked, CheckedArray, CheckedElement, JobSpec, Requirements
from spinor.jobs.submission import store
from spinor.jobs.submission.preparing import Prepared, normalised_all, prepared, warnings_of
from spinor.jobs.submission.validation import check_references, stand_ins
from spinor.resources.models import ComputingElement

_IDENTITY = frozenset({"vo_id", "owner_id", "group_id"})


async def check_jobs(tx: Tx, caller: Caller, elements: Elements, specs: Sequence[JobSpec]) -> Checked:
    """What `submit_jobs` would store for these. Raises what it would raise."""
    plain = normalised_all(specs)
    given = [each.spec for each in plain]
    check_set(given)
    ready = prepared(caller, plain, await check_references(tx, caller, given))
    await _check_upstream(tx, caller, given)
    there = await elements.of(tx, caller)
    return Checked(
        arrays=[_array(each, there) for each in ready],
        warnings=await warnings_of(tx, caller, elements, ready),
    )


def _array(ready: Prepared, there: Sequence[ComputingElement]) -> CheckedArray:
    spec = ready.spec
    return CheckedArray(
        name=spec.name,
        size=size_of(spec),
        description=msgspec.structs.replace(spec, parameters={}),
        parameters=list(spec.parameters),
        first=expanded(spec, stand_ins(spec, 0)),
        requirements=_shown(ready.wants),
        elements=[
            CheckedElement(
                computing_element=element.name,
                site=element.site,
                excluded_by=rules.exclusions(ready.wants, capacity_of(element)),
            )
            for element in there
        ],
    )


def _shown(wants: Requirements) -> dict[str, object]:
    found: dict[str, object] = msgspec.to_builtins(wants)
    return {name: value for name, value in found.items() if name not in _IDENTITY}


async def _check_upstream(tx: Tx, caller: Caller, specs: Sequence[JobSpec]) -> None:
    """Jobs and arrays that were submitted before must be there, and of the size that `each` needs."""
    job_ids = [each.job_id for spec in specs for each in spec.after if each.job_id is not None]
    array_ids = [each.array_id for spec in specs for each in spec.after if each.array_id is not None]
    if not job_ids and not array_ids:
        return
    found = {(row.kind, row.id): row for row in await store.find_upstream(tx, caller.vo_id, job_ids, array_ids)}
    for n, spec in enumerate(specs):
        for k, each in enumerate(spec.after):
            if each.name:
                continue
            kind, number = ("job", each.job_id) if each.job_id is not None else ("array", each.array_id)
            field = f"specs[{n}].after[{k}]" if len(specs) > 1 else f"after[{k}]"
            row = found.get((kind, number or 0))
            if row is None:
                raise UnknownJob(f"{field}: there is no {kind} {number} in your VO.", field=field)
            other = row.last - row.first + 1
            if each.each and other != size_of(spec):
                problem = f"needs two arrays of one size; this one has {size_of(spec):,} jobs, the other {other:,}"
                raise fault(f"{field}.each", problem)
