"""From a claimed job to everything that its pilot needs: expanded description, replicas to read, places to write."""

from collections import defaultdict
from collections.abc import Sequence

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import Conflict
from spinor.identity import service as identity
from spinor.jobs.models import Assignment, InputFile, InputReplica, JobSpec, Output, OutputPlace, SandboxRef
from spinor.jobs.rows import HeldJob
from spinor.jobs.rules import named
from spinor.jobs.sandboxes import store as sandboxes_store
from spinor.jobs.specs import names_many, places_of, spec_of, suffix_of
from spinor.storage import service as storage
from spinor.types import LFN, SEName


class NoReplica(Conflict):
    """An input file has no replica that can be read."""

    code = "no-replica"


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
        for row in await sandboxes_store.list_sandboxes_of_arrays(tx, pilot.vo_id, sorted(with_sandbox)):
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
                output_data=await _outputs(tx, owner, job, spec),
                cores=job.cores,
                memory_bytes=int(spec.memory_bytes),
                disk_bytes=int(spec.disk_bytes),
                wall_s=int(spec.wall_s),
                gpus=spec.gpus,
                gpu_model=spec.gpu_model,
                gpu_memory_bytes=int(spec.gpu_memory_bytes),
                container_image=spec.container_image,
                input_policy=spec.input_policy,
                stdout=spec.stdout,
                stderr=spec.stderr,
                stop_signal=spec.stop_signal,
                stop_margin_s=int(spec.stop_margin_s),
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


_FILE = "__file__"  # Stands for the name of a file that only the pilot will see.


async def _outputs(tx: Tx, owner: Caller, job: HeldJob, spec: JobSpec) -> list[Output]:
    by_se: dict[str, dict[str, None]] = defaultdict(dict)
    lfns = [f"{output.lfn.rstrip('/')}/{_FILE}" if names_many(output) else output.lfn for output in spec.output_data]
    for output, lfn in zip(spec.output_data, lfns, strict=True):
        for se in (*places_of(output), *output.failover):
            by_se[se][lfn] = None
    places = {
        (str(place.se), str(place.lfn)): OutputPlace(
            se=place.se, pfn=place.pfn.replace(_FILE, "{file}"), url=place.url.replace(_FILE, "{file}")
        )
        for se, wanted in by_se.items()
        for place in await storage.places(tx, owner, SEName(se), [LFN(lfn) for lfn in wanted], suffix=suffix_of(job))
    }
    return [
        Output(
            path=output.path,
            lfn=lfn.replace(_FILE, "{file}"),
            places=[places[se, lfn] for se in places_of(output)],
            failover=[places[se, lfn] for se in output.failover],
            required=output.required,
        )
        for output, lfn in zip(spec.output_data, lfns, strict=True)
    ]
