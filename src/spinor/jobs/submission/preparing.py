"""From checked descriptions to what is stored of them, and what is worth a warning."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.jobs import rules
from spinor.jobs.description import (
    BadDescription,
    is_pattern,
    is_plain,
    is_plain_name,
    normalised,
    placeholders_in,
    shown,
    size_of,
    text_of,
)
from spinor.jobs.matching.elements import Elements, capacity_of
from spinor.jobs.models import JobSpec, Requirements
from spinor.jobs.submission.inputs import Placed

_replace = msgspec.structs.replace


class Prepared(msgspec.Struct, frozen=True):
    spec: JobSpec
    wants: Requirements
    digest: bytes

    @staticmethod
    def of(spec: JobSpec, wants: Requirements) -> "Prepared":
        return Prepared(spec, wants, rules.digest(wants))


class Plain(NamedTuple):
    """A normalised description."""

    spec: JobSpec
    like: int  # Of those of one call the first that is as this one in everything but its name and arguments.


def normalised_all(specs: Sequence[JobSpec]) -> list[Plain]:
    """Raises BadDescription, which says which description when there are several.

    Most of a thousand descriptions differ from the one before by little, and only that is looked at again.
    """
    plain: list[Plain] = []
    before = b""
    for n, spec in enumerate(specs):
        rest = _rest(spec)
        similar = _as_before(spec, specs[n - 1], plain[-1].spec) if rest and rest == before else None
        plain.append(Plain(similar, plain[-1].like) if similar else Plain(_normalised(spec, n, len(specs)), n))
        before = rest
    return plain


def _rest(spec: JobSpec) -> bytes:
    """All but the name and the arguments, so that 1 and true differ; nothing of what is not looked at in this way."""
    if spec.parameters:
        return b""
    try:
        return msgspec.json.encode(_replace(spec, name="", arguments=[]))
    except UnicodeEncodeError:
        return b""


def _as_before(spec: JobSpec, before: JobSpec, plain: JobSpec) -> JobSpec | None:
    """The description normalised by way of the one before; None when its name or arguments need a closer look."""
    arguments = list(map(text_of, spec.arguments))
    if not is_plain("".join(arguments)):
        return None
    if spec.name == before.name:
        return _replace(plain, arguments=arguments)
    name = spec.name.strip()
    return _replace(plain, name=name, arguments=arguments) if name and is_plain_name(name) else None


def _normalised(spec: JobSpec, n: int, total: int) -> JobSpec:
    try:
        return normalised(spec)
    except BadDescription as error:
        if total == 1:
            raise
        field = f"specs[{n}].{error.facts.get('field', '')}"
        raise BadDescription(f"specs[{n}].{error.message}", **{**error.facts, "field": field, "spec": n}) from None


def prepared(caller: Caller, plain: Sequence[Plain], found: Sequence[Placed]) -> list[Prepared]:
    """The descriptions with what their references were found to be."""
    ready: list[Prepared] = []
    for n, (each, placed) in enumerate(zip(plain, found, strict=True)):
        if each.like < n and found[each.like].brings_as(placed):
            like = ready[each.like]
            ready.append(Prepared(placed.spec, like.wants, like.digest))
        else:
            ready.append(Prepared.of(placed.spec, _wants(placed.spec, rules.requirements(placed.spec, caller), placed)))
    return ready


def _wants(spec: JobSpec, wants: Requirements, found: Placed) -> Requirements:
    if found.required_sites is not None:
        return _replace(wants, sites=found.required_sites)
    if not found.near_sites or not spec.placement_wait_s:
        return wants
    return _replace(wants, near_sites=found.near_sites, near_wait_s=int(spec.placement_wait_s))


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
