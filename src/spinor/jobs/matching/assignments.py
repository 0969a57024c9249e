"""From claimed jobs to everything that their pilots need: expanded description, replicas to read, places to write.

Many are put together at once: a description is decoded once per array, and files and places are asked for once per
owner.
"""

import time
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import Conflict, SpinorError
from spinor.identity import service as identity
from spinor.jobs.attempts import store as attempts
from spinor.jobs.description import expanded
from spinor.jobs.looking import store as looking
from spinor.jobs.matching import store
from spinor.jobs.matching.rows import ClaimedJob
from spinor.jobs.models import (
    Assignment,
    ErrorClass,
    FinishReport,
    InputFile,
    InputReplica,
    JobSpec,
    JobStatus,
    Output,
    OutputPlace,
    SandboxRef,
)
from spinor.jobs.rows import HeldJob
from spinor.jobs.rules import Verdict, named
from spinor.jobs.sandboxes import store as sandboxes_store
from spinor.jobs.specs import decoded, names_many, places_of, spec_of, suffix_of
from spinor.jobs.storages import pause_of
from spinor.storage import service as storage
from spinor.storage.plugin import StorageOutOfUse
from spinor.types import LFN, SEName

_SPECS_KEPT = 16_384
_OWNER_FRESH_S = 10.0
_FILE = "__file__"  # Stands for the name of a file that only the pilot will see.
_ATTEMPT = ";__attempt_of_this_job__"  # Stands for what makes the names of one attempt differ from those of all others.

Files = Mapping[LFN, InputFile]
Places = Mapping[tuple[str, str], OutputPlace]
Owner = tuple[int, int, int]  # VO, user, group.


class NoReplica(Conflict):
    """An input file has no replica that can be read."""

    code = "no-replica"


class _Array(msgspec.Struct, frozen=True):
    """A description that has been decoded."""

    text: str
    spec: JobSpec
    same_for_all: bool  # No placeholder in it, unless of a parameter.


class _Job(msgspec.Struct, frozen=True):
    held: HeldJob
    owner: Caller
    spec: JobSpec


class Assigner:
    """Remembers the descriptions and owners of the last jobs."""

    def __init__(self) -> None:
        self._arrays: OrderedDict[int, _Array] = OrderedDict()
        self._owners: dict[Owner, tuple[float, Caller]] = {}

    async def assignments(self, tx: Tx, claimed: Sequence[ClaimedJob]) -> list[Assignment]:
        """In the order of the claim. A job that cannot be put together fails, and is not in the answer."""
        await self._read_specs(tx, {job.array_id for job in claimed})
        plain: list[ClaimedJob] = []
        others: list[ClaimedJob] = []
        for job in claimed:
            (others if _asks_for_files(self._arrays[job.array_id].spec) else plain).append(job)
        # Only what asks for files can fail, and only that needs more questions to the database.
        given = {each.job_id: each for part in (plain, others) for each in await self._assigned(tx, part)}
        return [given[job.job_id] for job in claimed if job.job_id in given]

    async def _assigned(self, tx: Tx, claimed: Sequence[ClaimedJob]) -> list[Assignment]:
        """Where one of the jobs cannot be put together, that one fails and the rest is given."""
        try:
            jobs = [await self._job(tx, job) for job in claimed]
            if not any(_asks_for_files(job.spec) for job in jobs):
                return [_assignment(job, [], {}, {}) for job in jobs]
            async with tx.transaction():
                return await _with_files(tx, jobs)
        except SpinorError as error:
            if error.retry:
                raise
            if len(claimed) > 1:
                return [each for job in claimed for each in await self._assigned(tx, [job])]
            held = self._held(claimed[0])
            report = FinishReport(attempt=held.attempt, error_class=ErrorClass.DATA)
            minor_status = "inputs or outputs not available"
            verdict = Verdict(status=JobStatus.FAILED, minor_status=minor_status, reason=error.message)
            retry = None
            if isinstance(error, StorageOutOfUse):
                retry = pause_of(held, await looking.find_retried(tx, claimed[0].vo_id, held.job_id))
            await attempts.end_job(tx, claimed[0].vo_id, held, report, verdict, "matcher", retry)
            return []

    async def _job(self, tx: Tx, job: ClaimedJob) -> _Job:
        array, held = self._arrays[job.array_id], self._held(job)
        same = array.same_for_all and job.parameters is None
        return _Job(held, await self._owner(tx, job), array.spec if same else spec_of(held))

    def _held(self, job: ClaimedJob) -> HeldJob:
        return HeldJob(
            job_id=job.job_id,
            array_id=job.array_id,
            array_index=job.array_index,
            owner_id=job.owner_id,
            group_id=job.group_id,
            attempt=job.attempt,
            parameters=job.parameters,
            spec=self._arrays[job.array_id].text,
            task_queue_id=job.task_queue_id,
            cores=job.cores,
        )

    async def _read_specs(self, tx: Tx, array_ids: set[int]) -> None:
        unknown = []
        for array_id in sorted(array_ids):
            if array_id in self._arrays:
                self._arrays.move_to_end(array_id)
            else:
                unknown.append(array_id)
        if not unknown:
            return
        for array_id, text in (await store.list_specs(tx, unknown)).items():
            spec = decoded(text)
            probed = expanded(spec, {"index": -1, "job_id": -1, "array_id": -1})
            same = probed == msgspec.structs.replace(spec, parameters={})
            self._arrays[array_id] = _Array(text, spec, same)
        while len(self._arrays) > max(_SPECS_KEPT, len(array_ids)):
            self._arrays.popitem(last=False)

    async def _owner(self, tx: Tx, job: ClaimedJob) -> Caller:
        """Who owns a job, as read a moment ago."""
        key = (job.vo_id, job.owner_id, job.group_id)
        read_at, owner = self._owners.get(key, (float("-inf"), None))
        if owner is None or time.monotonic() - read_at > _OWNER_FRESH_S:
            owner = await identity.caller_of_member(tx, *key)
            self._owners[key] = time.monotonic(), owner
        return owner


def _asks_for_files(spec: JobSpec) -> bool:
    return bool(spec.input_data or spec.output_data or spec.input_sandboxes)


async def _with_files(tx: Tx, jobs: Sequence[_Job]) -> list[Assignment]:
    """Files and places are asked for as the jobs' owners, who may see less than the VO."""
    sandboxes: dict[int, list[SandboxRef]] = defaultdict(list)
    by_vo: dict[int, set[int]] = defaultdict(set)
    by_owner: dict[tuple[int, int, int], list[_Job]] = defaultdict(list)
    for job in jobs:
        if job.spec.input_sandboxes:
            by_vo[job.owner.vo_id].add(job.held.array_id)
        by_owner[job.owner.vo_id, job.owner.user_id, job.owner.group_id].append(job)
    for vo_id, array_ids in by_vo.items():
        for row in await sandboxes_store.list_sandboxes_of_arrays(tx, vo_id, sorted(array_ids)):
            ref = SandboxRef(sandbox_id=row.sandbox_id, sha256=row.sha256, size_bytes=row.size_bytes)
            sandboxes[row.array_id].append(ref)
    given = []
    for of_owner in by_owner.values():
        files, places = await _files(tx, of_owner), await _places(tx, of_owner)
        given += [_assignment(job, sandboxes[job.held.array_id], files, places) for job in of_owner]
    return given


async def _files(tx: Tx, jobs: Sequence[_Job]) -> dict[LFN, InputFile]:
    lfns = list(dict.fromkeys(LFN(lfn) for job in jobs for lfn in job.spec.input_data))
    if not lfns:
        return {}
    located = await storage.replicas(tx, jobs[0].owner, lfns)
    files = {
        LFN(file.lfn): InputFile(
            lfn=file.lfn,
            size_bytes=file.size_bytes,
            adler32=file.adler32,
            sha256=file.sha256,
            replicas=[InputReplica(se=replica.se, url=replica.url) for replica in file.replicas],
        )
        for file in located
    }
    unreadable = [file.lfn for file in files.values() if not file.replicas]
    if unreadable:
        problem = f"No replica that can be read: {named(unreadable)}"
        why = sorted({why for file in located if not file.replicas for why in file.out_of_use})
        if why:
            raise StorageOutOfUse(f"{problem}; {'; '.join(why)}.")
        raise NoReplica(f"{problem}.")
    return files


def _lfns(spec: JobSpec) -> list[str]:
    """Of its outputs; where one stands for many, with a mark for the file's name."""
    return [f"{output.lfn.rstrip('/')}/{_FILE}" if names_many(output) else output.lfn for output in spec.output_data]


async def _places(tx: Tx, jobs: Sequence[_Job]) -> dict[tuple[str, str], OutputPlace]:
    """By storage element and LFN, with marks in them. What may not be written to now is left out."""
    outputs = [pair for job in jobs for pair in zip(job.spec.output_data, _lfns(job.spec), strict=True)]
    named_by = {se for output, _ in outputs for se in (*places_of(output), *output.failover)}
    refused = await storage.refusals_to_write(tx, jobs[0].owner, named_by) if named_by else {}
    by_se: dict[str, dict[str, None]] = defaultdict(dict)
    for output, lfn in outputs:
        ses = [*places_of(output), *output.failover]
        if refused.keys() >= set(ses):
            raise StorageOutOfUse(f"Nothing takes {output.path!r} as {lfn}: {'; '.join(refused[se] for se in ses)}.")
        for se in ses:
            if se not in refused:
                by_se[se][lfn] = None
    return {
        (str(place.se), str(place.lfn)): OutputPlace(se=place.se, pfn=place.pfn, url=place.url)
        for se, wanted in by_se.items()
        for place in await storage.places(tx, jobs[0].owner, SEName(se), [LFN(lfn) for lfn in wanted], suffix=_ATTEMPT)
    }


def _outputs(job: _Job, places: Places) -> list[Output]:
    marks = ((_FILE, "{file}"), (_ATTEMPT[1:], suffix_of(job.held)[1:]))

    def placed(se: str, lfn: str) -> OutputPlace:
        place = places[se, lfn]
        pfn, url = place.pfn, place.url
        for mark, text in marks:
            pfn, url = pfn.replace(mark, text), url.replace(mark, text)
        return OutputPlace(se=place.se, pfn=pfn, url=url)

    found = []
    for output, lfn in zip(job.spec.output_data, _lfns(job.spec), strict=True):
        wanted = [placed(se, lfn) for se in places_of(output) if (se, lfn) in places]
        spare = [placed(se, lfn) for se in output.failover if (se, lfn) in places]
        if not wanted:  # None of them may be written to now: the first other one stands in.
            wanted, spare = spare[:1], spare[1:]
        found.append(
            Output(
                path=output.path,
                lfn=lfn.replace(_FILE, "{file}"),
                places=wanted,
                failover=spare,
                required=output.required,
            )
        )
    return found


def _in_order(refs: Sequence[SandboxRef], sandbox_ids: Sequence[int]) -> list[SandboxRef]:
    """As the description names them: a later one may overwrite files of an earlier one."""
    by_id = {ref.sandbox_id: ref for ref in refs}
    return [by_id[sandbox_id] for sandbox_id in dict.fromkeys(sandbox_ids)]


def _assignment(job: _Job, sandboxes: Sequence[SandboxRef], files: Files, places: Places) -> Assignment:
    held, owner, spec = job.held, job.owner, job.spec
    return Assignment(
        job_id=held.job_id,
        attempt=held.attempt,
        array_index=held.array_index,
        vo=owner.vo,
        owner_id=owner.user_id,
        owner=owner.user,
        executable=spec.executable,
        arguments=[str(argument) for argument in spec.arguments],
        environment={name: str(value) for name, value in spec.environment.items()},
        input_sandboxes=_in_order(sandboxes, spec.input_sandboxes) if spec.input_sandboxes else [],
        input_data=[files[LFN(lfn)] for lfn in dict.fromkeys(spec.input_data)] if spec.input_data else [],
        output_sandbox=spec.output_sandbox,
        output_data=_outputs(job, places) if spec.output_data else [],
        cores=held.cores,
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
