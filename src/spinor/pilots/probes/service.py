"""The verbs of probes."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from spinor.access import Caller, Scope
from spinor.catalog import service as catalog
from spinor.catalog.models import RemoveRequest
from spinor.db import Database, Tx
from spinor.errors import BadInput, NotFound, SpinorError
from spinor.identity import service as identity
from spinor.jobs import service as jobs
from spinor.jobs.models import Assignment, CommandJobs, JobSpec, JobStatus, Offer, OutputData, Retries, Slot
from spinor.jobs.service import Matcher
from spinor.pilots import store as pilots_store
from spinor.pilots.models import ElementState, Ending, PilotStatus, Purpose
from spinor.pilots.probes import rules, store
from spinor.pilots.probes.models import JobFacts, Look, Probe, ProbeRow, StartProbes, Step
from spinor.pilots.service.factory import Order, end_pilots, new_pilots
from spinor.resources import service as resources
from spinor.resources.models import ComputingElement
from spinor.resources.status import service as statuses
from spinor.resources.status.models import ElementKind
from spinor.resources.status.rules import SERVICE
from spinor.signals import notify

CHORE = "pilots.advance_probes"
TAG = "spinor-probe-"  # With the probe's number: what its job asks for, and only its pilot has.
AUTOMATIC_TIMEOUT_S = 3600
AGAIN_AFTER_S = 2 * 3600.0  # A probe whose end nobody noted does not keep the next one away for ever.
_IDLE_S = 5.0

_SCRIPT = """\
echo "probe $1 on $(hostname) at $(date -u +%Y-%m-%dT%H:%M:%SZ)" | tee probe.txt
echo "working directory $(pwd), user $(id)"
df -Pk . | tail -1
dd if=/dev/zero of=fill bs=1048576 count=8 2>/dev/null && rm fill && echo "8 MiB were written and removed"
"""


class UnknownProbe(NotFound):
    """There is no such probe in your VO."""

    code = "unknown-probe"


def topic(probe_id: int) -> str:
    return f"probe:{probe_id}"


async def start_probes(tx: Tx, caller: Caller, asked: StartProbes) -> list[Probe]:
    """Begin to probe computing elements; the caller must look after their site. A worker does the rest."""
    elements = {element.name: element for element in await resources.computing_elements(tx)}
    if asked.site:
        await statuses.require_administrator(tx, caller, ElementKind.SITE, asked.site)
    names = asked.computing_elements or [each.name for each in elements.values() if each.site == asked.site]
    if not names:
        raise BadInput("Name a site that has computing elements, or computing elements.", field="computing_elements")
    for name in names:
        await statuses.require_administrator(tx, caller, ElementKind.CE, name)
        if asked.site and elements[name].site != asked.site:
            raise BadInput(f"{name} is at site {elements[name].site}, not {asked.site}.", field="computing_elements")
        if caller.vo_id not in elements[name].vo_ids:
            raise BadInput(f"{name} is not for VO {caller.vo}: its pilots cannot be yours.", field="computing_elements")
    if asked.se:
        caller.require(Scope.FILES_WRITE)
        await resources.storage_element(tx, caller, asked.se)
    may_submit = caller.may(Scope.JOBS_SUBMIT)
    columns = {
        "vo_id": caller.vo_id,
        "actor": caller.user,
        "owner_id": caller.user_id if may_submit else None,
        "group_id": caller.group_id if may_submit else None,
        "decides_kind": None,
        "decides_name": None,
        "se": asked.se,
        "timeout_s": asked.timeout_s,
    }
    probe_ids = await store.insert_probes(tx, [elements[name].ce_id for name in names], columns)
    return [await probe(tx, caller, probe_id) for probe_id in probe_ids]


async def probe(tx: Tx, caller: Caller, probe_id: int) -> Probe:
    """One probe of the caller's VO."""
    found = await store.find_probe(tx, caller.vo_id, probe_id)
    if found is None:
        raise UnknownProbe(f"There is no probe {probe_id} in VO {caller.vo!r}.", probe_id=probe_id)
    return found


async def start_due_probes(tx: Tx) -> None:
    """Begin those that sites and elements wait for."""
    for due in await statuses.due_probes(tx, AGAIN_AFTER_S):
        if not await store.find_decided(tx, due.kind.value, due.name):
            await _start_by_itself(tx, due.ce_id, due.vo_id, due.kind, due.name)


async def start_routine_probes(tx: Tx) -> list[str]:
    """Begin those of elements in use that nothing shows to work; the names of the elements."""
    policy = await resources.fitness_policy(tx)
    idle = await store.list_idle_elements(tx, policy.probe_every_s, SERVICE) if policy.probe_every_s else []
    return [each.name for each in idle if await _start_by_itself(tx, each.ce_id, each.vo_id, ElementKind.CE, each.name)]


async def _start_by_itself(tx: Tx, ce_id: int, vo_id: int, kind: ElementKind, name: str) -> bool:
    """Whether it was begun: an element has one at a time. Its job belongs to the VO's account for that."""
    owner_id, group_id = await identity.probe_member(tx, vo_id)
    columns = {
        "vo_id": vo_id,
        "actor": SERVICE,
        "owner_id": owner_id,
        "group_id": group_id,
        "decides_kind": kind.value,
        "decides_name": name,
        "se": "",
        "timeout_s": AUTOMATIC_TIMEOUT_S,
    }
    return bool(await store.insert_probes(tx, [ce_id], columns))


async def open_probes(tx: Tx) -> list[ProbeRow]:
    return await store.list_open(tx)


async def begin(tx: Tx, row: ProbeRow) -> bool:
    """Whether this worker, and no other one, is to carry out the first steps."""
    return await store.begin(tx, row.probe_id)


async def record_intent(tx: Tx, row: ProbeRow, element: ComputingElement, prelude: Sequence[Step]) -> Order:
    """Record the pilot and the job of a probe, before the element hears of the pilot."""
    made = await new_pilots(tx, [(row.vo_id, row.ce_id)], Purpose.PROBE)
    (pilot,) = made[row.ce_id]
    tag = f"{TAG}{row.probe_id}"
    job_id = await _submit_job(tx, row, tag) if row.owner_id is not None else None
    await store.set_pilot(tx, row.probe_id, pilot.pilot_id, job_id, prelude)
    return Order(element=element, pilots=[pilot], tags=[tag], idle_s=_IDLE_S)


async def note_prelude(tx: Tx, row: ProbeRow, prelude: Sequence[Step]) -> None:
    await store.set_prelude(tx, row.probe_id, prelude)


async def _submit_job(tx: Tx, row: ProbeRow, tag: str) -> int:
    owner = await _owner(tx, row)
    output = []
    if row.se:
        lfn = f"/{owner.vo}/user/{owner.user[0]}/{owner.user}/probes/probe-{row.probe_id}.txt"
        output = [OutputData(path="probe.txt", lfn=lfn, se=row.se)]
    spec = JobSpec(
        executable="/bin/sh",
        arguments=["-c", _SCRIPT, "probe", row.probe_id],
        name=f"probe of {row.ce}",
        job_type="probe",
        memory_bytes=1_000_000,
        disk_bytes=20_000_000,
        wall_s=300,
        computing_elements=[row.ce],
        tags=[tag],
        output_data=output,
        retries=Retries(site=0, data=0, payload=0, memory=0, time=0),
    )
    submitted = await jobs.submit_jobs(tx, owner, jobs.Elements(), [spec])
    return submitted.arrays[0].ids[0]


async def _owner(tx: Tx, row: ProbeRow) -> Caller:
    """Whose job a probe runs. The service's own account has no scopes, and gets what its jobs need here alone."""
    assert row.owner_id is not None
    assert row.group_id is not None
    owner = await identity.caller_of_member(tx, row.vo_id, row.owner_id, row.group_id)
    needed = {Scope.JOBS_READ.value, Scope.JOBS_SUBMIT.value} if row.actor == SERVICE else set()
    return msgspec.structs.replace(owner, scopes=owner.scopes | needed)


async def match_probe(tx: Tx, matcher: Matcher, caller: Caller, offer: Offer) -> list[Assignment]:
    """The job of a probe for its pilot, once. Other pilots that call themselves probes get nothing."""
    assert caller.pilot_id is not None
    pilot = await pilots_store.find_slot(tx, caller)
    job_id = await store.find_job_of_pilot(tx, caller.vo_id, caller.pilot_id)
    if pilot is None or pilot.ended or job_id is None:
        return []
    slot = Slot(
        pilot_id=pilot.pilot_id, site=pilot.site, site_id=pilot.site_id, ce=pilot.ce, ce_id=pilot.ce_id, offer=offer
    )
    return await jobs.claim_reserved(tx, matcher, caller.vo_id, slot, job_id)


async def note_said(tx: Tx, row: ProbeRow, said: ElementState) -> None:
    await store.set_said(tx, row.probe_id, said, started=rules.has_started(said))


async def look(tx: Tx, row: ProbeRow) -> Look:
    """Everything that is known of a probe now."""
    pilot = await store.find_pilot_facts(tx, row.pilot_id) if row.pilot_id is not None else None
    job = None
    if row.job_id is not None:
        owner = await _owner(tx, row)
        shown = await jobs.show_job(tx, owner, row.job_id)
        history = await jobs.job_history(tx, owner, row.job_id)
        matched = [entry.at for entry in history if entry.status is JobStatus.MATCHED]
        job = JobFacts(
            status=shown.status,
            minor_status=shown.minor_status,
            reason=next((entry.reason for entry in reversed(history) if entry.reason), ""),
            exit_code=shown.exit_code,
            matched_at=matched[0] if matched else None,
            started_at=shown.started_at,
            ended_at=shown.ended_at,
            output_files=shown.output_files,
        )
    return Look(row=row, at=datetime.now(UTC), pilot=pilot, job=job)


async def note_steps(tx: Tx, row: ProbeRow, steps: Sequence[Step]) -> bool:
    """Keep what is known now, and draw the conclusions when it is over; whether it is."""
    succeeded = rules.outcome(list(steps))
    if list(steps) == row.steps and succeeded is None:
        return False
    if not await store.set_steps(tx, row.probe_id, steps, succeeded=succeeded):
        return False
    await notify(tx, topic(row.probe_id))
    if succeeded is None:
        return False
    reason = f"probe {row.probe_id} of {row.ce} succeeded" if succeeded else rules.first_failure(list(steps))
    kind, name = row.decides_kind, row.decides_name
    if kind is None or name is None:
        kind, name = ElementKind.CE.value, row.ce
    await statuses.note_probe(
        tx, ElementKind(kind), name, succeeded=succeeded, reason=reason[:1000], actor=row.actor
    )  # fmt: skip
    return True


async def clean_up(db: Database, row: ProbeRow) -> None:
    """Leave nothing of a probe behind: its pilot, its job, its file."""
    async with db.transaction() as tx:
        facts = await store.find_pilot_facts(tx, row.pilot_id) if row.pilot_id is not None else None
        if facts is not None and facts.ended_at is None and row.pilot_id is not None:
            ending = Ending(pilot_id=row.pilot_id, status=PilotStatus.DELETED, reason="its probe is over")
            await end_pilots(tx, [(facts.status, ending)])
        if row.job_id is None:
            return
        owner = await _owner(tx, row)
        shown = await jobs.show_job(tx, owner, row.job_id)
    # The probe is over, and its owner may have lost a right meanwhile; what stays is named in the log by the chore.
    await jobs.delete_jobs(db, owner, CommandJobs(job_ids=[row.job_id], reason="its probe is over"))
    if shown.output_files:
        async with db.transaction() as tx:
            await catalog.remove_files(tx, owner, RemoveRequest(paths=list(shown.output_files)))


async def give_up(tx: Tx, row: ProbeRow, error: Exception) -> None:
    """End the pilot of a probe that could not be submitted."""
    if row.pilot_id is None:
        return
    words = error.message if isinstance(error, SpinorError) else f"{type(error).__name__}: {error}"
    ending = Ending(pilot_id=row.pilot_id, status=PilotStatus.ABORTED, reason=f"submission failed: {words}"[:1000])
    await end_pilots(tx, [(PilotStatus.NEW, ending)])


def with_pilot(row: ProbeRow, pilot_id: int) -> ProbeRow:
    return msgspec.structs.replace(row, pilot_id=pilot_id)
