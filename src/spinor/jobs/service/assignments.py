"""From a claimed job to everything that its pilot needs: expanded description, replicas to read, places to write."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import Conflict
from spinor.identity import service as identity
from spinor.jobs import store
from spinor.jobs.description import expanded
from spinor.jobs.models import Assignment, InputFile, InputReplica, JobSpec, OutputPlace, SandboxRef
from spinor.jobs.rows import HeldJob
from spinor.jobs.rules import named
from spinor.storage import service as storage
from spinor.types import LFN, SEName

_decode_spec = msgspec.json.Decoder(JobSpec).decode
_decode_values = msgspec.json.Decoder(dict[str, object]).decode


class NoReplica(Conflict):
    """An input file has no replica that can be read."""

    code = "no-replica"


def spec_of(job: HeldJob) -> JobSpec:
    """The description of one job, with its own values."""
    values = _decode_values(job.parameters) if job.parameters else {}
    built_in = {"index": job.array_index, "job_id": job.job_id, "array_id": job.array_id}
    return expanded(_decode_spec(job.spec), {**values, **built_in})


def suffix_of(job: HeldJob) -> str:
    """What makes the PFN of an attempt's output differ from that of any other attempt."""
    return f";{job.job_id}.{job.attempt}"


async def assignments(tx: Tx, pilot: Caller, claimed: Sequence[HeldJob]) -> list[Assignment]:
    """In the order of the claim. Files and places are asked for as the job's owner, who may see less than the VO."""
    owners = {
        (job.owner_id, job.group_id): await identity.caller_of_member(tx, pilot.vo_id, job.owner_id, job.group_id)
        for job in {(job.owner_id, job.group_id): job for job in claimed}.values()
    }
    specs = {job.job_id: spec_of(job) for job in claimed}
    sandboxes: dict[int, list[SandboxRef]] = defaultdict(list)
    with_sandbox = {job.array_id for job in claimed if specs[job.job_id].input_sandboxes}
    if with_sandbox:
        for row in await store.list_sandboxes_of_arrays(tx, pilot.vo_id, sorted(with_sandbox)):
            ref = SandboxRef(sandbox_id=row.sandbox_id, sha256=row.sha256, size_bytes=row.size_bytes)
            sandboxes[row.array_id].append(ref)
    answer = []
    for job in claimed:
        owner = owners[job.owner_id, job.group_id]
        spec = specs[job.job_id]
        answer.append(
            Assignment(
                job_id=job.job_id,
                attempt=job.attempt,
                array_index=job.array_index,
                vo=owner.vo,
                owner_id=owner.user_id,
                owner=owner.user,
                executable=spec.executable,
                arguments=[str(argument) for argument in spec.arguments],
                environment={name: str(value) for name, value in spec.environment.items()},
                input_sandboxes=_in_order(sandboxes[job.array_id], spec.input_sandboxes),
                input_data=await _input_data(tx, owner, spec),
                output_sandbox=spec.output_sandbox,
                output_data=await _output_places(tx, owner, job, spec),
                cores=spec.cores,
                memory_bytes=int(spec.memory_bytes),
                disk_bytes=int(spec.disk_bytes),
                wall_s=int(spec.wall_s),
                token_scopes=[scope.value for scope in spec.token_scopes],
            )
        )
    return answer


def _in_order(refs: Sequence[SandboxRef], sandbox_ids: Sequence[int]) -> list[SandboxRef]:
    """As the description names them: a later one may overwrite files of an earlier one."""
    by_id = {ref.sandbox_id: ref for ref in refs}
    return [by_id[sandbox_id] for sandbox_id in dict.fromkeys(sandbox_ids)]


async def _input_data(tx: Tx, owner: Caller, spec: JobSpec) -> list[InputFile]:
    if not spec.input_data:
        return []
    lfns = [LFN(lfn) for lfn in dict.fromkeys(spec.input_data)]
    files = [
        InputFile(
            lfn=file.lfn,
            size_bytes=file.size_bytes,
            adler32=file.adler32,
            sha256=file.sha256,
            replicas=[InputReplica(se=replica.se, url=replica.url) for replica in file.replicas],
        )
        for file in await storage.replicas(tx, owner, lfns)
    ]
    unreadable = [file.lfn for file in files if not file.replicas]
    if unreadable:
        raise NoReplica(f"No replica that can be read: {named(unreadable)}.")
    return files


async def _output_places(tx: Tx, owner: Caller, job: HeldJob, spec: JobSpec) -> list[OutputPlace]:
    by_se: dict[str, list[str]] = defaultdict(list)
    for output in spec.output_data:
        by_se[output.se].append(output.lfn)
    places = {
        (place.se, place.lfn): place
        for se, lfns in by_se.items()
        for place in await storage.places(tx, owner, SEName(se), [LFN(lfn) for lfn in lfns], suffix=suffix_of(job))
    }
    return [
        OutputPlace(
            path=output.path,
            lfn=output.lfn,
            se=output.se,
            pfn=places[SEName(output.se), LFN(output.lfn)].pfn,
            url=places[SEName(output.se), LFN(output.lfn)].url,
        )
        for output in spec.output_data
    ]
