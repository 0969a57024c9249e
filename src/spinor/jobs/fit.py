"""Who fits where: each constraint of a task queue against what a slot has. `matching.columns` says the same of many."""

import math
from collections.abc import Iterator, Sequence

import msgspec

from spinor.jobs.models import Gpu, Offer, Requirements, Slot

WITHOUT_LIMIT = 1 << 62


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot has, or what an element gives its pilots. None: not known, and excludes nothing."""

    site: str
    ce: str
    cores: int
    memory_bytes: int
    disk_bytes: int | None
    wall_s: int
    tags: frozenset[str]
    gpus: Sequence[Gpu] | None = None
    platform: str | None = None
    hs23_per_core: float | None = None
    containers: bool | None = None
    whole_node: bool | None = None

    @staticmethod
    def of(slot: Slot, offer: Offer | None = None) -> "Capacity":
        """Of a slot, or of what is left of it."""
        left = offer or slot.offer
        return Capacity(
            site=slot.site,
            ce=slot.ce,
            cores=left.cores,
            memory_bytes=left.memory_bytes,
            disk_bytes=left.disk_bytes,
            wall_s=left.wall_s,
            tags=frozenset(left.tags),
            gpus=left.gpus,
            platform=left.platform or None,
            hs23_per_core=left.hs23_per_core or None,
            containers=bool(left.container_runtimes),
            whole_node=left.whole_node,
        )


def exclusions(wants: Requirements, has: Capacity, waited_s: float = math.inf) -> list[str]:
    """Each constraint that keeps these jobs off this slot, as a clause with both values; empty when they fit.

    `waited_s`: since when they wait, which counts where they would rather run near their input data.
    """
    return [*_about_place(wants, has, waited_s), *_about_size(wants, has), *_about_kind(wants, has)]


def _about_place(wants: Requirements, has: Capacity, waited_s: float) -> Iterator[str]:
    if wants.sites and has.site not in wants.sites:
        yield f"site: the job asks for {listed(wants.sites)}, this is {has.site}"
    if has.site in wants.banned_sites:
        yield f"banned_sites: the job may not run at {has.site}"
    if wants.computing_elements and has.ce not in wants.computing_elements:
        yield f"computing_elements: the job asks for {listed(wants.computing_elements)}, this is {has.ce}"
    if wants.near_sites and has.site not in wants.near_sites and waited_s < wants.near_wait_s:
        near, wait_s = listed(wants.near_sites), wants.near_wait_s
        yield f"placement: its input data are at {near}; other sites may take it after {wait_s:,} s"


def _about_size(wants: Requirements, has: Capacity) -> Iterator[str]:
    if wants.cores > has.cores:
        yield f"cores: the job asks for {wants.cores}, here are {has.cores}"
    if wants.memory_bytes > has.memory_bytes:
        yield f"memory_bytes: the job asks for {wants.memory_bytes:,}, here are {has.memory_bytes:,}"
    if has.disk_bytes is not None and wants.disk_bytes > has.disk_bytes:
        yield f"disk_bytes: the job asks for {wants.disk_bytes:,}, here are {has.disk_bytes:,}"
    if wants.wall_s > has.wall_s:
        yield f"wall_s: the job asks for {wants.wall_s:,} s, here are {has.wall_s:,} s"
    if wants.cpu_work_hs23_s and has.hs23_per_core and wants.cores <= has.cores:
        most = min(most_cores(wants), has.cores)
        if cores_for(wants.cpu_work_hs23_s, has.wall_s, has.hs23_per_core) > most:
            able = has.wall_s * has.hs23_per_core * most
            yield f"cpu_work_hs23_s: the job asks for {wants.cpu_work_hs23_s:,.0f}, here are {able:,.0f}"


def _about_kind(wants: Requirements, has: Capacity) -> Iterator[str]:
    if wants.whole_node and has.whole_node is False:
        yield "whole_node: the job asks for a node of its own, and this slot shares one"
    if wants.platform and has.platform is not None and wants.platform != has.platform:
        yield f"platform: the job asks for {wants.platform}, this is {has.platform}"
    if wants.container and has.containers is False:
        yield "container_image: nothing here can run a container image"
    if wants.gpus and has.gpus is not None:
        able = sum(1 for gpu in has.gpus if gpu_fits(wants, gpu))
        if able < wants.gpus:
            yield f"gpus: the job asks for {_gpus(wants)}, of {len(has.gpus)} here {able} would do"
    absent = sorted(set(wants.tags) - has.tags)
    if absent:
        yield f"tags: {listed(absent, 'and')} not offered here"


def gpu_fits(wants: Requirements, gpu: Gpu) -> bool:
    return wants.gpu_model.casefold() in gpu.model.casefold() and gpu.memory_bytes >= wants.gpu_memory_bytes


def _gpus(wants: Requirements) -> str:
    model = f" {wants.gpu_model}" if wants.gpu_model else ""
    memory = f" with {wants.gpu_memory_bytes:,} bytes" if wants.gpu_memory_bytes else ""
    return f"{wants.gpus}{model}{memory}"


def most_cores(wants: Requirements) -> int:
    """What a job of this queue can use: a whole node, or its `max_cores`."""
    return WITHOUT_LIMIT if wants.whole_node else max(wants.cores, wants.max_cores)


def cores_for(work_hs23_s: float, wall_s: int, hs23_per_core: float) -> int:
    """How many cores do so much work in this time; WITHOUT_LIMIT where none can."""
    per_core = wall_s * hs23_per_core
    return min(WITHOUT_LIMIT, math.ceil(work_hs23_s / per_core)) if per_core > 0 else WITHOUT_LIMIT


def listed(words: Sequence[str], last: str = "or") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
