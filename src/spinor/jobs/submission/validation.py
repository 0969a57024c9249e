"""What only the database can say about descriptions: files, storage elements, sites and sandboxes that are not there.

Each question is asked once for all descriptions and all their jobs.
"""

from collections.abc import Sequence
from typing import Any

from spinor.access import Caller
from spinor.catalog import rules as catalog_rules
from spinor.catalog import service as catalog
from spinor.db import Tx
from spinor.errors import NotFound, SpinorError
from spinor.jobs.description import expanded, fault, has_placeholder, shown, size_of, values_of
from spinor.jobs.errors import UnknownSandbox
from spinor.jobs.models import JobSpec
from spinor.jobs.rules import named
from spinor.jobs.sandboxes import store as sandboxes
from spinor.resources import service as resources
from spinor.resources.service import UnknownStorageElement
from spinor.types import LFN


class UnknownSite(NotFound):
    """There is no such site; see `spinor site list`."""

    code = "unknown-site"


async def check_references(tx: Tx, caller: Caller, specs: Sequence[JobSpec]) -> None:
    """Raise an error that names the field for the first thing that is not there, or that the caller may not touch."""
    lfns: dict[str, None] = {}
    elements: dict[str, str] = {}  # Storage element -> the field that names it.
    outputs: dict[str, str] = {}  # LFN -> the field that gives it.
    for n, spec in enumerate(specs):
        place = f"specs[{n}]." if len(specs) > 1 else ""
        for member in _members(spec):
            lfns.update(dict.fromkeys(member.input_data))
            _collect_outputs(member, place, elements, outputs)
    await _check_outputs(tx, caller, outputs)
    await _check_storage_elements(tx, caller, elements)
    await _check_sites(tx, caller, specs)
    await _check_sandboxes(tx, caller, specs)
    if lfns:
        try:
            await catalog.stat_files(tx, caller, [LFN(lfn) for lfn in lfns])
        except SpinorError as error:
            raise _in_field(error, "input_data") from None


def _members(spec: JobSpec) -> list[JobSpec]:
    """The parts of the jobs' descriptions that name files: one for all jobs where they do not differ."""
    if not spec.input_data and not spec.output_data:
        return []
    part = JobSpec(executable="-", input_data=spec.input_data, output_data=spec.output_data, parameters=spec.parameters)
    texts = [text for output in spec.output_data for text in (output.lfn, output.se)] + spec.input_data
    # Outputs must differ from job to job, so that each job is looked at as soon as there is one.
    if not has_placeholder(texts) and (not spec.output_data or size_of(spec) == 1):
        return [part]
    return [expanded(part, stand_ins(spec, index)) for index in range(size_of(spec))]


def stand_ins(spec: JobSpec, index: int) -> dict[str, Any]:
    """A job's values before it has an id: any text that differs from job to job will do for a check."""
    return {**values_of(spec, index), "index": index, "job_id": index, "array_id": 0}


def _collect_outputs(member: JobSpec, place: str, elements: dict[str, str], outputs: dict[str, str]) -> None:
    for n, output in enumerate(member.output_data):
        field = f"{place}output_data[{n}]"
        elements.setdefault(output.se, f"{field}.se")
        if output.lfn in outputs:
            other = outputs[output.lfn]
            where = "for more than one of its jobs" if other == f"{field}.lfn" else f"and so does {other}"
            raise fault(
                f"{field}.lfn", f"gives {shown(output.lfn)} {where}; make them differ, for example by {{index}} in it"
            )
        outputs[output.lfn] = f"{field}.lfn"


async def _check_outputs(tx: Tx, caller: Caller, outputs: dict[str, str]) -> None:
    """Whether the owner may write there is asked now, since the answer at the job's end would come late."""
    directories: dict[str, str] = {}
    for lfn, field in outputs.items():
        try:
            directories.setdefault(catalog_rules.split_lfn(lfn, caller.vo)[0], field)
        except SpinorError as error:
            raise _in_field(error, field) from None
    if directories:
        try:
            await catalog.permit_new_below(tx, caller, directories)
        except SpinorError as error:
            raise _in_field(error, "output_data") from None


def _in_field(error: SpinorError, field: str) -> SpinorError:
    return type(error)(f"{field}: {error.message}", **{**error.facts, "field": field})


async def _check_storage_elements(tx: Tx, caller: Caller, elements: dict[str, str]) -> None:
    if not elements:
        return
    known = {element.name: element for element in await resources.storage_elements(tx, caller)}
    for name, field in elements.items():
        if name not in known:
            there = f"there is {named(sorted(known), 10)}" if known else "it has none"
            problem = f"{field}: VO {caller.vo} has no storage element {shown(name)}; {there}."
            raise UnknownStorageElement(problem, field=field, se=name)
        if known[name].read_only:
            raise fault(field, f"the storage element {shown(name)} is read-only; choose another", se=name)


async def _check_sites(tx: Tx, caller: Caller, specs: Sequence[JobSpec]) -> None:
    wanted = {site for spec in specs for site in spec.sites}
    if not wanted:
        return
    known = [site.name for site in await resources.sites(tx, caller)]
    for site in wanted - set(known):
        there = f"there is {named(sorted(known), 10)}" if known else "there is none"
        raise UnknownSite(f"sites: there is no site {shown(site)}; {there}.", field="sites", site=site)


async def _check_sandboxes(tx: Tx, caller: Caller, specs: Sequence[JobSpec]) -> None:
    wanted = {sandbox_id for spec in specs for sandbox_id in spec.input_sandboxes}
    if not wanted:
        return
    found = await sandboxes.find_sandboxes(tx, caller.vo_id, list(wanted))
    missing = wanted - {sandbox.sandbox_id for sandbox in found if sandbox.owner_id == caller.user_id}
    if missing:
        ids = named([str(sandbox_id) for sandbox_id in sorted(missing)])
        raise UnknownSandbox(
            f"input_sandboxes: you have no sandbox {ids}; upload it first (PUT /api/sandboxes).",
            field="input_sandboxes",
        )
