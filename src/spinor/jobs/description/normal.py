"""A description with plain numbers, plain text and one way to say each thing."""

from collections.abc import Iterable
from math import isfinite
from typing import cast

import msgspec

from spinor.jobs.description import checks, places
from spinor.jobs.description.amounts import duration_s, size_bytes, text_of
from spinor.jobs.description.faults import fault
from spinor.jobs.models import JobSpec, Retries

MAX_NAME = 255
_NO_RETRIES_GIVEN = Retries()
_replace = msgspec.structs.replace


def normalised(spec: JobSpec) -> JobSpec:
    """Raises BadDescription for any fault in it. What needs a clock or the database is checked at submission."""
    plain = _replace(
        spec,
        name=spec.name.strip() or spec.executable.rstrip("/").rpartition("/")[2][:MAX_NAME],
        arguments=[text_of(value) for value in spec.arguments],
        environment={name: text_of(value) for name, value in spec.environment.items()},
        input_data=_once(places.lfn_of(lfn) for lfn in spec.input_data),
        input_query=spec.input_query.strip(),
        output_data=[places.output(output, n) for n, output in enumerate(spec.output_data)],
        memory_bytes=size_bytes(spec.memory_bytes, "memory_bytes"),
        disk_bytes=size_bytes(spec.disk_bytes, "disk_bytes"),
        gpu_memory_bytes=size_bytes(spec.gpu_memory_bytes, "gpu_memory_bytes"),
        wall_s=duration_s(spec.wall_s, "wall_s"),
        placement_wait_s=duration_s(spec.placement_wait_s, "placement_wait_s", least=0),
        stop_margin_s=duration_s(spec.stop_margin_s, "stop_margin_s", least=0),
        stop_signal=checks.signal(spec.stop_signal),
        retries=_retries(spec.retries),
        site="",
        sites=_once([*([spec.site] if spec.site else []), *spec.sites]),
        banned_sites=_once(spec.banned_sites),
        computing_elements=_once(spec.computing_elements),
        tags=_once(spec.tags),
        labels=_once(spec.labels),
        token_scopes=list(dict.fromkeys(spec.token_scopes)),
        after=[places.predecessor(after, n) for n, after in enumerate(spec.after)],
        notify=[places.notice(notify, n) for n, notify in enumerate(spec.notify)],
    )
    _check_resources(plain)
    checks.texts(plain)
    checks.parameters(plain)
    checks.placeholders(plain)
    return _fitting_margin(spec, plain)


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def _retries(given: Retries) -> Retries:
    if given == _NO_RETRIES_GIVEN:
        return given
    if not (isfinite(given.memory_growth) and 1 <= given.memory_growth <= 10):
        raise fault("retries.memory_growth", f"is {given.memory_growth}; 1 to 10 are allowed")
    return _replace(given, delay_s=duration_s(given.delay_s, "retries.delay_s", least=0))


def _check_resources(spec: JobSpec) -> None:
    if spec.max_cores is not None and spec.max_cores < spec.cores:
        raise fault("max_cores", f"is {spec.max_cores}, less than cores, {spec.cores}; make it {spec.cores} or more")
    if spec.whole_node and spec.max_cores is not None:
        raise fault("max_cores", "cannot be given with whole_node: such a job has all cores of the node; leave it out")
    if not spec.gpus and (spec.gpu_model or spec.gpu_memory_bytes):
        field = "gpu_model" if spec.gpu_model else "gpu_memory_bytes"
        raise fault(field, "is given, but gpus is 0; say how many, such as `gpus: 1`")
    if spec.cpu_work_hs23_s is not None and not 0 < spec.cpu_work_hs23_s <= 1e15:
        raise fault("cpu_work_hs23_s", f"is {spec.cpu_work_hs23_s}; it must be a number of HS23 seconds above 0")
    if spec.deadline is not None and spec.deadline.tzinfo is None:
        raise fault(
            "deadline", f"{spec.deadline.isoformat()} has no time zone; write {spec.deadline.isoformat()}Z for UTC"
        )


def _fitting_margin(given: JobSpec, plain: JobSpec) -> JobSpec:
    """A short job keeps most of its time, unless its owner wants a margin that leaves none."""
    margin, wall = cast(int, plain.stop_margin_s), cast(int, plain.wall_s)
    if margin < wall:
        return plain
    if given.stop_margin_s != _DEFAULT_MARGIN_S:
        raise fault("stop_margin_s", f"is {margin} s, and wall_s is {wall} s: nothing is left; make it shorter")
    return _replace(plain, stop_margin_s=wall // 2)


_DEFAULT_MARGIN_S = JobSpec(executable="-").stop_margin_s
