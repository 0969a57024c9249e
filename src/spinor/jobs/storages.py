"""What storage elements that are out of use do to jobs: the pause that follows, and the words for it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from spinor.access import Caller
from spinor.db import Tx
from spinor.errors import Denied, NotFound
from spinor.jobs.models import JobSpec, JobStatus
from spinor.jobs.rows import HeldJob, Retry
from spinor.jobs.rules import ERROR_CLASSES, STORAGE_PAUSE, named
from spinor.jobs.specs import places_of
from spinor.storage import service as storage
from spinor.types import LFN

PAUSE_S, LONGEST_PAUSE_S = 300, 3600  # It grows with the attempts; an element that comes back ends it.
_FILES = 1000  # So many input files are looked up to explain a job.


class Hindrance(msgspec.Struct):
    """What keeps a job's files from being read or written now: sentences, and the same as facts."""

    sentences: list[str]
    facts: dict[str, Any]


def pause_of(job: HeldJob, retried: Sequence[int] | None) -> Retry:
    """The job is tried again after a while. That is no retry of the job's own, and is not counted as one."""
    pause_s = min(LONGEST_PAUSE_S, PAUSE_S * job.attempt)
    return Retry(
        status=JobStatus.CHECKING,
        minor_status=STORAGE_PAUSE,
        task_queue_id=job.task_queue_id,
        retried=list(retried or [0] * len(ERROR_CLASSES)),
        delay_s=pause_s,
        steps=[
            (JobStatus.RESCHEDULED.value, STORAGE_PAUSE, ""),
            (JobStatus.CHECKING.value, STORAGE_PAUSE, f"pauses for {pause_s} s"),
        ],
    )


async def what_hinders(tx: Tx, caller: Caller, spec: JobSpec) -> Hindrance:
    """Storage elements of its files that may not be used now, and whether others are left."""
    found = Hindrance([], {})
    await _inputs(tx, caller, spec, found)
    await _outputs(tx, caller, spec, found)
    return found


async def _inputs(tx: Tx, caller: Caller, spec: JobSpec, found: Hindrance) -> None:
    lfns = [LFN(lfn) for lfn in dict.fromkeys(spec.input_data)][:_FILES]
    try:
        files = await storage.replicas(tx, caller, lfns) if lfns else []
    except (NotFound, Denied) as error:  # Whoever asks may see less than the owner; what is gone is gone for both.
        found.sentences.append(f"Its input data: {error.message}")
        return
    why = sorted({each for file in files for each in file.out_of_use})
    if not why:
        return
    unreadable = [str(file.lfn) for file in files if not file.replicas]
    found.facts["inputs"] = {"out_of_use": why, "unreadable": unreadable}
    words = "; ".join(why)
    if unreadable:
        found.sentences.append(f"No replica can be read of {named(unreadable)}: {words}. It waits until one can.")
    else:
        found.sentences.append(f"Its input data are read from other replicas, because {words}.")


async def _outputs(tx: Tx, caller: Caller, spec: JobSpec, found: Hindrance) -> None:
    names = {se for output in spec.output_data for se in (*places_of(output), *output.failover)}
    refused = await storage.refusals_to_write(tx, caller, names) if names else {}
    if not refused:
        return
    found.facts["outputs"] = {"out_of_use": sorted(refused.values())}
    for output in spec.output_data:
        wanted, spare = places_of(output), output.failover
        if not refused.keys() & set(wanted):
            continue
        left = [se for se in wanted if se not in refused] or [se for se in spare if se not in refused][:1]
        why = "; ".join(refused[se] for se in (*wanted, *([] if left else spare)) if se in refused)
        if left:
            found.sentences.append(f"Its output {output.path} goes to {named(left)}, because {why}.")
        else:
            found.sentences.append(f"Nothing takes its output {output.path}: {why}. It waits until something does.")
