"""What only the database can say about descriptions: files, storage elements, sites and sandboxes that are not there.

Each question is asked once for all descriptions and all their jobs.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from spinor.access import Caller
from spinor.catalog import rules as catalog_rules
from spinor.catalog import service as catalog
from spinor.db import Tx
from spinor.errors import NotFound, SpinorError
from spinor.jobs.description import (
    expanded,
    fault,
    has_placeholder,
    nearest,
    placeholders_in,
    shown,
    size_of,
    values_of,
)
from spinor.jobs.errors import UnknownSandbox
from spinor.jobs.models import JobSpec, OutputData
from spinor.jobs.rules import named
from spinor.jobs.sandboxes import store as sandboxes
from spinor.jobs.specs import names_many, places_of
from spinor.jobs.submission.inputs import Placed, in_field, placed, sites_of_elements, stat_inputs, with_query
from spinor.resources import service as resources
from spinor.resources.service import UnknownStorageElement


class UnknownSite(NotFound):
    """There is no such site; see `spinor site list`."""

    code = "unknown-site"


class UnknownComputingElement(NotFound):
    """There is no such computing element; see `spinor ce list`."""

    code = "unknown-ce"


class Named(NamedTuple):
    """What the jobs of all descriptions name, each with the first field that does."""

    inputs: list[dict[str, None]]  # LFNs of each description.
    elements: dict[str, str]
    outputs: dict[str, str]
    directories: dict[str, str]
    metadata: list[tuple[str, str, Any]]  # Field, key, value.


async def check_references(tx: Tx, caller: Caller, specs: Sequence[JobSpec]) -> list[Placed]:
    """Raise an error that names the field for the first thing that is not there, or that the caller may not touch.

    Gives the descriptions with the files that their queries find, and where these bring them.
    """
    places = [f"specs[{n}]." if len(specs) > 1 else "" for n in range(len(specs))]
    _check_deadlines(specs, places, datetime.now(UTC))
    whole = [
        await with_query(tx, caller, spec, place) if spec.input_query else spec
        for spec, place in zip(specs, places, strict=True)
    ]
    names = _named(whole, places)
    await _check_outputs(tx, caller, names)
    await _check_metadata(tx, caller, names.metadata)
    await _check_storage_elements(tx, caller, names.elements)
    await _check_sites(tx, caller, whole, places)
    await _check_computing_elements(tx, caller, whole, places)
    await _check_sandboxes(tx, caller, whole)
    lfns = list(dict.fromkeys(lfn for each in names.inputs for lfn in each))
    files = await stat_inputs(tx, caller, lfns)
    sites = await sites_of_elements(tx, caller) if files else {}
    return [
        placed(spec, list(own), files, sites, place)
        for spec, own, place in zip(whole, names.inputs, places, strict=True)
    ]


def _check_deadlines(specs: Sequence[JobSpec], places: Sequence[str], now: datetime) -> None:
    for spec, place in zip(specs, places, strict=True):
        if spec.deadline is not None and spec.deadline <= now:
            raise fault(f"{place}deadline", f"{spec.deadline.isoformat()} is over; give a time that is to come")


def _named(specs: Sequence[JobSpec], places: Sequence[str]) -> Named:
    names = Named([], {}, {}, {}, [])
    for spec, place in zip(specs, places, strict=True):
        inputs: dict[str, None] = {}
        for member in _members(spec):
            inputs.update(dict.fromkeys(member.input_data))
            for n, output in enumerate(member.output_data):
                _collect_output(output, f"{place}output_data[{n}]", names)
        names.inputs.append(inputs)
    return names


def _members(spec: JobSpec) -> list[JobSpec]:
    """The parts of the jobs' descriptions that name files: as few as differ in what is asked of them."""
    if not spec.input_data and not spec.output_data:
        return []
    part = JobSpec(executable="-", input_data=spec.input_data, output_data=spec.output_data, parameters=spec.parameters)
    size = size_of(spec)
    if not has_placeholder(spec.input_data) and (not spec.output_data or size == 1 or _numbered(spec.output_data)):
        # Two are enough to see that numbered outputs differ, or that a pattern's directory is the same.
        size = min(size, 2)
    return [expanded(part, stand_ins(spec, index)) for index in range(size)]


def _numbered(outputs: Sequence[OutputData]) -> bool:
    """Whether the outputs differ from job to job by number alone, and in nothing else."""
    numbers = {"index", "job_id"}
    for output in outputs:
        folder, _, name = output.lfn.rpartition("/")
        varied = placeholders_in(name)
        if len(varied) > 1 or not set(varied) <= numbers or placeholders_in(folder):
            return False
        texts = [str(value) for value in output.metadata.values()]
        if any(placeholders_in(text) for text in (output.path, *places_of(output), *output.failover, *texts)):
            return False
    return True


def stand_ins(spec: JobSpec, index: int) -> dict[str, Any]:
    """A job's values before it has an id: any text that differs from job to job will do for a check."""
    return {**values_of(spec, index), "index": index, "job_id": index, "array_id": 0}


def _collect_output(output: OutputData, field: str, names: Named) -> None:
    for se, part in _elements_of(output):
        names.elements.setdefault(se, f"{field}.{part}")
    names.metadata.extend((f"{field}.metadata", key, value) for key, value in output.metadata.items())
    many = names_many(output)
    lfn = output.lfn
    if many:
        names.directories.setdefault(lfn.rstrip("/") or "/", f"{field}.lfn")
        if any(mark in output.path for mark in "*?["):
            return  # Its files' names are not known yet.
        lfn = f"{lfn.rstrip('/')}/{output.path.rpartition('/')[2]}"
    if lfn in names.outputs:
        other = names.outputs[lfn]
        where = "for more than one of its jobs" if other == f"{field}.lfn" else f"and so does {other}"
        problem = f"gives {shown(lfn)} {where}; make them differ, for example by {{index}} in it"
        raise fault(f"{field}.lfn", problem)
    names.outputs[lfn] = f"{field}.lfn"


def _elements_of(output: OutputData) -> Iterable[tuple[str, str]]:
    for n, se in enumerate(places_of(output)):
        yield se, f"ses[{n - 1}]" if n else "se"
    for n, se in enumerate(output.failover):
        yield se, f"failover[{n}]"


async def _check_outputs(tx: Tx, caller: Caller, names: Named) -> None:
    """Whether the owner may write there is asked now, since the answer at the job's end would come late."""
    directories: dict[str, str] = {}
    for lfn, field in [*names.outputs.items(), *((f"{path}/-", where) for path, where in names.directories.items())]:
        try:
            directories.setdefault(catalog_rules.split_lfn(lfn, caller.vo)[0], field)
        except SpinorError as error:
            raise in_field(error, field) from None
    if directories:
        try:
            await catalog.permit_new_below(tx, caller, directories)
        except SpinorError as error:
            raise in_field(error, "output_data") from None


async def _check_metadata(tx: Tx, caller: Caller, metadata: Sequence[tuple[str, str, Any]]) -> None:
    if not metadata:
        return
    types = {key.name: key.type for key in await catalog.metadata_keys(tx, caller)}
    for field, key, value in metadata:
        if problem := catalog_rules.key_fault(key):
            raise fault(field, f"{shown(key)} {problem}")
        try:
            catalog_rules.checked_value(key, value, types.get(key))
        except SpinorError as error:
            raise in_field(error, f"{field}.{key}") from None


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


async def _check_sites(tx: Tx, caller: Caller, specs: Sequence[JobSpec], places: Sequence[str]) -> None:
    if not any(spec.sites or spec.banned_sites for spec in specs):
        return
    known = {site.name for site in await resources.sites(tx, caller)}
    for spec, place in zip(specs, places, strict=True):
        for field, words in (("sites", spec.sites), ("banned_sites", spec.banned_sites)):
            for site in words:
                if site not in known:
                    problem = f"{place}{field}: there is no site {shown(site)}; {_hint(site, known)}"
                    raise UnknownSite(problem, field=f"{place}{field}", site=site)


async def _check_computing_elements(tx: Tx, caller: Caller, specs: Sequence[JobSpec], places: Sequence[str]) -> None:
    if not any(spec.computing_elements for spec in specs):
        return
    mine = [each for each in await resources.computing_elements(tx) if caller.vo_id in each.vo_ids]
    known = {each.name for each in mine}
    for spec, place in zip(specs, places, strict=True):
        for name in spec.computing_elements:
            if name not in known:
                field = f"{place}computing_elements"
                problem = f"{field}: VO {caller.vo} has no computing element {shown(name)}; {_hint(name, known)}"
                raise UnknownComputingElement(problem, field=field, ce=name)


def _hint(name: str, known: set[str]) -> str:
    near = nearest(name, known, cutoff=0.8)
    if near:
        return f"did you mean {shown(near)}?"
    return f"there is {named(sorted(known), 10)}." if known else "there is none."


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
