"""Who fits where: each constraint of a task queue against what a slot has. `columns` decides the same for many."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from spinor.jobs.models import Gpu, Offer, Requirements

WITHOUT_LIMIT = 1 << 62


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot has, or what an element gives its pilots. None: not known beforehand, and excludes nothing."""

    site: str
    ce: str = ""
    cores: int
    memory_bytes: int
    disk_bytes: int | None = None
    wall_s: int
    tags: frozenset[str] = frozenset()
    gpus: tuple[Gpu, ...] | None = None
    platform: str | None = None
    hs23_per_core: float | None = None
    container_runtimes: tuple[str, ...] | None = None
    whole_node: bool | None = None

    @staticmethod
    def of(offer: Offer, site: str, ce: str = "") -> "Capacity":
        return Capacity(
            site=site,
            ce=ce,
            cores=offer.cores,
            memory_bytes=offer.memory_bytes,
            disk_bytes=offer.disk_bytes,
            wall_s=offer.wall_s,
            tags=frozenset(offer.tags),
            gpus=tuple(offer.gpus),
            platform=offer.platform,
            hs23_per_core=offer.hs23_per_core,
            container_runtimes=tuple(offer.container_runtimes),
            whole_node=offer.whole_node,
        )


class Exclusion(msgspec.Struct, frozen=True):
    """A constraint that keeps jobs off a slot, with both values."""

    field: str
    clause: str

    def __str__(self) -> str:
        return f"{self.field}: {self.clause}"


def exclusions(wants: Requirements, has: Capacity, waited_s: float = math.inf) -> list[Exclusion]:
    """Each constraint that keeps these jobs off this slot; empty when they fit.

    `waited_s`: since when they wait, which counts where they would rather run near their input data.
    """
    return [*_about_place(wants, has, waited_s), *_about_size(wants, has), *_about_kind(wants, has)]


def _about_place(wants: Requirements, has: Capacity, waited_s: float) -> Iterable[Exclusion]:
    if wants.sites and has.site not in wants.sites:
        yield Exclusion("sites", f"the job asks for {listed(wants.sites)}, this is {has.site}")
    if has.site in wants.banned_sites:
        yield Exclusion("banned_sites", f"the job may not run at {has.site}")
    if wants.computing_elements and has.ce not in wants.computing_elements:
        yield Exclusion("computing_elements", f"the job asks for {listed(wants.computing_elements)}, this is {has.ce}")
    if wants.near_sites and has.site not in wants.near_sites and waited_s < wants.near_wait_s:
        yield Exclusion(
            "placement",
            f"its input data are at {listed(wants.near_sites)}; others may take it after {wants.near_wait_s} s only",
        )


def _about_size(wants: Requirements, has: Capacity) -> Iterable[Exclusion]:
    if wants.cores > has.cores:
        yield Exclusion("cores", f"the job asks for {wants.cores}, here are {has.cores}")
    if wants.memory_bytes > has.memory_bytes:
        yield Exclusion("memory_bytes", f"the job asks for {wants.memory_bytes:,}, here are {has.memory_bytes:,}")
    if has.disk_bytes is not None and wants.disk_bytes > has.disk_bytes:
        yield Exclusion("disk_bytes", f"the job asks for {wants.disk_bytes:,}, here are {has.disk_bytes:,}")
    if wants.wall_s > has.wall_s:
        yield Exclusion("wall_s", f"the job asks for {wants.wall_s:,} s, here are {has.wall_s:,} s")
    if wants.cpu_work_hs23_s and has.hs23_per_core is not None and wants.cores <= has.cores:
        if not has.hs23_per_core:
            yield Exclusion("cpu_work_hs23_s", "the job asks for a known speed, and this node was not measured")
        elif cores_for(wants.cpu_work_hs23_s, has.wall_s, has.hs23_per_core) > min(most_cores(wants), has.cores):
            able = has.wall_s * has.hs23_per_core * min(most_cores(wants), has.cores)
            yield Exclusion("cpu_work_hs23_s", f"the job asks for {wants.cpu_work_hs23_s:,.0f}, here are {able:,.0f}")


def _about_kind(wants: Requirements, has: Capacity) -> Iterable[Exclusion]:
    absent = sorted(set(wants.tags) - has.tags)
    if absent:
        yield Exclusion("tags", f"{listed(absent, 'and')} not offered here")
    if wants.whole_node and has.whole_node is False:
        yield Exclusion("whole_node", "the job asks for a node of its own, and this slot shares one")
    if wants.platform and has.platform is not None and wants.platform != has.platform:
        yield Exclusion("platform", f"the job asks for {wants.platform}, this is {has.platform or 'not known'}")
    if wants.container and has.container_runtimes == ():
        yield Exclusion("container_image", "nothing here can run a container image")
    if wants.gpus and has.gpus is not None:
        able = sum(1 for gpu in has.gpus if gpu_fits(wants, gpu))
        if able < wants.gpus:
            yield Exclusion(
                "gpus", f"the job asks for {_gpus(wants)}, here are {able} of {len(has.gpus)} that would do"
            )


def gpu_fits(wants: Requirements, gpu: Gpu) -> bool:
    return wants.gpu_model.lower() in gpu.model.lower() and gpu.memory_bytes >= wants.gpu_memory_bytes


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
