"""From checked descriptions to what is stored of them, and what is worth a warning."""

from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.description import BadDescription, is_pattern, normalised, placeholders_in, shown, size_of
from spinor.jobs.matching.elements import Elements, capacity_of
from spinor.jobs.models import JobSpec, Requirements
from spinor.jobs.submission.inputs import Placed


class Prepared(msgspec.Struct, frozen=True):
    spec: JobSpec
    wants: Requirements
    digest: bytes

    @staticmethod
    def of(spec: JobSpec, wants: Requirements) -> "Prepared":
        return Prepared(spec, wants, rules.digest(wants))


def normalised_all(specs: Sequence[JobSpec]) -> list[JobSpec]:
    """Raises BadDescription, which says which description when there are several."""
    return [_normalised(spec, n, len(specs)) for n, spec in enumerate(specs)]


def _normalised(spec: JobSpec, n: int, total: int) -> JobSpec:
    try:
        return normalised(spec)
    except BadDescription as error:
        if total == 1:
            raise
        field = f"specs[{n}].{error.facts.get('field', '')}"
        raise BadDescription(f"specs[{n}].{error.message}", **{**error.facts, "field": field, "spec": n}) from None


def prepared(caller: Caller, plain: Sequence[JobSpec], found: Sequence[Placed]) -> list[Prepared]:
    """The descriptions with what their references were found to be."""
    return [
        Prepared.of(each.spec, _wants(each.spec, rules.requirements(each.spec, caller), each))
        for _, each in zip(plain, found, strict=True)
    ]


def _wants(spec: JobSpec, wants: Requirements, found: Placed) -> Requirements:
    if found.required_sites is not None:
        return msgspec.structs.replace(wants, sites=found.required_sites)
    if not found.near_sites or not spec.placement_wait_s:
        return wants
    return msgspec.structs.replace(wants, near_sites=found.near_sites, near_wait_s=int(spec.placement_wait_s))


async def warnings_of(tx: Tx, caller: Caller, elements: Elements, ready: Sequence[Prepared]) -> list[str]:
    return [*_collisions(ready), *await _unmet(tx, caller, elements, ready)]


def _collisions(ready: Sequence[Prepared]) -> list[str]:
    """Files of a pattern have names that are not known yet; in one directory, those of two jobs may be the same."""
    return [
        f"output_data[{n}].lfn: all jobs of {each.spec.name!r} leave files of {shown(output.path)} in one directory; "
        "of two with one name only the first is kept. Put {job_id} into it."
        for each in ready
        if size_of(each.spec) > 1
        for n, output in enumerate(each.spec.output_data)
        if is_pattern(output.path) and not placeholders_in(output.lfn)
    ]


async def _unmet(tx: Tx, caller: Caller, elements: Elements, ready: Sequence[Prepared]) -> list[str]:
    """What would keep accepted jobs waiting for ever: no computing element of the VO could run them as it is now."""
    capacities = [(element.name, capacity_of(element)) for element in await elements.of(tx, caller)]
    found: dict[bytes, str] = {}
    for each in ready:
        digest = each.digest
        if digest in found:
            continue
        excluded = [(name, rules.exclusions(each.wants, capacity)) for name, capacity in capacities]
        if any(not reasons for _, reasons in excluded):
            found[digest] = ""
            continue
        why = "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in excluded[:3])
        found[digest] = f"No computing element of VO {caller.vo} can run {each.spec.name!r} now, so it waits. " + (
            f"{why}." if why else "The VO has no computing element."
        )
    return [warning for warning in found.values() if warning]
